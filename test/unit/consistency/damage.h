/* SPDX-License-Identifier: MIT */
/*
 * damage.h: the ways into what layers keep to themselves, to spoil it.
 *
 * Each is defined by a file that includes the layer's source, so that the test's program has that copy.
 */
#ifndef TEST_UNIT_CONSISTENCY_DAMAGE_H
#define TEST_UNIT_CONSISTENCY_DAMAGE_H

#include <stddef.h>

/* The page heap's own sums. */
enum damage_page_heap_sum {
    DAMAGE_FREE_GRANULES,
    DAMAGE_LARGE_GRANULES,
    DAMAGE_LARGE_COUNT,
    DAMAGE_OUTSIDE_GRANULES,
    DAMAGE_TREE_COUNT,
    DAMAGE_SHORT_DIRTY,
    DAMAGE_LONG_DIRTY
};
void damage_page_heap_sum(enum damage_page_heap_sum which);

/* The newest span of the list of long dirty spans is taken off it, and off nothing else. */
void damage_forget_long_dirty(void);

/* A free span is taken out of the tree, and out of nothing else; and its count set right. */
void damage_forget_free(void);

/* Counts of one class' first shard. */
enum damage_central_count {
    DAMAGE_SPANS,
    DAMAGE_CLAIMED,
    DAMAGE_UNCLAIMED,
    DAMAGE_OCCUPIED,
    DAMAGE_SPARE
};
void damage_central_count(unsigned size_class, enum damage_central_count which);

/* The first span of the class that is on a list is taken off it, and says that it is there. */
void damage_forget_listed(unsigned size_class);

/* One stack of shard 0. */
enum damage_transfer {
    DAMAGE_TRANSFER_COUNT,
    DAMAGE_TRANSFER_LIMIT,
    DAMAGE_TRANSFER_UNUSED,
    DAMAGE_TRANSFER_BLOCK /* becomes the next one */
};
void damage_transfer(unsigned size_class, enum damage_transfer which);

/* Its first block becomes another. */
void damage_transfer_put(unsigned size_class, void *p);

#endif
