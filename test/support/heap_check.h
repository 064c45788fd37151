/* SPDX-License-Identifier: MIT */
/*
 * heap_check.h: consistency.h for Criterion: the running test fails where an invariant does not hold.
 */
#ifndef TEST_SUPPORT_HEAP_CHECK_H
#define TEST_SUPPORT_HEAP_CHECK_H

#include "support/consistency.h"

/* All layers. */
struct consistency_sums heap_check(void);

/* The page heap only: for tests that take spans from it themselves. */
struct consistency_sums page_heap_check(void);

#endif
