/* SPDX-License-Identifier: MIT */
/*
 * take_spans.h: a page heap of a certain size, and spans of large objects from it. Needs Criterion.
 */
#ifndef TEST_UNIT_HEAP_TAKE_SPANS_H
#define TEST_UNIT_HEAP_TAKE_SPANS_H

#include <criterion/criterion.h>

#include "heap/page_heap.h"

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

static inline void init(size_t reserve_bytes)
{
    cr_assert(ap__region_init(reserve_bytes));
}

static inline struct ap__span *take(size_t granules)
{
    struct ap__span *span = ap__page_heap_take(granules, AP_GRANULE, 0);
    cr_assert_not_null(span);
    span->large.size_bytes = granules * AP_GRANULE;
    return span;
}

static inline struct ap__page_heap_stats stats(void)
{
    struct ap__page_heap_stats figures;
    ap__page_heap_stats(&figures);
    return figures;
}

#endif
