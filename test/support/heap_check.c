/* SPDX-License-Identifier: MIT */
/*
 * heap_check.c: consistency.c under Criterion.
 */
#include "support/heap_check.h"

#include <criterion/criterion.h>

#include "heap/page_heap.h"

/* The statistics are what the walk has counted. */
static void check_stats(const struct consistency_sums *sums)
{
    struct ap__page_heap_stats stats;
    ap__page_heap_stats(&stats);
    cr_assert_eq(stats.free_spans, sums->free_spans);
    cr_assert_eq(stats.free_bytes, sums->free_granules * AP_GRANULE);
    cr_assert_eq(stats.dirty_bytes, sums->dirty_granules * AP_GRANULE);
    cr_assert_eq(stats.large_spans, sums->large_spans);
    cr_assert_eq(stats.large_bytes, sums->large_granules * AP_GRANULE);
}

static struct consistency_sums no_fault(const char *fault)
{
    cr_assert_null(fault, "%s", fault);
    struct consistency_sums sums = consistency_sums();
    check_stats(&sums);
    return sums;
}

struct consistency_sums heap_check(void)
{
    return no_fault(consistency_find_fault());
}

struct consistency_sums page_heap_check(void)
{
    return no_fault(consistency_find_page_heap_fault());
}
