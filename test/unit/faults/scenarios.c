/* SPDX-License-Identifier: MIT */
/*
 * scenarios.c: each thing a program does that ends in calls of the system.
 *
 * Calls that are the library's and can be refused: os_faults.h has the list. Those left out cannot fail as they
 * are used: pthread_mutex_* (plain mutexes that were initialised), pthread_sigmask, pthread_attr_destroy,
 * pthread_join, pthread_detach (of our own threads), getauxval, syscall(getpid), abort().
 */
#include "scenarios.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "apmalloc.h"
#include "cache/thread.h"
#include "decay/decay.h"
#include "life/soft_limit.h"
#include "support/consistency.h"
#include "support/os_faults.h"

enum { HELD_MAX = 4000, STALE_ERRNO = 1789, THREADS = 4 };
#define LARGE ((size_t)262145)

static struct held {
    unsigned char *p;
    size_t size;
} held[HELD_MAX];
static size_t held_count;
static size_t live_before, large_before;

static void require(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "broken: %s\n", what);
        abort();
    }
}

/* ------------------------------------------------------------ allocations that may fail */

static void stale_errno(void)
{
    errno = STALE_ERRNO;
}

/* After an allocation: errno says what it must. */
static void check_result(const void *p)
{
    require(errno == (p != NULL ? STALE_ERRNO : ENOMEM), p != NULL ? "errno changed" : "no ENOMEM");
}

/* Notes a block, if it is one. Only the ends are written to. */
static void hold(void *block, size_t size)
{
    unsigned char *p = block;
    check_result(p);
    if (p == NULL) {
        return;
    }
    require(held_count < HELD_MAX, "the test holds too much");
    p[0] = (unsigned char)held_count;
    p[size - 1] = (unsigned char)held_count;
    held[held_count++] = (struct held){p, size};
}

static void give(void *p)
{
    stale_errno();
    ap_free(p);
    require(errno == STALE_ERRNO, "free changed errno");
}

static void check_and_free_all(void)
{
    for (size_t i = 0; i < held_count; i++) {
        const struct held *h = &held[i];
        unsigned char mark = (unsigned char)i;
        require(h->p[0] == mark && h->p[h->size - 1] == mark, "contents");
        give(h->p);
    }
    held_count = 0;
}

static void hold_malloc(size_t size)
{
    stale_errno();
    hold(ap_malloc(size), size);
}

static void hold_calloc(size_t size)
{
    stale_errno();
    unsigned char *p = ap_calloc(1, size);
    require(p == NULL || (p[0] == 0 && p[size / 2] == 0 && p[size - 1] == 0), "not zeroed");
    hold(p, size);
}

static void hold_aligned(size_t alignment, size_t size)
{
    void *p = NULL;
    stale_errno();
    int error = ap_posix_memalign(&p, alignment, size);
    require(error == (p != NULL ? 0 : ENOMEM), "posix_memalign");
    require((size_t)p % alignment == 0, "not aligned");
    hold(p, size);
}

/* Returns the block that is there afterwards. */
static unsigned char *resize(unsigned char *p, size_t *size, size_t wanted)
{
    stale_errno();
    unsigned char *moved = ap_realloc(p, wanted);
    check_result(moved);
    if (moved != NULL) {
        *size = wanted;
        return moved;
    }
    return p;
}

/* ------------------------------------------------------------ scenarios */

static void small_blocks(void)
{
    for (size_t i = 0; i < 1500; i++) {
        hold_malloc(1 + i * 37 % 5000);
    }
}

static void big_small_blocks(void)
{
    for (size_t size = 8 << 10; size <= 256 << 10; size += 8 << 10) {
        hold_calloc(size);
    }
}

static void large_objects(void)
{
    for (size_t i = 0; i < 60; i++) {
        hold_malloc(LARGE + i * 64);
        hold_calloc(LARGE + i * 64);
        if (i % 4 == 3) {
            give(held_count != 0 ? held[--held_count].p : NULL);
        }
    }
}

/* More than the first table holds, and the second. */
static void table_growth(void)
{
    for (size_t i = 0; i < 1200; i++) {
        hold_malloc(LARGE);
    }
}

static void reallocations(void)
{
    size_t size = 100;
    stale_errno();
    unsigned char *p = ap_malloc(size);
    check_result(p);
    void *wall = NULL;
    for (int i = 0; i < 28 && p != NULL; i++) {
        size_t before = size;
        p[0] = 5;
        p[size - 1] = 6;
        p = resize(p, &size, size * 3 / 2 + 1);
        require(p[0] == 5 && p[before - 1] == 6, "contents are not kept");
        give(wall);
        wall = ap_malloc(300000); /* keeps the next growth from staying in place */
    }
    for (; p != NULL && size > 100;) {
        p[0] = 7;
        p = resize(p, &size, size / 3 + 1);
        require(p[0] == 7, "contents are not kept");
    }
    give(wall);
    give(p);
}

static void aligned_blocks(void)
{
    for (size_t alignment = 16; alignment <= 16 << 20; alignment *= 2) {
        hold_aligned(alignment, 100);
        hold_aligned(alignment, 300000);
    }
    stale_errno();
    hold(ap_pvalloc(5), 4096);
    stale_errno();
    hold(ap_valloc(5), 5);
    stale_errno();
    hold(ap_memalign(64, 1000), 1000);
    stale_errno();
    hold(ap_aligned_alloc(4096, 8192), 8192);
}

static void trim(void)
{
    small_blocks();
    large_objects();
    check_and_free_all();
    stale_errno();
    (void)ap_trim();
    (void)ap_malloc_trim(0);
    ap_thread_idle();
    require(errno == STALE_ERRNO, "trim changed errno");
    small_blocks();
}

static void decay(void)
{
    uint64_t now_ms = 1000000;
    small_blocks();
    large_objects();
    check_and_free_all();
    ap__decay_expect_work();
    stale_errno();
    for (int i = 0; i < 60; i++) {
        (void)ap__decay_step(now_ms += 200);
    }
    require(errno == STALE_ERRNO, "decay changed errno");
}

static void statistics(void)
{
    FILE *nowhere = fopen("/dev/null", "w");
    small_blocks();
    stale_errno();
    (void)ap_mallinfo2();
    (void)ap_mallinfo();
    if (nowhere != NULL) {
        (void)ap_malloc_info(0, nowhere);
    }
    ap_malloc_stats();
    require(errno == STALE_ERRNO, "statistics changed errno");
    require(ap_good_size(100) == 112, "good size");
    if (nowhere != NULL) {
        (void)fclose(nowhere);
    }
}

/* The group's files, which stay open, and readings of these. */
static void limits(void)
{
    uint64_t now_ms = 1000000;
    int next = dup(STDERR_FILENO);
    (void)close(next);
    stale_errno();
    ap_update_limits();
    ap__soft_limit_update_now_and_then(now_ms);
    require(errno == STALE_ERRNO, "limits changed errno");
    small_blocks();
    ap_update_limits();
    ap__soft_limit_update_now_and_then(now_ms + 5000);
    int next_after = dup(STDERR_FILENO);
    require(close(next_after) != 0 || next_after == next, "a descriptor is lost");
}

static void fork_and_use(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        ap_free(ap_malloc(1 << 20));
        ap_free(ap_malloc(100));
        _exit(consistency_find_fault_in_child() == NULL ? 0 : 1);
    }
    int status = 0;
    require(pid > 0 && waitpid(pid, &status, 0) == pid, "fork");
    require(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a forked child");
}

static void forks(void)
{
    for (int i = 0; i < 2; i++) {
        fork_and_use();
        small_blocks();
        check_and_free_all();
    }
}

/* --- threads --- */

static void *use_a_little(void *unused)
{
    for (size_t size = 100; size < 20000; size += 1500) {
        stale_errno();
        void *p = ap_malloc(size);
        check_result(p);
        give(p);
    }
    return unused;
}

static void thread_starts(void)
{
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, use_a_little, NULL) == 0) {
            (void)pthread_join(thread, NULL);
        }
    }
}

static pthread_t parked[THREADS];
static pthread_barrier_t parked_together;

static void *use_and_park(void *unused)
{
    (void)use_a_little(NULL);
    (void)pthread_barrier_wait(&parked_together);
    (void)pthread_barrier_wait(&parked_together);
    return unused;
}

static void park_threads(void)
{
    (void)pthread_barrier_init(&parked_together, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++) {
        require(pthread_create(&parked[i], NULL, use_and_park, NULL) == 0, "a thread");
    }
    (void)pthread_barrier_wait(&parked_together);
}

static void thread_exits(void)
{
    (void)pthread_barrier_wait(&parked_together);
    for (int i = 0; i < THREADS; i++) {
        (void)pthread_join(parked[i], NULL);
    }
}

/* Slow paths enough for a helper, beside threads that have caches. */
static void helper_start(void)
{
    for (int i = 0; i < 2; i++) {
        small_blocks();
        hold_malloc(LARGE);
        check_and_free_all();
        ap_thread_idle();
    }
    thread_exits();
}

const struct scenario scenarios[] = {
    {"small blocks", NULL, small_blocks},
    {"big small blocks", NULL, big_small_blocks},
    {"large objects", NULL, large_objects},
    {"table growth", NULL, table_growth},
    {"reallocations", NULL, reallocations},
    {"aligned blocks", NULL, aligned_blocks},
    {"trim", NULL, trim},
    {"decay", NULL, decay},
    {"statistics", NULL, statistics},
    {"limits", NULL, limits},
    {"forks", NULL, forks},
    {"thread starts", NULL, thread_starts},
    {"thread exits", park_threads, thread_exits},
    {"helper start", park_threads, helper_start},
};
const size_t scenario_count = sizeof scenarios / sizeof scenarios[0];

/* ------------------------------------------------------------ during and after */

static void check_consistency(const char *when)
{
    const char *fault = consistency_find_fault();
    if (fault != NULL) {
        fprintf(stderr, "%s: %s\n", when, fault);
        abort();
    }
}

static void one_of_each(void)
{
    hold_malloc(24);
    hold_calloc(3000);
    hold_malloc(100000);
    hold_malloc(LARGE);
    hold_calloc(2 * LARGE);
    hold_aligned(4096, 5000);
    hold_aligned(1 << 20, 5000);
}

void service_begin(void)
{
    check_consistency("before");
    live_before = consistency_sums().live_blocks;
    large_before = consistency_sums().large_spans;
}

void service_continues(void)
{
    size_t count = held_count;
    one_of_each();
    check_consistency("while calls fail");
    while (held_count > count) {
        give(held[--held_count].p);
    }
    check_consistency("while calls fail, after a few were freed");
}

static void check_nothing_is_lost(void)
{
    struct consistency_sums sums = consistency_sums();
    require(sums.live_blocks == live_before, "a small block is lost");
    require(sums.large_spans == large_before, "a large object is lost");
    require(sums.cached_blocks == 0 && sums.transfer_blocks == 0, "a cache is lost");
    require(ap__thread_count() <= 1, "a thread that has ended has a cache");
}

void service_is_back(void)
{
    check_and_free_all();
    small_blocks();
    large_objects();
    require(held_count == 1500 + 105, "not all allocations succeed again");
    check_and_free_all();
    ap_thread_idle();
    (void)ap_trim();
    check_consistency("after");
    check_nothing_is_lost();
    fork_and_use();
}
