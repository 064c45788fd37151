/* SPDX-License-Identifier: MIT */
/*
 * page_heap_purge_test.c: free spans go back to the kernel while others use the page heap.
 * Goal: nothing of theirs is taken, most of what is free is left to them meanwhile, and a refusal loses nothing. Method:
 * threads beside a purge; a look at the moment of the system call. page_heap_check() walks the whole heap.
 */
#include "heap/page_heap.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "support/heap_check.h"
#include "support/os_faults.h"
#include "take_spans.h"

Test(page_heap_purge, a_purge_that_the_kernel_refuses_ends_and_loses_nothing)
{
    init(GIB);
    struct ap__span *a = take(4);
    struct ap__span *wall = take(1);
    struct ap__span *b = take(4);
    struct ap__span *wall2 = take(1);
    ap__page_heap_give(a);
    ap__page_heap_give(b);
    os_faults_fail_always(OS_FAULTS_MADVISE);
    cr_assert_eq(ap__page_heap_purge_all(), 0);
    cr_assert_eq(page_heap_check().dirty_granules, 8);
    os_faults_reset();
    cr_assert_eq(ap__page_heap_purge_all(), 8 * AP_GRANULE);
    ap__page_heap_give(wall);
    ap__page_heap_give(wall2);
    page_heap_check();
}

/* ------------------------------------------------------------ threads */

enum { THREADS = 3, OPERATIONS = 20000, HELD_BY_THREAD = 8 };

static _Atomic(bool) stop;
static pthread_barrier_t start;

static void take_and_give(unsigned seed)
{
    struct ap__span *mine[HELD_BY_THREAD] = {NULL};
    for (int i = 0; i < OPERATIONS; i++) {
        size_t k = (size_t)rand_r(&seed) % HELD_BY_THREAD;
        if (mine[k] != NULL) {
            cr_assert_eq(*(volatile uintptr_t *)mine[k]->start, (uintptr_t)&mine[k]);
            ap__page_heap_give(mine[k]);
        }
        mine[k] = take(1 + (size_t)rand_r(&seed) % 6);
        volatile uintptr_t *word = (volatile uintptr_t *)mine[k]->start;
        if (ap__region_is_clean(ap__region_granule_of(mine[k]->start))) {
            cr_assert_eq(*word, 0, "known to be zero");
        }
        *word = (uintptr_t)&mine[k];
    }
    for (size_t k = 0; k < HELD_BY_THREAD; k++) {
        if (mine[k] != NULL) {
            ap__page_heap_give(mine[k]);
        }
    }
}

static void *take_and_give_in_thread(void *number)
{
    pthread_barrier_wait(&start);
    take_and_give((unsigned)(uintptr_t)number);
    return NULL;
}

static void *purge_until_told(void *unused)
{
    pthread_barrier_wait(&start);
    while (!atomic_load(&stop)) {
        (void)ap__page_heap_purge_all();
    }
    return unused;
}

Test(page_heap_purge, a_purge_beside_other_threads_takes_nothing_of_theirs, .timeout = 100)
{
    init(GIB);
    pthread_t threads[THREADS];
    pthread_t purging;
    pthread_barrier_init(&start, NULL, THREADS + 1);
    cr_assert_eq(pthread_create(&purging, NULL, purge_until_told, NULL), 0);
    for (uintptr_t i = 0; i < THREADS; i++) {
        cr_assert_eq(pthread_create(&threads[i], NULL, take_and_give_in_thread, (void *)i), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    atomic_store(&stop, true);
    pthread_join(purging, NULL);
    cr_assert_eq(page_heap_check().free_spans, 1);
}

/* ------------------------------------------------------------ what is left to others meanwhile */

enum { BIG_GRANULES = 2048, PIECE_GRANULES = 700 };
static unsigned purges_watched;

static void take_during_purge(void)
{
    size_t usable_bytes = stats().usable_bytes;
    os_faults_watch(OS_FAULTS_MADVISE, NULL); /* but for the calls that are made now */
    struct ap__span *span = take(PIECE_GRANULES);
    cr_assert_eq(stats().usable_bytes, usable_bytes, "the heap grew during a purge");
    ap__page_heap_give(span);
    os_faults_watch(OS_FAULTS_MADVISE, take_during_purge);
    purges_watched++;
}

static void purge_ends(bool both)
{
    init(GIB);
    struct ap__span *head = take(4);
    struct ap__span *middle = take(BIG_GRANULES - 8);
    struct ap__span *tail = take(4);
    ap__page_heap_give(both ? middle : tail);
    (void)ap__page_heap_purge_all();
    ap__page_heap_give(head);
    ap__page_heap_give(both ? tail : middle);
    os_faults_watch(OS_FAULTS_MADVISE, take_during_purge);
    (void)ap__page_heap_purge(AP__DIRTY_LONG, 0);
    os_faults_reset();
    cr_assert_neq(purges_watched, 0);
    (void)ap__page_heap_purge_all();
    cr_assert_eq(page_heap_check().dirty_granules, 0);
    cr_assert_eq(page_heap_check().free_spans, 1);
}

Test(page_heap_purge, a_purge_of_all_but_one_end_leaves_most_of_a_big_span_to_others)
{
    purge_ends(false);
}

Test(page_heap_purge, a_purge_of_a_little_at_both_ends_leaves_most_of_a_big_span_to_others)
{
    purge_ends(true);
}

/* While a span is being purged nobody can have it. That must not be all of a big one. */
Test(page_heap_purge, a_purge_leaves_the_rest_of_a_long_span_to_others, .timeout = 100)
{
    enum { LONG_GRANULES = 2048, TAKES = 200 };
    struct ap__page_heap_stats before, after;
    pthread_t purging;
    init(GIB);
    pthread_barrier_init(&start, NULL, 2);
    struct ap__span *span = ap__page_heap_take(LONG_GRANULES, AP_GRANULE, 0);
    cr_assert_not_null(span);
    ap__page_heap_give(span);
    ap__page_heap_stats(&before);
    cr_assert_eq(pthread_create(&purging, NULL, purge_until_told, NULL), 0);
    pthread_barrier_wait(&start);
    for (unsigned i = 0; i < TAKES; i++) {
        /* There is room for it on one side of what is being purged. Its pages make the purge slow. */
        span = ap__page_heap_take(LONG_GRANULES / 4, AP_GRANULE, 0);
        cr_assert_not_null(span);
        for (size_t at = 0; at < ap__span_bytes(span); at += 4096) {
            ((volatile char *)span->start)[at] = 1;
        }
        ap__page_heap_give(span);
    }
    atomic_store(&stop, true);
    cr_assert_eq(pthread_join(purging, NULL), 0);
    ap__page_heap_stats(&after);
    cr_assert_leq(after.usable_bytes, before.usable_bytes, "the heap grew by %zu KiB",
                  (after.usable_bytes - before.usable_bytes) >> 10);
}
