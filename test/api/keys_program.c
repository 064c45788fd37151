/* SPDX-License-Identifier: MIT */
/*
 * keys_program.c: a program that has taken every thread-specific key before the library could.
 * Goal: without a key, exits of threads go unnoticed, and the heap works all the same: blocks are
 * had, freed by their own thread and by others, and memory does not grow with the number of threads
 * that have ended. Method: all keys are taken in .preinit_array; threads come and go.
 *
 * Ends with status 0 if all is well, else a line on standard error and 1.
 */
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

#include "entry_points.h"
#include "expect.h"

enum { THREADS = 1000, WARM_UP = 100 };
#define MOST_GROWTH ((size_t)4 << 20)

static unsigned keys_taken;

static void take_all_keys(void)
{
    pthread_key_t key;
    while (pthread_key_create(&key, NULL) == 0) {
        keys_taken++;
    }
}
__attribute__((section(".preinit_array"), used)) static void (*const preinit)(void) = take_all_keys;

static void *use_heap(void *from_outside)
{
    ap_free(from_outside);
    for (unsigned which = 0; which < ALLOCATORS; which++) {
        for (size_t size = 10; size < 400000; size *= 6) {
            const struct entry_points *e = &entry_points[which % ENTRY_POINT_SETS];
            void *p = allocate(e, which, size);
            expect(p != NULL, "a thread without a key allocates");
            fill(p, size, which);
            expect(is_filled(p, size, which), "its block is its own");
            e->free(p);
        }
    }
    return ap_malloc(1000);
}

/* One thread, from creation to end. */
static void run_thread(void)
{
    pthread_t thread;
    void *left;
    expect(pthread_create(&thread, NULL, use_heap, ap_malloc(500)) == 0, "a thread starts");
    expect(pthread_join(thread, &left) == 0, "a thread ends");
    ap_free(left);
}

int main(void)
{
    expect(keys_taken > 0 && keys_taken <= PTHREAD_KEYS_MAX, "keys were taken");
    pthread_key_t key;
    expect(pthread_key_create(&key, NULL) != 0, "no key is left");
    for (int i = 0; i < WARM_UP; i++) {
        run_thread();
    }
    size_t before = ap_mallinfo2().arena, live_before = ap_mallinfo2().uordblks;
    for (int i = 0; i < THREADS; i++) {
        run_thread();
    }
    size_t after = ap_mallinfo2().arena, live_after = ap_mallinfo2().uordblks;
    if (after > before + MOST_GROWTH || live_after > live_before + THREADS) {
        fail("%d threads: the heap grew from %zu to %zu bytes, live ones from %zu to %zu", THREADS,
             before, after, live_before, live_after);
    }
    return 0;
}
