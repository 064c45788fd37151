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
 * hides, other threads can take when it has stood for long, and hide more first: see fold.h and idle.h.
 *
 *      [block h][1][ ... ][h: NULL][h+1][ ... ][newest]
 *
 * top is written by the owning thread only; the words, too, but for those at a fold and below (fold.h). Both are
 * atomics because others may look (statistics, the search for a double free, who raises a fold); relaxed throughout:
 * what they see may be late.
 *
 * Idea: the magazines of Bonwick and Adams, jemalloc's cache bins; the fold replaces jemalloc's
 * low-water mark, which costs its hit path a comparison.
 */
#ifndef AP_CACHE_FREE_LIST_H
#define AP_CACHE_FREE_LIST_H

#include <stdatomic.h>

#include "base/compiler.h"
#include "os/yield.h"

typedef _Atomic(void *) ap__slot;

/* What a thread did to a block before it put it on its list is seen by another that takes it from there: by a claim of
 * the cache, or by the kernel's barrier (fold.h), of which ThreadSanitizer does not know. */
#ifdef AP_THREAD_SANITIZER
#define AP__SLOT_LOAD_ORDER memory_order_acquire
#define AP__SLOT_STORE_ORDER memory_order_release
#else
#define AP__SLOT_LOAD_ORDER memory_order_relaxed
#define AP__SLOT_STORE_ORDER memory_order_relaxed
#endif

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
    _Atomic(uint16_t) hidden;   /* words under the fold; 0: no fold. See fold.h */
    uint16_t refill;            /* blocks that the last refill asked for; 0: never refilled */
    uint16_t streak;            /* blocks that came since some went back, as far as they count */
    uint16_t unused; /* of the hidden ones, what a visit gives back if the fold still stands */
    _Atomic(uint16_t) gone; /* of the hidden ones, what others have taken: see fold.h */
    uint8_t epoch;          /* when the fold was made, or raised */
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
    return atomic_load_explicit(slot, AP__SLOT_LOAD_ORDER);
}

/* For a comparison: a plain load, which compilers merge with it. One aligned word, read once, that another thread may
 * exchange for NULL meanwhile (fold.h). */
static inline void *ap__slot_load_own(const ap__slot *slot)
{
#ifdef AP_THREAD_SANITIZER
    return ap__slot_load(slot);
#else
    return *(void *const *)(const void *)slot;
#endif
}

static inline void ap__slot_store(ap__slot *slot, void *block)
{
    atomic_store_explicit(slot, block, AP__SLOT_STORE_ORDER);
}

/*
 * A pop, in three steps for who has to count instructions. The second look is for who takes blocks from a thread that
 * sleeps (fold.h): what became NULL between the two is not ours any more, and the top goes back. It comes after the store,
 * for which compilers need the fence, and processors the barrier that the other one has them pass.
 */
static AP_ALWAYS_INLINE bool ap__free_list_is_empty(const ap__slot *top)
{
    return ap__slot_load_own(top) == NULL;
}

static AP_ALWAYS_INLINE void *ap__free_list_pop_from(struct ap__free_list *list, ap__slot *top)
{
    AP__YIELD_POINT();
    ap__free_list_set_top(list, top - 1);
    atomic_signal_fence(memory_order_seq_cst);
    AP__YIELD_POINT();
    return ap__slot_load(top);
}

/* The newest block; NULL: none in sight. The owner. */
static inline void *ap__free_list_pop(struct ap__free_list *list)
{
    ap__slot *top = ap__free_list_top(list);
    if (ap__free_list_is_empty(top)) {
        return NULL;
    }
    void *p = ap__free_list_pop_from(list, top);
    if (AP_UNLIKELY(p == NULL)) {
        ap__free_list_set_top(list, top);
    }
    return p;
}

#endif
