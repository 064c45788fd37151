/* SPDX-License-Identifier: MIT */
/*
 * diurnal: a load that grows, holds, shrinks to a tenth and falls idle; what stays resident, and how long.
 * The pattern: a server's day. Requests come and go with its users, and what few blocks the night leaves are
 * strewn over the memory of the peak (Maas et al., ASPLOS 2020; Hunter et al., OSDI 2021). All threads sleep
 * then: what is to be given back has to have been given back, or to be by someone else.
 * Options: threads, peak_mib (of all threads), operations (replacements while it holds, of all threads),
 * idle_s, cycles, hold. Also prints the lines of idle.h.
 */
#include "idle.h"

enum { LEAST_BYTES = 16, DOUBLINGS = 12, KEPT_ONE_IN = 10 };

struct work {
    uint64_t share_bytes;
    size_t replacements;
    long cycles;
    uint64_t seed;
    struct blocks blocks;
    uint64_t operations; /* out */
};

static struct gate gate; /* after each phase */
static struct work *all;
static size_t thread_count;
static uint64_t peak_live_bytes;

static void grow(struct work *work, struct bench_random *random)
{
    while (work->blocks.live_bytes < work->share_bytes) {
        blocks_add(&work->blocks, bench_random_size(random, LEAST_BYTES, DOUBLINGS));
        work->operations++;
    }
}

/* Bytes stay at the share, so that what is live at the end of the phase is what was at its begin. */
static void churn(struct work *work, struct bench_random *random)
{
    for (size_t i = 0; i < work->replacements; i++) {
        while (work->blocks.live_bytes >= work->share_bytes)
            blocks_drop(&work->blocks, bench_random_below(random, work->blocks.count));
        blocks_add(&work->blocks, bench_random_size(random, LEAST_BYTES, DOUBLINGS));
        work->operations++;
    }
}

static void shrink(struct work *work, struct bench_random *random)
{
    size_t kept = work->blocks.count / KEPT_ONE_IN;
    while (work->blocks.count > kept)
        blocks_drop(&work->blocks, bench_random_below(random, work->blocks.count));
    blocks_trim(&work->blocks);
}

static void *run(void *argument)
{
    static void (*const phases[])(struct work *, struct bench_random *) = {grow, churn, shrink};
    struct work *work = (struct work *)argument;
    struct bench_random random = {work->seed};
    for (long cycle = 0; cycle < work->cycles; cycle++) {
        for (size_t i = 0; i < sizeof phases / sizeof *phases; i++) {
            phases[i](work, &random);
            gate_wait(&gate);
        }
    }
    gate_wait(&gate); /* which does not open: threads are there, with all they keep, to the end */
    return NULL;
}

/* Others' sums are read as they are: a sample need not be exact. */
static uint64_t sample(void)
{
    uint64_t live = 0;
    for (size_t i = 0; i < thread_count; i++)
        live += blocks_live_bytes(&all[i].blocks);
    bench_sample(live);
    if (live > peak_live_bytes)
        peak_live_bytes = live;
    return live;
}

/* Samples until all threads are at the gate; what is live then. */
static uint64_t watch(void)
{
    double next_s = bench_now_s();
    while (!gate_is_reached(&gate, thread_count, next_s)) {
        sample();
        next_s += 1.0 / SAMPLES_PER_S;
    }
    return sample();
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    thread_count = (size_t)bench_number("threads", 1);
    uint64_t peak = (uint64_t)bench_number("peak_mib", 256) << 20;
    size_t operations = (size_t)bench_number("operations", 2000000);
    long idle_s = bench_number("idle_s", 30);
    long cycles = bench_number("cycles", 1);
    if (thread_count == 0)
        bench_die("threads: at least 1", "");
    all = (struct work *)bench_allocate(thread_count * sizeof *all);
    for (size_t i = 0; i < thread_count; i++) {
        uint64_t share = peak / thread_count;
        struct blocks blocks = blocks_make(share, LEAST_BYTES);
        all[i] = (struct work){share, operations / thread_count, cycles, i + 1, .blocks = blocks};
    }
    gate_make(&gate);
    bench_start();
    for (size_t i = 0; i < thread_count; i++)
        bench_thread_start(run, &all[i]);
    uint64_t live = 0;
    for (long cycle = 0; cycle < cycles; cycle++) {
        watch(); /* it grows */
        gate_open(&gate);
        watch(); /* it holds */
        gate_open(&gate);
        live = watch(); /* it shrinks */
        idle_for(idle_s, live);
        gate_open(&gate);
    }
    uint64_t done = 0;
    for (size_t i = 0; i < thread_count; i++)
        done += all[i].operations;
    idle_print_peak(peak_live_bytes);
    bench_end(done, live);
    return 0;
}
