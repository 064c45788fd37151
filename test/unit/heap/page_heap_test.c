/* SPDX-License-Identifier: MIT */
/*
 * page_heap_test.c: spans taken, given, grown, purged.
 * Goal: best fit, coalescing, alignment, exactness of what is known to be zero, and an unharmed heap
 * whatever the kernel refuses. Method: short sequences with known outcomes, and a random one beside a
 * list of what is held; heap_check() walks the whole heap in between. Seeds are printed.
 */
#include "heap/page_heap.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include "support/heap_check.h"
#include "support/os_faults.h"

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

static void init(size_t reserve_bytes)
{
    cr_assert(ap__region_init(reserve_bytes));
}

static struct ap__span *take(size_t granules)
{
    struct ap__span *span = ap__page_heap_take(granules, AP_GRANULE, 0);
    cr_assert_not_null(span);
    span->large.size_bytes = granules * AP_GRANULE;
    return span;
}

static struct ap__page_heap_stats stats(void)
{
    struct ap__page_heap_stats figures;
    ap__page_heap_stats(&figures);
    return figures;
}

Test(page_heap, first_spans_are_neighbours_from_the_start_of_the_region)
{
    init(GIB);
    struct ap__span *a = take(1);
    struct ap__span *b = take(3);
    cr_assert_eq(a->start, ap__region_address_of(ap__region_first_granule()));
    cr_assert_eq(b->start, a->start + AP_GRANULE);
    memset((void *)b->start, 1, 3 * AP_GRANULE);
    heap_check();
}

Test(page_heap, best_fit_takes_the_shortest_and_of_those_the_lowest)
{
    init(GIB);
    struct ap__span *spans[9];
    static const size_t lengths[9] = {4, 1, 2, 1, 3, 1, 2, 1, 1};
    uintptr_t starts[9];
    for (int i = 0; i < 9; i++) {
        spans[i] = take(lengths[i]);
        starts[i] = spans[i]->start;
    }
    for (int i = 0; i < 8; i += 2) {
        ap__page_heap_give(spans[i]);
    }
    cr_assert_eq(take(2)->start, starts[2]);
    cr_assert_eq(take(2)->start, starts[6]);
    cr_assert_eq(take(2)->start, starts[4]);
    cr_assert_eq(take(4)->start, starts[0]);
    heap_check();
}

Test(page_heap, neighbours_become_one_in_whatever_order_they_are_freed)
{
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    init(GIB);
    for (int i = 0; i < 6; i++) {
        struct ap__span *spans[3] = {take(2), take(3), take(4)};
        struct ap__span *wall = take(1);
        uintptr_t start = spans[0]->start;
        for (int k = 0; k < 3; k++) {
            ap__page_heap_give(spans[orders[i][k]]);
            heap_check();
        }
        struct ap__span *all = take(9);
        cr_assert_eq(all->start, start);
        ap__page_heap_give(all);
        ap__page_heap_give(wall);
        cr_assert_eq(heap_check().free_spans, 1);
    }
}

Test(page_heap, alignments_are_kept_and_what_is_cut_off_stays_usable)
{
    init(8 * GIB);
    for (size_t alignment = AP_GRANULE; alignment <= GIB; alignment *= 2) {
        struct ap__span *wall = take(1);
        struct ap__span *span = ap__page_heap_take(3, alignment, 0);
        cr_assert_not_null(span);
        cr_assert_eq(span->start % alignment, 0);
        cr_assert_eq(span->granules, 3);
        heap_check();
        ap__page_heap_give(span);
        ap__page_heap_give(wall);
        cr_assert_eq(heap_check().free_spans, 1);
    }
}

Test(page_heap, small_spans_are_in_both_maps_until_they_are_given_back)
{
    init(GIB);
    struct ap__span *span = ap__page_heap_take(5, AP_GRANULE, 17);
    size_t first = ap__region_granule_of(span->start);
    for (size_t i = first; i < first + 5; i++) {
        cr_assert_eq(ap__region_class_of(i), 17);
        cr_assert_eq(ap__page_heap_span_of(ap__region_address_of(i) + 999), span);
    }
    heap_check();
    ap__page_heap_give(span);
    for (size_t i = first; i < first + 5; i++) {
        cr_assert_eq(ap__region_class_of(i), 0);
    }
    heap_check();
}

Test(page_heap, a_span_extends_into_its_free_neighbour_only)
{
    init(GIB);
    struct ap__span *a = take(2);
    struct ap__span *b = take(2);
    struct ap__span *wall = take(1);
    cr_assert(!ap__page_heap_extend(a, 3));
    ap__page_heap_give(b);
    cr_assert(!ap__page_heap_extend(a, 5));
    cr_assert(ap__page_heap_extend(a, 3));
    heap_check();
    cr_assert(ap__page_heap_extend(a, 4));
    cr_assert(!ap__page_heap_extend(a, 5));
    cr_assert_eq(heap_check().large_spans, 2);
    cr_assert_eq(stats().large_bytes, 5 * AP_GRANULE);
    ap__page_heap_give(wall);
}

Test(page_heap, a_shortened_span_frees_its_end)
{
    init(GIB);
    struct ap__span *a = take(10);
    struct ap__span *wall = take(1);
    uintptr_t end = a->start + 4 * AP_GRANULE;
    a->large.size_bytes = 1;
    cr_assert(ap__page_heap_shorten(a, 4));
    heap_check();
    cr_assert_eq(take(6)->start, end);
    ap__page_heap_give(wall);
    heap_check();
}

Test(page_heap, fresh_memory_is_clean_used_memory_is_dirty_purged_memory_is_clean)
{
    init(GIB);
    struct ap__span *a = take(4);
    size_t first = ap__region_granule_of(a->start);
    cr_assert_eq(ap__region_count_dirty(first, 4), 0);
    memset((void *)a->start, 7, 4 * AP_GRANULE);
    ap__page_heap_give(a);
    cr_assert_eq(heap_check().dirty_granules, 4);
    cr_assert_eq(ap__page_heap_purge(), 4 * AP_GRANULE);
    cr_assert_eq(heap_check().dirty_granules, 0);
    cr_assert_eq(ap__page_heap_purge(), 0);
    a = take(4);
    cr_assert_eq(ap__region_granule_of(a->start), first);
    for (size_t i = 0; i < 4 * AP_GRANULE; i++) {
        cr_assert_eq(((char *)a->start)[i], 0);
    }
}

Test(page_heap, a_purge_that_the_kernel_refuses_ends_and_loses_nothing)
{
    init(GIB);
    struct ap__span *a = take(4);
    struct ap__span *wall = take(1);
    struct ap__span *b = take(4);
    struct ap__span *wall2 = take(1);
    ap__page_heap_give(a);
    ap__page_heap_give(b);
    os_faults_fail_always(OS_FAULTS_MADVISE);
    cr_assert_eq(ap__page_heap_purge(), 0);
    cr_assert_eq(heap_check().dirty_granules, 8);
    os_faults_reset();
    cr_assert_eq(ap__page_heap_purge(), 8 * AP_GRANULE);
    ap__page_heap_give(wall);
    ap__page_heap_give(wall2);
    heap_check();
}

Test(page_heap, refused_growth_yields_nothing_and_later_memory)
{
    init(GIB);
    struct ap__span *a = take(1);
    size_t held = stats().free_bytes / AP_GRANULE;
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    os_faults_fail_always(OS_FAULTS_MMAP);
    cr_assert_null(ap__page_heap_take(held + 1, AP_GRANULE, 0));
    heap_check();
    cr_assert_not_null(ap__page_heap_take(held, AP_GRANULE, 0)); /* what there is can be had */
    os_faults_reset();
    cr_assert_not_null(ap__page_heap_take(held + 1, AP_GRANULE, 0));
    ap__page_heap_give(a);
}

Test(page_heap, growth_is_by_chunks_and_falls_back_on_what_is_needed)
{
    init(64 * GIB);
    struct ap__span *a = take(1);
    cr_assert_lt(stats().usable_bytes, 4 * MIB); /* to the end of a huge page, and no further */
    ap__page_heap_give(a);
    struct rlimit limit = {stats().usable_bytes, RLIM_INFINITY};
    /* Too little for another chunk, and for the process's own data: nothing can be had. */
    cr_assert_eq(setrlimit(RLIMIT_DATA, &limit), 0);
    cr_assert_null(ap__page_heap_take(1000, AP_GRANULE, 0));
    limit.rlim_cur = RLIM_INFINITY;
    cr_assert_eq(setrlimit(RLIMIT_DATA, &limit), 0);
    cr_assert_not_null(ap__page_heap_take(1000, AP_GRANULE, 0));
}

Test(page_heap, a_used_up_region_is_continued_outside)
{
    init(8 * MIB);
    struct ap__span *inside[200];
    size_t count = 0;
    struct ap__span *outside = NULL;
    while (outside == NULL) {
        struct ap__span *span = ap__page_heap_take(4, AP_GRANULE, count % 2 == 0 ? 0 : 50);
        cr_assert_not_null(span);
        cr_assert_not(span->outside && ap__region_contains(span->start));
        if (span->outside) {
            outside = span;
        } else {
            inside[count++] = span;
        }
    }
    memset((void *)outside->start, 1, 4 * AP_GRANULE);
    struct ap__span *small = ap__page_heap_take(4, AP_GRANULE, 50);
    cr_assert(small->outside);
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(ap__page_heap_span_of(small->start + i * AP_GRANULE + 5), small);
    }
    uintptr_t gone = small->start;
    ap__page_heap_give(small);
    cr_assert_null(ap__page_heap_span_of(gone));
    struct ap__span *aligned = ap__page_heap_take(2, 4 * MIB, 0);
    cr_assert_eq(aligned->start % (4 * MIB), 0);
    ap__page_heap_give(aligned);
    ap__page_heap_give(outside);
    while (count-- > 0) {
        ap__page_heap_give(inside[count]);
    }
    cr_assert_eq(heap_check().free_spans, 1);
}

Test(page_heap, without_any_region_all_spans_are_outside)
{
    struct ap__span *span = ap__page_heap_take(4, AP_GRANULE, 0);
    cr_assert(span != NULL && span->outside);
    memset((void *)span->start, 1, 4 * AP_GRANULE);
    cr_assert_eq(stats().usable_bytes, 4 * AP_GRANULE);
    ap__page_heap_give(span);
    cr_assert_eq(stats().usable_bytes, 0);
}

enum { HELD_MAX = 120, ROUNDS = 20000, CHECK_EVERY = 97 };

static size_t random_below(size_t n)
{
    return (size_t)rand() % n;
}

static struct ap__span *take_random(void)
{
    size_t granules = 1 + random_below(random_below(8) == 0 ? 300 : 12);
    size_t alignment = AP_GRANULE << random_below(random_below(4) == 0 ? 7 : 1);
    unsigned size_class = random_below(2) == 0 ? 0 : 1 + (unsigned)random_below(AP_CLASS_COUNT - 1);
    struct ap__span *span = ap__page_heap_take(granules, alignment, size_class);
    cr_assert_not_null(span);
    cr_assert_eq(span->start % alignment, 0);
    if (size_class == 0) {
        span->large.size_bytes = 1;
    }
    *(volatile char *)span->start = 1;
    return span;
}

static void resize_random(struct ap__span *span)
{
    size_t granules = 1 + random_below(2 * span->granules);
    if (granules > span->granules) {
        (void)ap__page_heap_extend(span, granules);
    } else if (granules < span->granules) {
        cr_assert(ap__page_heap_shorten(span, granules));
    }
}

Test(page_heap, invariants_hold_through_random_use)
{
    unsigned seed = (unsigned)time(NULL);
    printf("# page_heap: seed %u\n", seed);
    srand(seed);
    init(64 * GIB);
    static struct ap__span *held[HELD_MAX];
    for (int round = 0; round < ROUNDS; round++) {
        size_t i = random_below(HELD_MAX);
        if (held[i] == NULL) {
            held[i] = take_random();
        } else if (held[i]->state == AP__SPAN_LARGE && random_below(3) == 0) {
            resize_random(held[i]);
        } else {
            ap__page_heap_give(held[i]);
            held[i] = NULL;
        }
        if (random_below(500) == 0) {
            (void)ap__page_heap_purge();
        }
        if (round % CHECK_EVERY == 0) {
            heap_check();
        }
    }
    for (size_t i = 0; i < HELD_MAX; i++) {
        if (held[i] != NULL) {
            ap__page_heap_give(held[i]);
        }
    }
    cr_assert_eq(heap_check().free_spans, 1);
    (void)ap__page_heap_purge();
    cr_assert_eq(heap_check().dirty_granules, 0);
}
