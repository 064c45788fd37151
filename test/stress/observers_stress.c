/* SPDX-License-Identifier: MIT */
/*
 * observers_stress.c: statistics and trims while all the rest goes on.
 * Goal: those who look at the heap, and those who give its free memory back, run against threads
 * that allocate, free, come and go, without a race and without nonsense figures. Method: workers
 * with blocks of their own and short-lived threads; one thread per kind of observer.
 */
#include <pthread.h>
#include <stdio.h>

#include "stress.h"

enum { WORKERS = 3, OBSERVERS = 3, BLOCKS = 300, SIZE_MOST = 500 << 10 };

static void *live_shortly(void *random_stream)
{
    struct stress_block block;
    for (int i = 0; i < 50; i++) {
        stress_block_allocate(&block, stress_random_size(random_stream, SIZE_MOST), random_stream);
        stress_block_free(&block);
    }
    return NULL;
}

static void work(unsigned number)
{
    struct stress_random random = stress_random_stream(number);
    struct stress_block blocks[BLOCKS] = {{0}};
    uint64_t done = 0;
    while (done % 64 != 0 || !stress_is_over()) {
        struct stress_block *block = &blocks[stress_random_below(&random, BLOCKS)];
        stress_block_free(block);
        stress_block_allocate(block, stress_random_size(&random, SIZE_MOST), &random);
        if (stress_random_below(&random, 2000) == 0) {
            pthread_t thread;
            STRESS_CHECK(pthread_create(&thread, NULL, live_shortly, &random) == 0);
            STRESS_CHECK(pthread_join(thread, NULL) == 0);
        }
        done++;
    }
    for (unsigned b = 0; b < BLOCKS; b++) {
        stress_block_free(&blocks[b]);
    }
    stress_count(done);
}

static void check_figures(void)
{
    struct ap_mallinfo2 i = ap_mallinfo2();
    STRESS_CHECK(i.arena < (size_t)1 << 40 && i.uordblks < (size_t)1 << 40);
    STRESS_CHECK(i.fsmblks < (size_t)1 << 40 && i.hblkhd < (size_t)1 << 40);
    STRESS_CHECK(i.fordblks <= i.arena);
}

static void observe(unsigned kind)
{
    FILE *stream = kind == 2 ? fopen("/dev/null", "w") : NULL;
    uint64_t done = 0;
    while (!stress_is_over()) {
        switch (kind) {
        case 0:
            check_figures();
            break;
        case 1:
            (void)ap_trim();
            break;
        default:
            STRESS_CHECK(ap_malloc_info(0, stream) == 0);
            STRESS_CHECK(ap_malloc_trim(0) >= 0);
            ap_thread_idle();
            break;
        }
        done++;
    }
    if (stream != NULL) {
        (void)fclose(stream);
    }
    stress_count(done);
}

static void body(unsigned number)
{
    if (number < WORKERS) {
        work(number);
    } else {
        observe(number - WORKERS);
    }
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "observers_stress");
    stress_run_threads(WORKERS + OBSERVERS, body);
    return stress_finish();
}
