/* SPDX-License-Identifier: MIT */
/*
 * exit_program.c: a program that uses the heap to its very end. Helper of life_test.c.
 * Goal: the heap is never torn down: exit handlers, destructors, threads that still run, and frees
 * after the library's own destructors all work. Method: one way out per mode.
 *
 * exit_program exit|quick_exit|thread_exit
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "entry_points.h"

static void *blocks[6];
static pthread_key_t key;

static void use_heap(unsigned seed)
{
    for (unsigned which = 0; which < ALLOCATORS; which++) {
        const struct entry_points *e = &entry_points[which % ENTRY_POINT_SETS];
        size_t size = which * 40000 + 100;
        void *p = allocate(e, which, size);
        if (p == NULL) {
            _exit(10);
        }
        fill(p, size, seed);
        p = e->realloc(p, size * 2);
        if (p == NULL || !is_filled(p, size, seed)) {
            _exit(11);
        }
        e->free(p);
    }
}

static void at_exit(void)
{
    use_heap(1);
    ap_free(blocks[0]);
    (void)printf("from an exit handler\n"); /* stdio's buffer is the heap's */
}

static void quick_exit_handler(void)
{
    use_heap(2);
    ap_free(blocks[1]);
}

/* Low priorities run last; these run around the destructors of all libraries. */
__attribute__((destructor(101))) static void last_destructor(void)
{
    use_heap(3);
    ap_free(blocks[2]);
}

__attribute__((destructor)) static void first_destructor(void)
{
    use_heap(4);
    ap_free(blocks[3]);
    (void)fflush(NULL);
    (void)ap_trim();
}

static void destroy(void *block)
{
    use_heap(5);
    ap_free(block);
}

static atomic_uint busy;

/* Runs on while the process exits. */
static void *keep_busy(void *unused)
{
    atomic_fetch_add(&busy, 1);
    for (;;) {
        ap_free(ap_malloc(100));
        ap_free(ap_malloc(100000));
        ap_free(ap_malloc(1000000));
    }
    return unused;
}

static void *exit_process(void *unused)
{
    use_heap(6);
    exit(0);
    return unused;
}

int main(int argc, char **argv)
{
    enum { BUSY = 3 };
    pthread_t thread;
    const char *mode = argc == 2 ? argv[1] : "";
    for (unsigned i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        blocks[i] = ap_malloc(i % 2 == 0 ? 1000 : 1000000);
    }
    if (atexit(at_exit) != 0 || at_quick_exit(quick_exit_handler) != 0 ||
        pthread_key_create(&key, destroy) != 0 || pthread_setspecific(key, blocks[4]) != 0) {
        return 1;
    }
    for (unsigned i = 0; i < BUSY; i++) {
        if (pthread_create(&thread, NULL, keep_busy, NULL) != 0) {
            return 1;
        }
    }
    while (atomic_load(&busy) < BUSY) {
        (void)sched_yield();
    }
    if (strcmp(mode, "exit") == 0) {
        exit(0);
    } else if (strcmp(mode, "quick_exit") == 0) {
        quick_exit(0);
    } else if (strcmp(mode, "thread_exit") == 0) {
        if (pthread_create(&thread, NULL, exit_process, NULL) != 0) {
            return 1;
        }
        pthread_exit(NULL); /* the key's destructor runs here */
    }
    return 2;
}
