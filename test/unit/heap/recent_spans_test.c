/* SPDX-License-Identifier: MIT */
/*
 * recent_spans_test.c: spans that wait for a taker of just their length.
 * Goal: a span has one owner at any time, whoever takes; to the page heap it is free memory as soon as somebody
 * else needs it or asks how much there is. Method: short sequences; threads that mark the spans they own.
 */
#include "heap/recent_spans.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "heap/heap_limits.h"
#include "heap/page_heap.h"
#include "os/lock.h"
#include "support/heap_check.h"

#define MIB ((size_t)1 << 20)

enum { GRANULES = 32, PEAK_GRANULES = 64, THREADS = 6, ROUNDS = 30000 };

static void init(size_t reserve_bytes)
{
    cr_assert(ap__region_init(reserve_bytes));
}

static struct ap__span *take(size_t granules)
{
    struct ap__span *span = ap__page_heap_take_recent(granules);
    if (span == NULL) {
        span = ap__page_heap_take(granules, AP_GRANULE, 0);
    }
    cr_assert_not_null(span);
    cr_assert_eq(span->granules, granules);
    cr_assert_eq(span->state, AP__SPAN_LARGE);
    return span;
}

static struct ap__page_heap_stats stats(void)
{
    struct ap__page_heap_stats figures;
    ap__page_heap_stats(&figures);
    return figures;
}

static uint64_t locks_taken(void)
{
    struct ap__lock_stats sums = {0};
    ap__lock_add_stats(ap__page_heap_lock(), &sums);
    return sums.taken;
}

Test(recent_spans, the_span_given_last_is_the_next_of_its_length_without_the_lock)
{
    init(256 * MIB);
    struct ap__span *span = take(GRANULES);
    uint64_t before = locks_taken();
    for (int i = 0; i < 1000; i++) {
        ap__page_heap_give_recent(span);
        cr_assert_null(ap__page_heap_take_recent(GRANULES - 1));
        cr_assert_null(ap__page_heap_take_recent(GRANULES + 1));
        cr_assert_eq(ap__page_heap_take_recent(GRANULES), span);
        cr_assert_null(ap__page_heap_take_recent(GRANULES));
        cr_assert_not(ap__region_is_clean(ap__region_granule_of(span->start)));
    }
    cr_assert_eq(locks_taken(), before);
    ap__page_heap_give(span);
}

Test(recent_spans, one_that_is_followed_by_another_is_free_memory)
{
    init(256 * MIB);
    struct ap__span *a = take(GRANULES);
    struct ap__span *wall = take(1);
    struct ap__span *b = take(GRANULES);
    ap__page_heap_give_recent(a);
    cr_assert_eq(a->state, AP__SPAN_LARGE);
    ap__page_heap_give_recent(b);
    cr_assert_eq(a->state, AP__SPAN_FREE);
    cr_assert_eq(take(GRANULES), b);
    ap__page_heap_give(wall);
}

Test(recent_spans, spans_that_are_too_long_do_not_wait)
{
    init(256 * MIB);
    struct ap__span *span = take(AP_RECENT_GRANULES_MAX + 1);
    ap__page_heap_give_recent(span);
    cr_assert_null(ap__page_heap_take_recent(AP_RECENT_GRANULES_MAX + 1));
    cr_assert_eq(page_heap_check().free_spans, 1);
}

Test(recent_spans, are_free_memory_to_whoever_asks)
{
    init(256 * MIB);
    size_t bytes = GRANULES * AP_GRANULE;
    ap__page_heap_give_recent(take(GRANULES));
    cr_assert_eq(stats().large_spans, 0);
    cr_assert_eq(stats().dirty_bytes, bytes);
    ap__page_heap_give_recent(take(GRANULES));
    cr_assert_eq(ap__page_heap_dirty_bytes(AP__DIRTY_LONG), bytes);
    ap__page_heap_give_recent(take(GRANULES));
    cr_assert_eq(ap__page_heap_purge_all(), bytes);
    ap__page_heap_give_recent(take(GRANULES));
    ap__page_heap_settle();
    cr_assert_null(ap__recent_spans_take_any());
    cr_assert_eq(page_heap_check().free_spans, 1);
}

Test(recent_spans, are_used_before_the_heap_grows)
{
    init(256 * MIB);
    struct ap__span *span = take(GRANULES);
    size_t usable_bytes = stats().usable_bytes;
    size_t rest = (usable_bytes >> AP_PAGE_HEAP_GRANULE_SHIFT) - GRANULES;
    struct ap__span *others = rest == 0 ? NULL : take(rest);
    ap__page_heap_give_recent(span);
    struct ap__span *small = take(GRANULES / 2);
    cr_assert_eq(stats().usable_bytes, usable_bytes);
    ap__page_heap_give(small);
    if (others != NULL) {
        ap__page_heap_give(others);
    }
}

Test(recent_spans, a_span_extends_into_one)
{
    init(256 * MIB);
    struct ap__span *a = take(GRANULES);
    struct ap__span *b = take(GRANULES);
    cr_assert_eq(b->start, a->start + ap__span_bytes(a));
    ap__page_heap_give_recent(b);
    cr_assert(ap__page_heap_extend(a, GRANULES + GRANULES / 2));
    ap__page_heap_give(a);
    cr_assert_eq(page_heap_check().free_spans, 1);
}

Test(recent_spans, do_not_count_against_a_limit)
{
    init(256 * MIB);
    ap__heap_limits_set_hard(PEAK_GRANULES * AP_GRANULE);
    struct ap__span *span = take(PEAK_GRANULES);
    cr_assert_null(ap__page_heap_take(1, AP_GRANULE, 0));
    ap__page_heap_give_recent(span);
    span = take(PEAK_GRANULES - 1);
    ap__page_heap_give_recent(span);
    cr_assert_eq(take(PEAK_GRANULES)->granules, PEAK_GRANULES);
}

static void *take_mark_and_give(void *number)
{
    unsigned seed = (unsigned)(uintptr_t)number;
    for (int i = 0; i < ROUNDS; i++) {
        struct ap__span *span = take(1 + (size_t)rand_r(&seed) % 3);
        _Atomic(uintptr_t) *word = (_Atomic(uintptr_t) *)span->start;
        cr_assert_eq(atomic_exchange(word, (uintptr_t)number), 0, "a span has two owners");
        cr_assert_eq(atomic_exchange(word, 0), (uintptr_t)number, "a span has two owners");
        ap__page_heap_give_recent(span);
        if (i % 512 == 0) {
            ap__page_heap_settle();
        }
    }
    return NULL;
}

Test(recent_spans, each_has_one_owner, .timeout = 100)
{
    init(256 * MIB);
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) {
        cr_assert_eq(pthread_create(&threads[i], NULL, take_mark_and_give, (void *)(i + 1)), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    cr_assert_eq(stats().large_spans, 0);
    cr_assert_eq(page_heap_check().free_spans, 1);
}
