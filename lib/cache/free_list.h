/* SPDX-License-Identifier: MIT */
/*
 * free_list.h: a bounded LIFO stack of block addresses, outside the blocks.
 *
 *      bottom                       top              full              bottom + room
 *        |                           |                |                      |
 *      [NULL][oldest][ ... ][newest block][  unused  ... ][ room to grow ... ]
 *
 * `top` points at the newest block, or at the NULL below all of them: so pop needs no comparison with
 * the bottom, the NULL that it reads says "empty". Push compares top with `full`. Never used lists
 * share one static NULL as their bottom, top and full: empty and full at once, so the hit paths need no
 * check for a list, or a cache, that does not exist yet.
 *
 * The fold. How far a list was used between two visits is found out without a counter on the hit
 * path: the visit hides what lies below the newest blocks behind a second NULL, by exchanging the block in word
 * `hidden` with the NULL in word 0. A pop that runs into it comes to the slow path and unfolds. A fold that
 * is still there at the next visit means that its blocks were not needed in between. What a fold
 * hides, other threads can take when it has stood for long: see fold.h and idle.h.
 *
 *      [block h][1][ ... ][h: NULL][h+1][ ... ][newest]
 *
 * Written by the owning thread only. top and the words are atomics because others may look (statistics,
 * the search for a double free); relaxed throughout: what they see may be late.
 *
 * Idea: the magazines of Bonwick and Adams, jemalloc's cache bins; the fold replaces jemalloc's
 * low-water mark, which costs its hit path a comparison.
 */
#ifndef AP_CACHE_FREE_LIST_H
#define AP_CACHE_FREE_LIST_H

#include <stdatomic.h>

#include "base/compiler.h"

typedef _Atomic(void *) ap__slot;

/* What the hit paths read and write. */
struct ap__free_list {
    _Atomic(ap__slot *) top;
    ap__slot *full;
};

/* What only the slow paths need. */
struct ap__free_list_info {
    _Atomic(ap__slot *) bottom; /* NULL: never used */
    uint16_t capacity;          /* blocks; `full` is at bottom + capacity or below */
    uint16_t room;              /* blocks the array could hold */
    uint16_t hidden;            /* words under the fold; 0: no fold */
    uint16_t refill;            /* blocks that the last refill asked for; 0: never refilled */
    uint16_t streak;            /* blocks that came since some went back, as far as they count */
    uint16_t unused; /* of the hidden ones, what a visit gives back if the fold still stands */
    _Atomic(uint16_t) gone; /* of the hidden ones, what others have taken: see fold.h */
    uint8_t epoch;          /* when the fold was made */
    uint8_t fitting;        /* see fine_classes.h */
};

static inline ap__slot *ap__free_list_top(const struct ap__free_list *list)
{
    return atomic_load_explicit(&list->top, memory_order_relaxed);
}

static inline void ap__free_list_set_top(struct ap__free_list *list, ap__slot *top)
{
    atomic_store_explicit(&list->top, top, memory_order_relaxed);
}

static inline ap__slot *ap__free_list_bottom(const struct ap__free_list_info *info)
{
    return atomic_load_explicit(&info->bottom, memory_order_relaxed);
}

static inline void *ap__slot_load(const ap__slot *slot)
{
    return atomic_load_explicit(slot, memory_order_relaxed);
}

/* The owner's own words change under nobody: a plain load, which compilers merge with a comparison. */
static inline void *ap__slot_load_own(const ap__slot *slot)
{
    return *(void *const *)(const void *)slot;
}

static inline void ap__slot_store(ap__slot *slot, void *block)
{
    atomic_store_explicit(slot, block, memory_order_relaxed);
}

#endif
