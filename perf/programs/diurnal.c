/* SPDX-License-Identifier: MIT */
/*
 * diurnal: a load that grows, holds, shrinks to a tenth and falls idle; what stays resident, and how long.
 * The pattern: a server's day. Requests come and go with its users; what the night leaves lies among the memory
 * of the peak (Maas et al., ASPLOS 2020; Hunter et al., OSDI 2021). All threads sleep then: what is to be given
 * back has to have been given back, or to be by someone else.
 *
 * lifetimes=sessions: blocks of all sizes belong to sessions; each makes session_blocks of them when it begins and
 * frees them when it ends. While the load holds, sessions end at random and others begin in their place; then nine
 * of ten end. How much of their memory is whole pages depends on how much of a page one session fills: 20,000
 * blocks are about 3 MB, a tenant or an open document; 200 are 30 KB, a connection, whose blocks
 * of one size share their page with those of a dozen others, so that most pages stay in use.
 * lifetimes=scattered: each block ends by itself, at random: a cache whose survivors have nothing in common. Half
 * of the peak's pages hold a survivor then, and only moving these would free them: the worst case.
 *
 * Options: threads, peak_mib (of all threads), operations (blocks replaced while it holds, of all threads),
 * lifetimes, session_blocks, idle_s, cycles, hold. Also prints the lines of idle.h.
 */
#include "idle.h"

enum { LEAST_BYTES = 16, DOUBLINGS = 12, KEPT_ONE_IN = 10 };

/* A session's blocks are a chain. Of scattered blocks, each is a chain of its own. */
struct block {
    uint32_t bytes;
    struct block *next;
};

struct work {
    uint64_t share_bytes;
    size_t replacements;
    long cycles;
    uint64_t seed;
    struct blocks sessions; /* the first block of each */
    uint64_t operations;    /* out: blocks made */
};

static size_t session_blocks;

static struct gate gate; /* after each phase */
static struct work *all;
static size_t thread_count;
static uint64_t peak_live_bytes;

static void begin_session(struct work *work, struct bench_random *random)
{
    struct blocks *sessions = &work->sessions;
    struct block *first = NULL;
    uint64_t bytes = sizeof first;
    for (size_t i = 0; i < session_blocks; i++) {
        size_t size = bench_random_size(random, LEAST_BYTES, DOUBLINGS);
        struct block *block = (struct block *)memset(bench_allocate(size), 1, size);
        *block = (struct block){(uint32_t)size, first};
        first = block;
        bytes += size;
    }
    sessions->items[sessions->count++] = &first->bytes;
    blocks_count_live(sessions, (int64_t)bytes);
    work->operations += session_blocks;
}

static void end_session(struct work *work, size_t place)
{
    struct blocks *sessions = &work->sessions;
    struct block *block = (struct block *)sessions->items[place];
    uint64_t bytes = sizeof block;
    sessions->items[place] = sessions->items[--sessions->count];
    while (block != NULL) {
        struct block *next = block->next;
        bytes += block->bytes;
        free(block);
        block = next;
    }
    blocks_count_live(sessions, -(int64_t)bytes);
}

static void end_any_session(struct work *work, struct bench_random *random)
{
    end_session(work, bench_random_below(random, work->sessions.count));
}

static void grow(struct work *work, struct bench_random *random)
{
    while (work->sessions.live_bytes < work->share_bytes)
        begin_session(work, random);
}

/* Bytes stay at the share, so that what is live at the end of the phase is what was at its begin. */
static void churn(struct work *work, struct bench_random *random)
{
    for (size_t i = 0; i < work->replacements; i += session_blocks) {
        while (work->sessions.live_bytes >= work->share_bytes)
            end_any_session(work, random);
        begin_session(work, random);
    }
}

static void shrink(struct work *work, struct bench_random *random)
{
    size_t kept = work->sessions.count / KEPT_ONE_IN;
    while (work->sessions.count > kept)
        end_any_session(work, random);
    blocks_trim(&work->sessions);
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
        live += blocks_live_bytes(&all[i].sessions);
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
    const char *lifetimes = bench_word("lifetimes", "sessions");
    session_blocks = (size_t)bench_number("session_blocks", 20000);
    if (strcmp(lifetimes, "scattered") == 0)
        session_blocks = 1;
    else if (strcmp(lifetimes, "sessions") != 0)
        bench_die("unknown lifetimes: ", lifetimes);
    if (session_blocks == 0)
        bench_die("session_blocks: at least 1", "");
    if (thread_count == 0)
        bench_die("threads: at least 1", "");
    all = (struct work *)bench_allocate(thread_count * sizeof *all);
    for (size_t i = 0; i < thread_count; i++) {
        uint64_t share = peak / thread_count;
        struct blocks sessions = blocks_make(share, LEAST_BYTES);
        all[i] =
            (struct work){share, operations / thread_count, cycles, i + 1, .sessions = sessions};
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
