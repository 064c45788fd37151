/* SPDX-License-Identifier: MIT */
/*
 * idle.h: what the programs share that show whether memory is given back.
 *
 * Besides what bench.h has them print, they print
 *     sample seconds=S live_bytes=L resident_bytes=R            as time goes by
 *     peak live_bytes=L resident_bytes=R                        the highest there was of each
 *     idle since=S seconds=N live_bytes=L resident_bytes=R      N = 0, 1, 5, 10, 30 s after the work
 * Their own tables of blocks lie outside of malloc, and count as live as far as they are in use.
 */
#ifndef APMALLOC_BENCH_IDLE_H
#define APMALLOC_BENCH_IDLE_H

#include <sys/mman.h>

#include "bench.h"

enum { SAMPLES_PER_S = 4, NS_PER_S = 1000000000 };

/* --- blocks --- */

/* Blocks in no order; each begins with its size. The owner changes it, others may ask for live bytes. */
struct blocks {
    uint32_t **items;
    size_t count, capacity;
    uint64_t live_bytes;
};

/* Room for any blocks of at least `least` bytes that make `bytes` together. Untouched, it costs nothing. */
static BENCH_UNUSED struct blocks blocks_make(uint64_t bytes, size_t least)
{
    size_t capacity = (size_t)bytes / least + 1, size = capacity * sizeof(uint32_t *);
    void *items = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (items == MAP_FAILED)
        bench_die("out of memory", " for the table of blocks");
    (void)madvise(items, size, MADV_NOHUGEPAGE); /* an older kernel's refusal does no harm */
    return (struct blocks){(uint32_t **)items, 0, capacity, 0};
}

static inline uint64_t blocks_live_bytes(const struct blocks *blocks)
{
    return __atomic_load_n(&blocks->live_bytes, __ATOMIC_RELAXED);
}

static inline void blocks_count_live(struct blocks *blocks, int64_t bytes)
{
    __atomic_store_n(&blocks->live_bytes, blocks->live_bytes + (uint64_t)bytes, __ATOMIC_RELAXED);
}

/* At least four bytes. All of them are written, as their owner would. */
static BENCH_UNUSED void blocks_add(struct blocks *blocks, size_t bytes)
{
    if (blocks->count == blocks->capacity)
        bench_die("the table of blocks is full", "");
    uint32_t *block = (uint32_t *)memset(bench_allocate(bytes), 1, bytes);
    *block = (uint32_t)bytes;
    blocks->items[blocks->count++] = block;
    blocks_count_live(blocks, (int64_t)(bytes + sizeof block));
}

/* Frees a block; the last one takes its place. */
static BENCH_UNUSED void blocks_drop(struct blocks *blocks, size_t place)
{
    uint32_t *block = blocks->items[place];
    blocks_count_live(blocks, -(int64_t)(*block + sizeof block));
    blocks->items[place] = blocks->items[--blocks->count];
    free(block);
}

/* Gives back the table's unused end. */
static BENCH_UNUSED void blocks_trim(struct blocks *blocks)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t end = (uintptr_t)(blocks->items + blocks->capacity);
    uintptr_t unused = ((uintptr_t)(blocks->items + blocks->count) + page - 1) & ~(page - 1);
    if (unused < end)
        (void)madvise((void *)unused, end - unused, MADV_DONTNEED);
}

/* --- where threads wait for each other --- */

/* Threads wait at the gate, asleep, until whoever holds it opens it for all. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t arrived, opened;
    size_t waiting;
    unsigned times_opened;
};

static BENCH_UNUSED void gate_make(struct gate *gate)
{
    pthread_condattr_t attributes;
    *gate = (struct gate){.waiting = 0};
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&gate->lock, NULL);
    pthread_cond_init(&gate->arrived, &attributes);
    pthread_cond_init(&gate->opened, &attributes);
    pthread_condattr_destroy(&attributes);
}

static BENCH_UNUSED void gate_wait(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    unsigned before = gate->times_opened;
    gate->waiting++;
    pthread_cond_signal(&gate->arrived);
    while (gate->times_opened == before)
        pthread_cond_wait(&gate->opened, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

static BENCH_UNUSED void gate_open(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->waiting = 0;
    gate->times_opened++;
    pthread_cond_broadcast(&gate->opened);
    pthread_mutex_unlock(&gate->lock);
}

static BENCH_UNUSED struct timespec idle_time(double seconds)
{
    time_t whole = (time_t)seconds;
    return (struct timespec){whole, (long)((seconds - (double)whole) * NS_PER_S)};
}

/* Whether `count` threads are at the gate, waiting for them until then. */
static BENCH_UNUSED bool gate_is_reached(struct gate *gate, size_t count, double until_s)
{
    struct timespec until = idle_time(until_s);
    int failed = 0;
    pthread_mutex_lock(&gate->lock);
    while (gate->waiting < count && failed == 0)
        failed = pthread_cond_timedwait(&gate->arrived, &gate->lock, &until);
    bool reached = gate->waiting == count;
    pthread_mutex_unlock(&gate->lock);
    return reached;
}

/* --- idling --- */

/* Sleeps that long and samples; what is live does not change. */
static BENCH_UNUSED void idle_for(long seconds, uint64_t live_bytes)
{
    static const long marks_s[] = {0, 1, 5, 10, 30};
    size_t mark = 0;
    double begin = bench_now_s();
    for (long step = 0; step <= seconds * SAMPLES_PER_S; step++) {
        struct timespec until = idle_time(begin + (double)step / SAMPLES_PER_S);
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0) {
        }
        uint64_t resident = bench_sample(live_bytes);
        if (mark == sizeof marks_s / sizeof *marks_s || step != marks_s[mark] * SAMPLES_PER_S)
            continue;
        printf("idle since=%.3f seconds=%ld live_bytes=%llu resident_bytes=%llu\n",
               begin - bench.start_s, marks_s[mark++], (unsigned long long)live_bytes,
               (unsigned long long)resident);
    }
    bench.idle_s += bench_now_s() - begin;
}

/* The process' highest resident bytes. Unlike getrusage's, not those of who started it. */
static BENCH_UNUSED uint64_t idle_peak_resident_bytes(void)
{
    char text[4096] = "";
    int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (file < 0 || read(file, text, sizeof text - 1) <= 0)
        bench_die("cannot read ", "/proc/self/status");
    close(file);
    char *peak = strstr(text, "VmHWM:");
    return peak ? strtoull(peak + strlen("VmHWM:"), NULL, 10) * 1024 : 0;
}

static BENCH_UNUSED void idle_print_peak(uint64_t live_bytes)
{
    printf("peak live_bytes=%llu resident_bytes=%llu\n", (unsigned long long)live_bytes,
           (unsigned long long)idle_peak_resident_bytes());
}

#endif
