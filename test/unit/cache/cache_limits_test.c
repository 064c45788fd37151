/* SPDX-License-Identifier: MIT */
/*
 * cache_limits_test.c: the bounds of thread caches.
 * Goal: neither bound is ever passed, also when threads ask at once; capacities suit every class.
 * Method: greedy callers, one and many.
 */
#include "cache/cache_limits.h"

#include <criterion/criterion.h>
#include <pthread.h>

#include "heap/heap_limits.h"

enum { THREADS = 4 };
#define KIB ((size_t)1 << 10)

static size_t take_all(size_t request)
{
    size_t granted = 0;
    size_t more;
    while ((more = ap__cache_limits_grant(granted, request)) != 0) {
        cr_assert_geq(more, request);
        granted += more;
    }
    return granted;
}

Test(cache_limits, a_thread_gets_its_bound_and_no_more)
{
    ap__cache_limits_init(1024 * KIB, 1 << 30);
    cr_assert_eq(take_all(1), 1024 * KIB);
    cr_assert_eq(ap__cache_limits_grant(0, 1025 * KIB), 0);
}

Test(cache_limits, all_threads_together_get_the_total_and_what_is_released_again)
{
    ap__cache_limits_init(1024 * KIB, 1536 * KIB);
    cr_assert_eq(take_all(64 * KIB), 1024 * KIB);
    cr_assert_eq(take_all(64 * KIB), 512 * KIB);
    cr_assert_eq(take_all(64 * KIB), 0);
    ap__cache_limits_release(128 * KIB);
    cr_assert_eq(take_all(64 * KIB), 128 * KIB);
    ap__cache_limits_reset_in_child(1024 * KIB);
    cr_assert_eq(take_all(64 * KIB), 512 * KIB);
}

Test(cache_limits, bounds_of_0_grant_nothing)
{
    ap__cache_limits_init(0, 1 << 30);
    cr_assert_eq(take_all(1), 0);
    ap__cache_limits_init(1 << 30, 0);
    cr_assert_eq(take_all(1), 0);
}

Test(cache_limits, under_pressure_bounds_are_small_and_not_nothing)
{
    ap__cache_limits_init(2048 * KIB, 1 << 30);
    ap__heap_limits_set_soft(1);
    ap__heap_limits_note(16 * 1024 * KIB, 0);
    cr_assert_eq(take_all(1), 256 * KIB, "a thread: an eighth of its bound");
    cr_assert_eq(take_all(64 * KIB), 256 * KIB);
    cr_assert_eq(take_all(64 * KIB), 256 * KIB);
    cr_assert_eq(take_all(64 * KIB), 256 * KIB);
    cr_assert_eq(take_all(64 * KIB), 0, "all together: a sixteenth of what is in use");
    ap__heap_limits_note(16 * 1088 * KIB, 0);
    cr_assert_eq(take_all(64 * KIB), 64 * KIB);
    ap__heap_limits_set_soft(SIZE_MAX);
    ap__heap_limits_note(16 * 1088 * KIB, 0);
    cr_assert_eq(take_all(64 * KIB), 2048 * KIB);
}

Test(cache_limits, under_pressure_the_total_still_holds)
{
    ap__cache_limits_init(2048 * KIB, 128 * KIB);
    ap__heap_limits_set_soft(1);
    ap__heap_limits_note((size_t)1 << 40, 0);
    cr_assert_eq(take_all(64 * KIB), 128 * KIB);
    cr_assert_eq(take_all(64 * KIB), 0);
}

static void *greedy(void *unused)
{
    (void)unused;
    return (void *)take_all(KIB);
}

Test(cache_limits, the_total_holds_when_threads_ask_at_once)
{
    pthread_t threads[THREADS];
    ap__cache_limits_init(1 << 30, 64 << 20);
    for (int i = 0; i < THREADS; i++) {
        cr_assert_eq(pthread_create(&threads[i], NULL, greedy, NULL), 0);
    }
    size_t sum = 0;
    for (int i = 0; i < THREADS; i++) {
        void *granted;
        pthread_join(threads[i], &granted);
        sum += (size_t)granted;
    }
    cr_assert_eq(sum, 64 << 20);
}

Test(cache_limits, capacities_suit_every_class)
{
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        unsigned first = ap__cache_limits_initial_capacity(c);
        unsigned most = ap__cache_limits_capacity_max(c);
        unsigned refill = ap__cache_limits_initial_refill(c);
        cr_assert(first >= 1 && first <= most);
        cr_assert(refill >= 1 && refill <= first);
        cr_assert_geq(most, ap__size_class[c].batch);
        cr_assert(most * (size_t)ap__size_class[c].size <= 256 * KIB || most == 2);
    }
}

Test(cache_limits, refills_suit_every_class)
{
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        size_t size = ap__size_class[c].size;
        unsigned batch = ap__size_class[c].batch;
        unsigned most = ap__cache_limits_refill_max(c);
        cr_assert(most >= batch && most <= AP_STREAK_MAX, "class %u: %u", c, most);
        cr_assert(most * size <= 32 * KIB || most * size <= batch * size, "class %u: %u", c, most);
        cr_assert_leq(most, ap__cache_limits_capacity_max(c));
    }
}
