/* SPDX-License-Identifier: MIT */
/*
 * early_library.c: a library whose constructor uses the heap and creates a thread. Helper of
 * preinit_program, which checks the result. Its destructor frees what the constructor allocated.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

int early_library_is_well(void);

static char *of_constructor, *of_thread;

static void *body(void *unused)
{
    of_thread = malloc(500000);
    if (of_thread != NULL) {
        memset(of_thread, 't', 500000);
    }
    free(malloc(100));
    return unused;
}

__attribute__((constructor(101))) static void construct(void)
{
    pthread_t thread;
    of_constructor = malloc(1000);
    if (of_constructor != NULL) {
        memset(of_constructor, 'c', 1000);
    }
    if (pthread_create(&thread, NULL, body, NULL) == 0) {
        (void)pthread_join(thread, NULL);
    }
}

__attribute__((destructor(101))) static void destruct(void)
{
    free(of_constructor);
    free(of_thread);
}

int early_library_is_well(void)
{
    return of_constructor != NULL && of_constructor[999] == 'c' && of_thread != NULL &&
           of_thread[499999] == 't';
}
