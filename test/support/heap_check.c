/* SPDX-License-Identifier: MIT */
/*
 * heap_check.c: the walk.
 */
#include "support/heap_check.h"

#include <criterion/criterion.h>

#include "heap/page_heap.h"

static void check_maps(const struct ap__span *span, size_t first)
{
    unsigned size_class = span->state == AP__SPAN_SMALL ? span->size_class : 0;
    for (size_t i = first; i < first + span->granules; i++) {
        cr_assert_eq(ap__region_class_of(i), size_class);
        if (size_class != 0) {
            cr_assert_eq(ap__region_span_of(i), span);
        }
    }
}

static void add(struct heap_check *sums, const struct ap__span *span)
{
    size_t first = ap__region_granule_of(span->start);
    switch (span->state) {
    case AP__SPAN_FREE:
        sums->free_spans++;
        sums->free_granules += span->granules;
        sums->dirty_granules += span->tree.dirty_granules;
        cr_assert_eq(span->tree.dirty_granules, ap__region_count_dirty(first, span->granules));
        break;
    case AP__SPAN_LARGE:
        sums->large_spans++;
        sums->large_granules += span->granules;
        break;
    case AP__SPAN_SMALL:
        sums->small_spans++;
        break;
    default:
        cr_assert_fail("span in state %u", span->state);
    }
}

struct heap_check heap_check(void)
{
    struct heap_check sums = {0};
    bool free_before = false;
    size_t limit = ap__region_limit_granules();
    for (size_t at = ap__region_first_granule(); at < limit;) {
        const struct ap__span *span = ap__region_span_of(at);
        cr_assert(span != NULL && ap__span_is_valid(span));
        cr_assert_eq(ap__region_granule_of(span->start), at);
        cr_assert_leq(at + span->granules, limit);
        cr_assert_eq(ap__region_span_of(at + span->granules - 1), span);
        bool is_free = span->state == AP__SPAN_FREE;
        cr_assert(!(is_free && free_before), "two free spans side by side");
        free_before = is_free;
        check_maps(span, at);
        add(&sums, span);
        at += span->granules;
    }
    struct ap__page_heap_stats stats;
    ap__page_heap_stats(&stats);
    cr_assert_eq(stats.free_spans, sums.free_spans);
    cr_assert_eq(stats.free_bytes, sums.free_granules * AP_GRANULE);
    cr_assert_eq(stats.dirty_bytes, sums.dirty_granules * AP_GRANULE);
    if (stats.usable_bytes == ap__region_usable_bytes()) { /* no span is outside */
        cr_assert_eq(stats.large_spans, sums.large_spans);
        cr_assert_eq(stats.large_bytes, sums.large_granules * AP_GRANULE);
    }
    return sums;
}
