/* SPDX-License-Identifier: MIT */
/*
 * sampled_program.c: a busy program of several threads, right or wrong in one way. Helper of sampled_test.c.
 *
 * sampled_program well|use|overflow|grown|underflow|twice|fork|outside: what is wrong with some of its blocks;
 * "grown": an overflow of those that realloc() has made a little longer; "fork": children go on, "outside": a
 * fault that has nothing to do with the heap.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "entry_points.h"

enum { THREADS = 4, FORKS = 5, ROUNDS = 10, BLOCKS = 800 };

static const char *mode;

static bool is(const char *name)
{
    return strcmp(mode, name) == 0;
}

__attribute__((noinline)) static unsigned char *make(size_t size)
{
    return ap_malloc(size);
}

__attribute__((noinline)) static void drop(void *p)
{
    ap_free(p);
}

/* Wrong accesses that are seen on a page of the block's own, and do no harm elsewhere. */
static void be_wrong_before(volatile unsigned char *p, size_t size, bool is_grown)
{
    if (is("overflow") || (is("grown") && is_grown)) {
        (void)p[size + 15]; /* beyond the page of a block that ends there */
    } else if (is("underflow")) {
        (void)p[-64];
    }
}

static void be_wrong_after(volatile unsigned char *p)
{
    if (is("use")) {
        (void)p[0];
    } else if (is("twice") && (uintptr_t)p % 4096 == 0) {
        drop((void *)p); /* a page's start: sampled, or found by the usual checks */
    } else if (is("outside")) {
        volatile unsigned char *volatile nowhere = (unsigned char *)64;
        (void)*nowhere;
    }
}

static void work(unsigned seed)
{
    static _Thread_local unsigned char *blocks[BLOCKS];
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < BLOCKS; i++) {
            size_t size = 1 + (i * 37 + seed) % 4000;
            blocks[i] = i % 8 == 0   ? ap_realloc(make(size - size / 10), size)
                        : i % 8 == 1 ? ap_aligned_alloc(256, size)
                        : i % 8 == 2 ? ap_calloc(1, size)
                                     : make(size);
            fill(blocks[i], size, (unsigned)i);
            be_wrong_before(blocks[i], size, i % 8 == 0);
        }
        for (size_t i = 0; i < BLOCKS; i++) {
            size_t size = 1 + (i * 37 + seed) % 4000;
            if (!is_filled(blocks[i], size, (unsigned)i) || ap_usable_size(blocks[i]) < size) {
                _exit(9);
            }
            drop(blocks[i]);
            be_wrong_after(blocks[i]);
        }
    }
}

static void *work_in_thread(void *number)
{
    work((unsigned)(uintptr_t)number);
    return number;
}

static int fork_and_work(void)
{
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();
        int status = 0;
        if (child == 0) {
            work(5);
            exit(0);
        }
        if (waitpid(child, &status, 0) != child || status != 0) {
            return 8;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    mode = argc > 1 ? argv[1] : "well";
    for (uintptr_t i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, work_in_thread, (void *)i) != 0) {
            return 2;
        }
    }
    int status = is("fork") ? fork_and_work() : 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    return status;
}
