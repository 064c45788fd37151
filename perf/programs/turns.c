/* SPDX-License-Identifier: MIT */
/*
 * turns: threads of a pool take turns; each builds its working set, uses it and frees it.
 * The pattern: a server whose requests go to any thread of a pool, stages of a pipeline, "blowup" (Berger et
 * al., Hoard, ASPLOS 2000). No more is live at any time than one working set; an allocator that keeps what a
 * thread has freed for that thread alone shows the sum of their peaks instead of the peak of their sums.
 * Options: threads, set_mib, rounds (turns of each thread), idle_s, hold. Also prints the lines of idle.h.
 */
#include "idle.h"

enum { LEAST_BYTES = 16, DOUBLINGS = 12 };

struct work {
    size_t place;
    long rounds;
    struct bench_random random;
};

static struct blocks blocks; /* of whose turn it is */
static uint64_t set_bytes, peak_live_bytes, operations;
static size_t thread_count;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t passed_on = PTHREAD_COND_INITIALIZER;
static size_t turns_done;

static void wait_for_turn(size_t turn)
{
    pthread_mutex_lock(&lock);
    while (turns_done != turn)
        pthread_cond_wait(&passed_on, &lock);
    pthread_mutex_unlock(&lock);
}

static void pass_on(void)
{
    pthread_mutex_lock(&lock);
    turns_done++;
    pthread_cond_broadcast(&passed_on);
    pthread_mutex_unlock(&lock);
}

static void add(struct bench_random *random)
{
    blocks_add(&blocks, bench_random_size(random, LEAST_BYTES, DOUBLINGS));
    operations++;
    if (blocks.live_bytes > peak_live_bytes)
        peak_live_bytes = blocks.live_bytes;
}

static void take_turn(struct bench_random *random)
{
    while (blocks.live_bytes < set_bytes)
        add(random);
    for (size_t used = blocks.count; used > 0; used--) {
        while (blocks.live_bytes >= set_bytes)
            blocks_drop(&blocks, bench_random_below(random, blocks.count));
        add(random);
    }
    bench_sample(blocks.live_bytes);
    while (blocks.count > 0)
        blocks_drop(&blocks, blocks.count - 1);
    blocks_trim(&blocks);
    bench_sample(blocks.live_bytes);
}

static void *run(void *argument)
{
    struct work *work = (struct work *)argument;
    for (long round = 0; round < work->rounds; round++) {
        wait_for_turn((size_t)round * thread_count + work->place);
        take_turn(&work->random);
        pass_on();
    }
    /* A turn that never comes: threads are there, with all they keep, to the end. */
    wait_for_turn(SIZE_MAX);
    return NULL;
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    thread_count = (size_t)bench_number("threads", 8);
    set_bytes = (uint64_t)bench_number("set_mib", 32) << 20;
    long rounds = bench_number("rounds", 2);
    long idle_s = bench_number("idle_s", 10);
    blocks = blocks_make(set_bytes, LEAST_BYTES);
    struct work *work = (struct work *)bench_allocate(thread_count * sizeof *work + 1);
    bench_start();
    for (size_t i = 0; i < thread_count; i++) {
        work[i] = (struct work){i, rounds, {i + 1}};
        bench_thread_start(run, &work[i]);
    }
    wait_for_turn((size_t)rounds * thread_count);
    idle_for(idle_s, 0);
    idle_print_peak(peak_live_bytes);
    bench_end(operations, 0);
    return 0;
}
