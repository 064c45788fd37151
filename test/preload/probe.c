/* SPDX-License-Identifier: MIT */
/*
 * probe: a small program on whatever malloc it finds, for runs under limits and under valgrind.
 *
 *   probe              allocates and frees in a few threads, checks contents, forks; prints a sum
 *   probe limit-as, probe limit-data
 *                      lowers the limit at run time, allocates until refused, frees, goes on
 */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, ROUNDS = 2000, HELD = 64, LIMITED_BLOCK_BYTES = 60000 };

static void fail(const char *what)
{
    printf("failed: %s\n", what);
    exit(1);
}

/* Blocks of all sizes to 100 KB, some resized, each filled with a byte of its own. */
static void *churn(void *argument)
{
    unsigned seed = (unsigned)(uintptr_t)argument;
    unsigned char *held[HELD] = {NULL};
    size_t sizes[HELD] = {0};
    uintptr_t sum = 0;

    for (int i = 0; i < ROUNDS; i++) {
        seed = seed * 1103515245u + 12345u;
        unsigned slot = seed >> 20 & (HELD - 1);
        size_t size = 1u << (seed >> 8 & 15);
        size += size * (seed & 15) / 8;
        if (held[slot] != NULL && (held[slot][0] != slot || held[slot][sizes[slot] - 1] != slot))
            fail("contents");
        if (i % 3 == 0) {
            free(held[slot]);
            held[slot] = calloc(1, size);
            if (held[slot] != NULL && held[slot][size - 1] != 0)
                fail("zeros");
        } else {
            held[slot] = realloc(held[slot], size);
        }
        if (held[slot] == NULL)
            fail("allocation");
        memset(held[slot], (int)slot, size);
        sizes[slot] = size;
        sum += size;
    }
    for (int i = 0; i < HELD; i++)
        free(held[i]);
    return (void *)sum;
}

static uintptr_t churn_in_threads(void)
{
    pthread_t threads[THREADS];
    uintptr_t sum = 0;

    for (uintptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, churn, (void *)(i + 1)) != 0)
            fail("pthread_create");
    for (int i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        sum += (uintptr_t)result;
    }
    return sum;
}

static void plain(void)
{
    printf("threads %zu\n", (size_t)churn_in_threads());
    fflush(stdout);
    pid_t pid = fork();
    int status = 0;
    if (pid == 0)
        _exit(churn_in_threads() != 0 ? 5 : 6);
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        fail("fork");
    printf("child %d\n", WEXITSTATUS(status));
}

/* Allocates under a limit of 200 MiB more than any libc needs for itself. */
static void limited(int resource)
{
    const size_t limit = (size_t)200 << 20, attempts = 2 * limit / LIMITED_BLOCK_BYTES;
    struct rlimit lowered = {limit, limit};
    struct block {
        struct block *next;
    } *blocks = NULL;
    size_t count = 0;

    free(malloc(100));
    if (setrlimit(resource, &lowered) != 0)
        fail("setrlimit");
    for (; count < attempts; count++) {
        struct block *b = malloc(LIMITED_BLOCK_BYTES);
        if (b == NULL)
            break;
        memset(b, 1, LIMITED_BLOCK_BYTES);
        b->next = blocks;
        blocks = b;
    }
    int error = errno;
    void *large = malloc(limit * 2);
    printf("%s, %s, large %s\n", count < attempts ? "refused" : "granted",
           count < attempts ? strerror(error) : "-", large == NULL ? "refused" : "granted");
    /* Half of the limit at least must have been had. */
    if (count * LIMITED_BLOCK_BYTES < limit / 2)
        fail("refused too early");
    while (blocks != NULL) {
        struct block *next = blocks->next;
        free(blocks);
        blocks = next;
    }
    for (size_t i = 0; i < 1000; i++) {
        char *p = malloc(LIMITED_BLOCK_BYTES);
        if (p == NULL)
            fail("no recovery");
        p[0] = 1;
        free(p);
    }
    puts("recovered");
}

int main(int argc, char **argv)
{
    if (argc == 1)
        plain();
    else if (strcmp(argv[1], "limit-as") == 0)
        limited(RLIMIT_AS);
    else if (strcmp(argv[1], "limit-data") == 0)
        limited(RLIMIT_DATA);
    else
        return 2;
    return 0;
}
