/* SPDX-License-Identifier: MIT */
/*
 * consistency.h: walks everything the allocator keeps and says what is wrong with it.
 *
 * Does: takes all locks in their order, waits for a purge under way, and compares what is kept in two places
 * or more:
 *   meta          free pieces are aligned and in no page that is empty, empty pages are zero, the sums
 *   page heap     spans tile the region, both ends lead to the record, no two free ones side by side, the
 *                 class map, the tree's order, the dirty lists, that what is known to be zero is, every record in
 *                 exactly one place, the sums
 *   central       bitmaps and counts, words before the first, bucket by the number of free slots, each span on
 *                 the list it says, spans whose pages are gone last, the class' counts
 *   pack          bitmaps, counts and the bounds of runs, the list by the longest run, the pools' counts
 *   large         every large span is in the table once, every entry leads to its span
 *   caches        counts, capacities, room, bytes, grants; every block kept is a claimed slot of its class, or
 *                 a packed block as long as it, and is kept once; the same of transfer caches, without packed ones
 * Does not: allocate, or need Criterion: plain programs can use it. The program must be at rest: no other thread
 * is in the allocator (the library's own helper may be). Use by one thread at a time.
 * Link with internal_dep; the files are `consistency` in test/meson.build.
 */
#ifndef TEST_SUPPORT_CONSISTENCY_H
#define TEST_SUPPORT_CONSISTENCY_H

#include <stddef.h>

/* NULL: all is well. Else a line without its end that says what is wrong and where; valid until the next call. */
const char *consistency_find_fault(void);

/*
 * The same in a forked child whose parent had other threads. It may have lost what they had in their hands: the
 * blocks in their caches, large spans on the way from or to the table, spans that were being purged.
 */
const char *consistency_find_fault_in_child(void);

/* The page heap only: for tests that take spans from it directly, which nobody has entered anywhere. */
const char *consistency_find_page_heap_fault(void);

/* For how long a lock may be held by others before that is a fault. */
extern unsigned consistency_lock_seconds;

/* What the last walk counted; complete if it found no fault. */
struct consistency_sums {
    size_t free_spans, free_granules, dirty_granules, large_spans, large_granules, small_spans;
    size_t outside_spans, packed_spans, packed_blocks;
    size_t claimed_blocks;       /* of spans; the other two and those that the program has */
    size_t cached_blocks;        /* of these in thread caches */
    size_t transfer_blocks;      /* in transfer caches */
    size_t cached_packed_blocks; /* of the packed ones, in either */
    size_t live_blocks;          /* small ones that the program has, or has lost */
};
struct consistency_sums consistency_sums(void);

#endif
