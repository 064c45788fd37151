/* SPDX-License-Identifier: MIT */
/*
 * fragmentation: a long run whose sizes shift; resident bytes against live bytes as it goes.
 * The pattern: a cache server over a day. The heap is bounded by live bytes; the sizes in demand change
 * from era to era, a few blocks of each era stay, as in the tests of mesh (Powers et al., PLDI 2019) and of
 * redis' active defragmentation.
 * Options: live_mib, eras, turnover (how many times the live bytes are replaced in an era), threads, hold.
 * Also prints lines "sample seconds=S live_bytes=L resident_bytes=R".
 */
#include "bench.h"

enum { SLOTS_PER_MIB = 4096, SAMPLES_PER_ERA = 10 };

struct work {
    uint64_t live_limit;
    long eras, turnover;
    uint64_t seed;
    size_t slot_count;
    char **slots;
    uint32_t *sizes;
    uint64_t live_bytes, operations;
};

static struct work *all;
static size_t thread_count;

/* Other threads' sums are read as they are: a sample need not be exact. */
static void sample(void)
{
    uint64_t live = 0;
    for (size_t i = 0; i < thread_count; i++)
        live += __atomic_load_n(&all[i].live_bytes, __ATOMIC_RELAXED);
    bench_sample(live);
}

static void add_live(struct work *work, int64_t bytes)
{
    __atomic_store_n(&work->live_bytes, work->live_bytes + (uint64_t)bytes, __ATOMIC_RELAXED);
}

static void drop(struct work *work, size_t slot)
{
    if (work->slots[slot] == NULL)
        return;
    free(work->slots[slot]);
    work->slots[slot] = NULL;
    add_live(work, -(int64_t)work->sizes[slot]);
}

/* Sizes of an era lie around a centre of its own, from 32 bytes to 8 KiB. */
static size_t era_size(struct bench_random *random, long era)
{
    static const size_t centres[] = {48, 320, 96, 1500, 200, 4096, 700, 64, 2500, 400};
    size_t centre = centres[(size_t)era % (sizeof centres / sizeof *centres)];
    return centre / 2 + bench_random_below(random, centre * 3 / 2);
}

static void *run(void *argument)
{
    struct work *work = (struct work *)argument;
    struct bench_random random = {work->seed};
    for (long era = 0; era < work->eras; era++) {
        uint64_t bytes = 0, total = work->live_limit * (uint64_t)work->turnover;
        uint64_t next_sample = 0;
        while (bytes < total) {
            size_t slot = bench_random_below(&random, work->slot_count);
            drop(work, slot);
            /* Random victims until there is room: some old ones survive each era. */
            while (work->live_bytes > work->live_limit)
                drop(work, bench_random_below(&random, work->slot_count));
            size_t size = era_size(&random, era);
            work->slots[slot] = (char *)memset(bench_allocate(size), 1, size);
            work->sizes[slot] = (uint32_t)size;
            add_live(work, (int64_t)size);
            bytes += size;
            work->operations++;
            if (work->seed == 1 && bytes >= next_sample) {
                sample();
                next_sample += total / SAMPLES_PER_ERA;
            }
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    size_t mib = (size_t)bench_number("live_mib", 128);
    long eras = bench_number("eras", 10);
    long turnover = bench_number("turnover", 3);
    thread_count = (size_t)bench_number("threads", 1);
    all = (struct work *)calloc(thread_count, sizeof *all);
    for (size_t i = 0; i < thread_count; i++) {
        size_t slots = mib * SLOTS_PER_MIB / thread_count;
        all[i] = (struct work){((uint64_t)mib << 20) / thread_count, eras, turnover, i + 1, slots,
                               (char **)calloc(slots, sizeof(char *)),
                               (uint32_t *)calloc(slots, sizeof(uint32_t)), 0, 0};
    }
    bench_start();
    bench_threads_run(thread_count, run, all, sizeof *all);
    sample();
    uint64_t operations = 0, live = 0;
    for (size_t i = 0; i < thread_count; i++) {
        operations += all[i].operations;
        live += all[i].live_bytes;
    }
    bench_end(operations, live);
    return 0;
}
