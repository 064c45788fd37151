/* SPDX-License-Identifier: MIT */
/*
 * soak_stress.c: everything at random, for as long as is wanted.
 *
 * Goal: nothing wears out. Blocks keep their contents for hours, what the allocator keeps stays consistent,
 * forked children work, and neither resident memory nor the heap nor its records grow once the program
 * has been through all that it does. Method: rounds of four threads that start threads, each of which
 * takes, resizes, hands over and frees blocks of all kinds, trims, looks at statistics, moves the limits and
 * forks. After each round all threads are gone: the statistics must be exactly the blocks that are left, and
 * the walk of support/consistency.h must find no fault. Every few rounds all is freed and trimmed, and
 * what is then resident is compared with what it was after the first such times.
 *
 * soak_stress [SECONDS] [SEED]; without SECONDS the environment's AP_SOAK_SECONDS, or 6. Where the options say that
 * blocks are checked, they have canaries, and some are sampled: the figures are that much above.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/compiler.h"
#include "base/size_class.h"
#include "cache/thread.h"
#include "config/options.h"
#include "hardened/hardened.h"
#include "heap/heap_limits.h"
#include "large/large.h"
#include "observe/stats.h"
#include "stress.h"
#include "support/consistency.h"
#include "support/process_view.h"

enum {
    WORKERS = 4,
    OWN_BLOCKS = 150,
    PLACES = 200,
    LIFE_MOST = 2000, /* operations of a thread */
    ROUNDS_PER_WINDOW = 4,
    WARM_UP_WINDOWS = 2,
    ROUND_MS_LEAST = 250,
    ROUND_MS_MOST = 5000,
    ROUNDS_WANTED = 20,
};
#define MIB ((size_t)1 << 20)
#define SIZE_MOST (2 * MIB)

/* ------------------------------------------------------------ blocks that outlive their threads */

static _Atomic(struct stress_block *) places[PLACES];
static _Atomic(uint64_t) forks, refusals, pressure_calls;

/* The record is a block itself. The one that was there, or NULL, is now this thread's. */
static void hand_over(struct stress_block *block, struct stress_random *random)
{
    struct stress_block *record = NULL;
    if (block->p != NULL && (record = ap_malloc(sizeof *record)) != NULL) {
        *record = *block;
    }
    if (block->p != NULL && record == NULL) {
        return; /* refused */
    }
    struct stress_block *found =
        atomic_exchange(&places[stress_random_below(random, PLACES)], record);
    *block = (struct stress_block){0};
    if (found != NULL) {
        *block = *found;
        ap_free(found);
    }
}

/* ------------------------------------------------------------ one thread */

static void accept(struct stress_block *block, void *p, size_t size, size_t alignment,
                   struct stress_random *random)
{
    if (p == NULL) { /* the limit, when it is low */
        STRESS_CHECK(errno == ENOMEM);
        atomic_fetch_add(&refusals, 1);
        return;
    }
    stress_block_fill(block, p, size, alignment, stress_random_next(random));
}

static void *take_zero(size_t size)
{
    unsigned char *p = ap_calloc(1, size);
    for (size_t i = 0; p != NULL && i < size; i += i < 4096 ? 1 : 97) {
        STRESS_CHECK(p[i] == 0);
    }
    return p;
}

static void allocate(struct stress_block *block, struct stress_random *random)
{
    size_t size = stress_random_size(random, SIZE_MOST);
    size_t alignment = (size_t)16 << stress_random_below(random, 10);
    void *p = NULL;
    switch (stress_random_below(random, 10)) {
    case 0:
        accept(block, take_zero(size), size, 16, random);
        break;
    case 1:
        accept(block, ap_aligned_alloc(alignment, size), size, alignment, random);
        break;
    case 2:
        errno = ap_posix_memalign(&p, alignment, size);
        accept(block, p, size, alignment, random);
        break;
    case 3:
        accept(block, ap_memalign(alignment, size), size, alignment, random);
        break;
    case 4:
        accept(block, ap_pvalloc(size), size, 4096, random);
        break;
    case 5:
        accept(block, ap_reallocarray(NULL, 1, size), size, 16, random);
        break;
    default:
        accept(block, ap_malloc(size), size, 16, random);
        break;
    }
}

static void be_told(void *context, size_t used_bytes, size_t limit_bytes)
{
    STRESS_CHECK(context == places && used_bytes > 0 && limit_bytes > 0);
    ap_free(ap_malloc(used_bytes % 10000));
    atomic_fetch_add(&pressure_calls, 1);
}

/* Mostly none, so that most of the time everything can be had. */
static void move_limits(struct stress_random *random)
{
    size_t bytes = (1 + stress_random_below(random, 30)) * MIB;
    ap__heap_limits_set_soft(stress_random_below(random, 3) == 0 ? bytes : SIZE_MAX);
    ap__heap_limits_set_hard(stress_random_below(random, 4) == 0 ? bytes : SIZE_MAX);
    ap_set_pressure_callback(stress_random_below(random, 4) == 0 ? NULL : be_told, places);
    if (stress_random_below(random, 4) == 0) {
        ap_update_limits();
    }
}

static void look(struct stress_random *random)
{
    FILE *stream = stress_random_below(random, 4) == 0 ? fopen("/dev/null", "w") : NULL;
    struct ap_mallinfo2 i = ap_mallinfo2();
    STRESS_CHECK(i.fordblks <= i.arena && i.arena <= i.usmblks);
    if (stream != NULL) {
        STRESS_CHECK(ap_malloc_info(0, stream) == 0);
        (void)fclose(stream);
    }
}

/* The walk takes what waits in the quarantine for lost. */
static void empty_quarantine(void)
{
    if (ap__options.hardened != 0) {
        (void)ap__hardened_flush(ap__thread_cache_or_null());
    }
}

#ifndef AP_THREAD_SANITIZER
/* The child checks what it has, works with it and walks over everything. It has its parent's word on
 * nothing but its own blocks: those in the shared places may be on their way. */
static void be_child(struct stress_block *blocks, struct stress_random *random)
{
    (void)alarm(60);
    ap__heap_limits_set_hard(SIZE_MAX);
    for (size_t i = 0; i < OWN_BLOCKS; i++) {
        if (i % 3 == 0) {
            stress_block_free(&blocks[i]);
            allocate(&blocks[i], random);
        } else if (blocks[i].p != NULL) {
            stress_block_check(&blocks[i], blocks[i].size);
        }
    }
    empty_quarantine();
    const char *fault = consistency_find_fault_in_child();
    if (fault != NULL) {
        (void)fprintf(stderr, "in a child: %s\n", fault);
        _exit(1);
    }
    _exit(0);
}

static void fork_and_wait(struct stress_block *blocks, struct stress_random *random)
{
    int status = 0;
    pid_t child = fork();
    STRESS_CHECK(child >= 0);
    if (child == 0) {
        be_child(blocks, random);
    }
    STRESS_CHECK(waitpid(child, &status, 0) == child);
    STRESS_CHECK(status == 0);
    atomic_fetch_add(&forks, 1);
}
#else
static void fork_and_wait(struct stress_block *blocks, struct stress_random *random)
{
    (void)blocks, (void)random; /* a sanitizer's threads do not outlive it */
}
#endif

static void do_rarely(struct stress_block *blocks, struct stress_random *random)
{
    switch (stress_random_below(random, 12)) {
    case 0:
        fork_and_wait(blocks, random);
        break;
    case 1:
        (void)ap_trim();
        break;
    case 2:
    case 3:
        ap_thread_idle();
        break;
    case 4:
    case 5:
    case 6:
        move_limits(random);
        break;
    case 7:
        view_sleep_ms((int64_t)stress_random_below(random, 20)); /* the helper's turn */
        break;
    default:
        look(random);
        break;
    }
}

static void do_something(struct stress_block *blocks, struct stress_random *random)
{
    struct stress_block *block = &blocks[stress_random_below(random, OWN_BLOCKS)];
    size_t what = stress_random_below(random, 1000);
    if (what < 8) {
        do_rarely(blocks, random);
    } else if (what < 200) {
        hand_over(block, random);
    } else if (block->p == NULL) {
        allocate(block, random);
    } else if (what < 400) {
        stress_block_realloc(block, 1 + stress_random_size(random, SIZE_MOST));
    } else {
        stress_block_free(block);
    }
}

static int64_t round_end_ms;
static _Atomic(unsigned) threads_started;

static void *live(void *unused)
{
    struct stress_random random = stress_random_stream(atomic_fetch_add(&threads_started, 1));
    struct stress_block blocks[OWN_BLOCKS] = {{0}};
    size_t life = stress_random_below(&random, LIFE_MOST), done = 0;
    while (done < life && (done % 64 != 0 || view_now_ms() < round_end_ms)) {
        do_something(blocks, &random);
        done++;
    }
    for (size_t i = 0; i < OWN_BLOCKS; i++) {
        if (stress_random_below(&random, 4) == 0) {
            hand_over(&blocks[i], &random);
        }
        stress_block_free(&blocks[i]);
    }
    stress_count(done);
    return unused;
}

static void keep_one_alive(unsigned number)
{
    (void)number;
    while (view_now_ms() < round_end_ms) {
        pthread_t thread;
        STRESS_CHECK(pthread_create(&thread, NULL, live, NULL) == 0);
        STRESS_CHECK(pthread_join(thread, NULL) == 0);
    }
}

/* ------------------------------------------------------------ at rest */

/* What the statistics make of a block: large objects count with all of their granules. */
static size_t counted_bytes(void *p)
{
    size_t usable = ap_usable_size(p);
    return ap__large_usable_size(p) != 0 ? ap__align_up(usable, AP_GRANULE) : usable;
}

static size_t expected_bytes(void)
{
    size_t bytes = 0;
    for (size_t i = 0; i < PLACES; i++) {
        struct stress_block *record = atomic_load(&places[i]);
        if (record != NULL) {
            stress_block_check(record, record->size);
            bytes += counted_bytes(record) + counted_bytes(record->p);
        }
    }
    return bytes;
}

static size_t bytes_at_start; /* of whatever libc has from us */

static bool figures_are_right(void)
{
    size_t live = ap_mallinfo2().uordblks;
    size_t expected = bytes_at_start + expected_bytes();
    bool has_blocks = expected != bytes_at_start;
    return live == expected || (ap__options.hardened != 0 && has_blocks && live > expected);
}

static void check_at_rest(void)
{
    ap__heap_limits_set_hard(SIZE_MAX);
    ap__heap_limits_set_soft(SIZE_MAX);
    /* The helper may be carrying blocks from one place to another. */
    STRESS_CHECK(view_wait(figures_are_right, 30000) >= 0);
    empty_quarantine();
    const char *fault = consistency_find_fault();
    if (fault != NULL) {
        (void)fprintf(stderr, "%s\n", fault);
        STRESS_CHECK(fault == NULL);
    }
}

static void free_all(void)
{
    for (size_t i = 0; i < PLACES; i++) {
        struct stress_block *record = atomic_exchange(&places[i], NULL);
        if (record != NULL) {
            stress_block_free(record);
            ap_free(record);
        }
    }
    ap_thread_idle();
    (void)ap_trim();
}

/* --- windows: what is left when nothing is in use --- */

struct window {
    size_t resident, heap, metadata; /* bytes */
};

static struct window measure(void)
{
    struct ap__stats stats;
    ap__stats_collect(&stats);
    return (struct window){view_resident_bytes(), stats.heap.usable_bytes, stats.metadata_bytes};
}

static void print_window(unsigned number, const struct window *window)
{
    (void)printf("soak_stress: window %u: resident %zu KiB, heap %zu KiB, metadata %zu KiB\n",
                 number, window->resident >> 10, window->heap >> 10, window->metadata >> 10);
    (void)fflush(stdout);
}

static size_t max(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Generous: chance decides how much is in use at once, and sanitizers keep memory of their own. */
static void check_flat(const char *what, size_t now, size_t warm, size_t slack)
{
    if (now > warm + warm / 2 + slack) {
        (void)fprintf(stderr, "%s: %zu KiB, but %zu KiB after warm-up\n", what, now >> 10,
                      warm >> 10);
        STRESS_CHECK(now <= warm + warm / 2 + slack);
    }
}

static void end_window(unsigned number)
{
    static struct window warm;
    free_all();
    STRESS_CHECK(view_wait(figures_are_right, 30000) >= 0);
    struct window now = measure();
    print_window(number, &now);
    if (number < WARM_UP_WINDOWS) {
        warm = (struct window){max(warm.resident, now.resident), max(warm.heap, now.heap),
                               max(warm.metadata, now.metadata)};
        return;
    }
    check_flat("heap", now.heap, warm.heap, 64 * MIB);
    check_flat("metadata", now.metadata, warm.metadata, 4 * MIB);
#ifndef AP_THREAD_SANITIZER
    check_flat("resident", now.resident, warm.resident, 16 * MIB);
#endif
}

int main(int argc, char **argv)
{
    const char *seconds = getenv("AP_SOAK_SECONDS");
    char default_seconds[] = "6";
    char *arguments[] = {argv[0],
                         argc > 1          ? argv[1]
                         : seconds != NULL ? (char *)seconds
                                           : default_seconds,
                         argc > 2 ? argv[2] : NULL, NULL};
    stress_begin(argc > 2 ? 3 : 2, arguments, "soak_stress");
    double round_ms = strtod(arguments[1], NULL) * 1000 / ROUNDS_WANTED;
    round_ms = round_ms < ROUND_MS_LEAST ? ROUND_MS_LEAST : round_ms;
    round_ms = round_ms > ROUND_MS_MOST ? ROUND_MS_MOST : round_ms;
    bytes_at_start = ap_mallinfo2().uordblks;
    unsigned rounds = 0;
    for (; !stress_is_over(); rounds++) {
        round_end_ms = view_now_ms() + (int64_t)round_ms;
        stress_run_threads(WORKERS, keep_one_alive);
        check_at_rest();
        if ((rounds + 1) % ROUNDS_PER_WINDOW == 0) {
            end_window(rounds / ROUNDS_PER_WINDOW);
        }
    }
    free_all();
    check_at_rest();
    (void)printf(
        "soak_stress: %u rounds, %u threads, %llu forks, %llu refusals, pressure told %llu times\n",
        rounds, atomic_load(&threads_started), (unsigned long long)atomic_load(&forks),
        (unsigned long long)atomic_load(&refusals),
        (unsigned long long)atomic_load(&pressure_calls));
    STRESS_CHECK(rounds != 0);
    return stress_finish();
}
