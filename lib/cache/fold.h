/* SPDX-License-Identifier: MIT */
/*
 * fold.h: the second NULL of a free list, and what may be taken from below it.
 *
 * Does: hides the blocks at the bottom of a list from the hit path, and shows them again. Does not: decide
 * when. Callers: a slow path of the owner, or whoever has claimed the cache (idle.h).
 *
 *      [NULL ... NULL][ hidden blocks ... ][NULL][ blocks in sight ... ][newest]
 *      0              gone                 hidden                       top
 *
 * The hit path never goes below the NULL in word `hidden`, so what lies there can be taken by another thread
 * while the owner runs: `gone` blocks have been. Without a fold both are 0, and the NULL is that
 * of word 0. Invariant: gone <= hidden <= top - bottom.
 */
#ifndef AP_CACHE_FOLD_H
#define AP_CACHE_FOLD_H

#include <string.h>

#include "base/bits.h"
#include "cache/free_list.h"

/* relaxed: changed by who has claimed the cache; observers may see it late. */
static inline unsigned ap__fold_gone(const struct ap__free_list_info *info)
{
    return atomic_load_explicit(&info->gone, memory_order_relaxed);
}

static inline void ap__fold_set_gone(struct ap__free_list_info *info, unsigned gone)
{
    atomic_store_explicit(&info->gone, (uint16_t)gone, memory_order_relaxed);
}

/* Of the blocks that a visit would give back, those that are still there. */
static inline unsigned ap__fold_unused(const struct ap__free_list_info *info)
{
    unsigned gone = ap__fold_gone(info);
    return info->unused > gone ? info->unused - gone : 0;
}

/* Makes a list whole again. What has been taken from it leaves no gap. */
static inline void ap__unfold(struct ap__free_list *list, struct ap__free_list_info *info)
{
    ap__slot *bottom = ap__free_list_bottom(info);
    unsigned gone = ap__fold_gone(info);
    if (info->hidden > gone) {
        ap__slot_store(&bottom[info->hidden], ap__slot_load(&bottom[gone]));
        ap__slot_store(&bottom[gone], NULL);
    }
    if (AP_UNLIKELY(gone != 0)) {
        ap__slot *top = ap__free_list_top(list);
        memmove(bottom, bottom + gone, (size_t)(top + 1 - (bottom + gone)) * sizeof *bottom);
        ap__free_list_set_top(list, top - gone);
        ap__fold_set_gone(info, 0);
    }
    info->hidden = 0;
    info->unused = 0;
}

/* Hides the lowest `hidden` blocks of a list that has no fold. */
static inline void ap__fold(struct ap__free_list_info *info, size_t hidden, uint8_t epoch)
{
    ap__slot *bottom = ap__free_list_bottom(info);
    ap__slot_store(&bottom[0], ap__slot_load(&bottom[hidden]));
    ap__slot_store(&bottom[hidden], NULL);
    info->hidden = (uint16_t)hidden;
    info->epoch = epoch;
}

/* Takes up to `count` hidden blocks away, from the bottom. Returns how many. */
static inline unsigned ap__fold_take(struct ap__free_list_info *info, void **blocks, unsigned count)
{
    ap__slot *bottom = ap__free_list_bottom(info);
    unsigned gone = ap__fold_gone(info);
    unsigned got = (unsigned)ap__min(count, info->hidden - gone);
    for (unsigned i = 0; i < got; i++) {
        blocks[i] = ap__slot_load(&bottom[gone + i]);
        ap__slot_store(&bottom[gone + i], NULL);
    }
    ap__fold_set_gone(info, gone + got);
    return got;
}

#endif
