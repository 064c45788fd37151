/* SPDX-License-Identifier: MIT */
/* Asks the library whether this program's malloc is the library's, from several threads. */
#include <apmalloc.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BIG_BYTES = 3 << 20, THREADS = 4, ROUNDS = 20000 };

static void require(int condition, const char *what)
{
    if (condition)
        return;
    printf("not so: %s\n", what);
    exit(1);
}

static void *churn(void *argument)
{
    (void)argument;
    for (size_t i = 0; i < ROUNDS; i++) {
        char *p = malloc(i % 3000 + 1);
        require(p != NULL && ap_usable_size(p) >= i % 3000 + 1, "a block is as large as asked for");
        p[i % 3000] = 1;
        if (i % 2 == 0)
            free(p);
        else
            ap_free(p);
    }
    return NULL;
}

int main(void)
{
    size_t before = ap_mallinfo2().uordblks;
    char *big = malloc(BIG_BYTES);
    require(big != NULL, "malloc succeeds");
    memset(big, 1, BIG_BYTES);
    require(ap_mallinfo2().uordblks >= before + BIG_BYTES,
            "a block of malloc counts as the library's");
    require(ap_usable_size(big) >= BIG_BYTES, "the library knows the block");
    big = ap_realloc(big, 2 * BIG_BYTES);
    require(big != NULL && big[BIG_BYTES - 1] == 1, "ap_realloc takes a block of malloc");
    free(big);
    require(ap_mallinfo2().uordblks < before + BIG_BYTES, "free gives it back");

    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        require(pthread_create(&threads[i], NULL, churn, NULL) == 0, "pthread_create");
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("%s\n", ap_version());
    return 0;
}
