/* SPDX-License-Identifier: MIT */
/*
 * spoil.h: everything that can be wrong with a heap: each is done alone, and must be named by the walk.
 *
 * A list for each part of the walk; those parts that layers keep to themselves are reached by damage.h.
 */
#ifndef TEST_UNIT_CONSISTENCY_SPOIL_H
#define TEST_UNIT_CONSISTENCY_SPOIL_H

#include <stddef.h>

#include "heap/page_heap.h"

enum { SMALL = 64, SPREAD_SPANS = 3, LARGES = 7 };

/* What the heap holds that is spoilt. */
struct built {
    unsigned small_class, middling_class, sent_class, packed_class;
    void *small_live, *small_cached, *middling_live, *outside_large, *outside_small;
    void *packed_cached;  /* the newest of its list, below which is another */
    void *larges[LARGES]; /* 0, 2 and 4 are freed: two short spans and a long one */
    struct ap__span *free_long, *free_short;
    struct ap__span *spread[SPREAD_SPANS]; /* of one bucket */
};
extern struct built built;

/* A heap of everything: spans of all kinds, inside of the region and outside, blocks in both kinds of caches. */
void build(void);

static inline struct ap__span *span_of(const void *p)
{
    return ap__page_heap_span_of((uintptr_t)p);
}

struct spoil {
    void (*spoil)(void);
    const char *text; /* what the walk says then, or a part of it */
};

struct spoils {
    const struct spoil *all;
    size_t count;
};
extern const struct spoils spoils_of_page_heap, spoils_of_central, spoils_of_table,
    spoils_of_caches, spoils_of_locks, spoils_of_meta;

#endif
