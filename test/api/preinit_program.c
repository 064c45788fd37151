/* SPDX-License-Identifier: MIT */
/*
 * preinit_program.c: a program that needs the heap before anybody is ready. Helper of life_test.c.
 * Goal: the heap works before every constructor, the library's own included, and inside of calls
 * that libc makes with its locks held. Method: the first use is in .preinit_array, where only the
 * dynamic loader ran before; a library's constructor has used it by then or will.
 *
 * preinit_program [free|atexit|atfork|key]: what the very first use of the heap is; malloc by
 * default.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "entry_points.h"

/* In early_library.c. */
extern int early_library_is_well(void);

static void *first_block;

static void do_nothing(void)
{
}

static void first_use(int argc, char **argv, char **environment)
{
    const char *mode = argc > 1 ? argv[1] : "malloc";
    (void)environment;
    if (strcmp(mode, "free") == 0) {
        ap_free((void *)(uintptr_t)1); /* does not return */
    } else if (strcmp(mode, "atexit") == 0) {
        for (int i = 0; i < 100; i++) { /* libc's table of 32 grows, its lock held */
            (void)atexit(do_nothing);
        }
    } else if (strcmp(mode, "atfork") == 0) {
        for (int i = 0; i < 100; i++) {
            (void)pthread_atfork(do_nothing, do_nothing, do_nothing);
        }
    } else if (strcmp(mode, "key") == 0) {
        pthread_key_t key = 0;
        for (int i = 0; i < 100; i++) {
            (void)pthread_key_create(&key, NULL);
        }
        (void)pthread_setspecific(key, "value"); /* the second level of libc's table */
    }
    first_block = ap_calloc(10, 100);
    fill(first_block, 1000, 1);
    ap_free(ap_realloc(ap_malloc(100000), 1000000));
}
__attribute__((section(".preinit_array"), used)) static void (*const preinit)(int, char **,
                                                                              char **) = first_use;

int main(void)
{
    if (first_block == NULL || !is_filled(first_block, 1000, 1)) {
        return 1;
    }
    ap_free(first_block);
    return early_library_is_well() ? 0 : 2;
}
