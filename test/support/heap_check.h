/* SPDX-License-Identifier: MIT */
/*
 * heap_check.h: walks the page heap at rest and asserts its invariants.
 *
 * Spans tile the usable part of the region; each end leads to its span's record; free spans are not
 * adjacent; their dirty counts are those of the clean map; the class map agrees with the spans; the
 * statistics are the sums.
 */
#ifndef TEST_SUPPORT_HEAP_CHECK_H
#define TEST_SUPPORT_HEAP_CHECK_H

#include <stddef.h>

struct heap_check {
    size_t free_spans, free_granules, dirty_granules, large_spans, large_granules, small_spans;
};

/* Fails the running test where an invariant does not hold. */
struct heap_check heap_check(void);

#endif
