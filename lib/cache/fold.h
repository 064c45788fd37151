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
 *
 * Raising. Another thread than the owner can also hide what is in sight, although the hit paths have no atomic
 * operation. It exchanges the newest block for a NULL; has every running thread of the process pass a
 * full barrier (the kernel does that: ap__os_barrier()); and looks where the top is now.
 *
 *      [ ... ][NULL][ ... in sight ... ][newest, exchanged for NULL]
 *             hidden                    at = top
 *
 * A pop lowers the top before it looks at the word for the second time (free_list.h). If that look was before the
 * barrier, the lower top is seen after it; else the look finds the NULL, and the pop has failed. So whoever finds the top at
 * `at` or above after the barrier, and the NULL still there after that, has the block:
 *   - to have its top there again the owner would have put another block into the word first, which is seen after
 *     a second barrier at the latest (on processors that show stores in their order: at once);
 *   - the owner cannot have changed more than that: a slow path waits for the claim.
 * And all that lies below is out of the owner's reach but by a slow path. Else the block goes back, by a compare-and-
 * swap: a word that the owner has written to since is his, and one above his top does not matter. An owner whose pop has
 * failed meanwhile is in a slow path, and finds the block again. test/model/list_fold.pml searches all schedules.
 *
 * Idea: asymmetric barriers, as in hazard pointers and in RCU (liburcu's "memb" flavour); here they bias a list
 * towards its owner.
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

/* relaxed, both: as above; the owner's hit paths only want to know whether there is a fold. */
static inline unsigned ap__fold_hidden(const struct ap__free_list_info *info)
{
    return atomic_load_explicit(&info->hidden, memory_order_relaxed);
}

static inline void ap__fold_set_hidden(struct ap__free_list_info *info, size_t hidden)
{
    atomic_store_explicit(&info->hidden, (uint16_t)hidden, memory_order_relaxed);
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
    unsigned hidden = ap__fold_hidden(info);
    if (hidden > gone) {
        ap__slot_store(&bottom[hidden], ap__slot_load(&bottom[gone]));
        ap__slot_store(&bottom[gone], NULL);
    }
    if (AP_UNLIKELY(gone != 0)) {
        ap__slot *top = ap__free_list_top(list);
        memmove(bottom, bottom + gone, (size_t)(top + 1 - (bottom + gone)) * sizeof *bottom);
        ap__free_list_set_top(list, top - gone);
        ap__fold_set_gone(info, 0);
    }
    ap__fold_set_hidden(info, 0);
    info->unused = 0;
}

/* Hides the lowest `hidden` blocks of a list that has no fold. */
static inline void ap__fold(struct ap__free_list_info *info, size_t hidden, uint8_t epoch)
{
    ap__slot *bottom = ap__free_list_bottom(info);
    ap__slot_store(&bottom[0], ap__slot_load(&bottom[hidden]));
    ap__slot_store(&bottom[hidden], NULL);
    ap__fold_set_hidden(info, hidden);
    info->epoch = epoch;
}

/* Takes up to `count` hidden blocks away, from the bottom. Returns how many. */
static inline unsigned ap__fold_take(struct ap__free_list_info *info, void **blocks, unsigned count)
{
    ap__slot *bottom = ap__free_list_bottom(info);
    unsigned gone = ap__fold_gone(info);
    unsigned got = (unsigned)ap__min(count, ap__fold_hidden(info) - gone);
    for (unsigned i = 0; i < got; i++) {
        blocks[i] = ap__slot_load(&bottom[gone + i]);
        ap__slot_store(&bottom[gone + i], NULL);
    }
    ap__fold_set_gone(info, gone + got);
    return got;
}

/* ------------------------------------------------------------ raising, by who has claimed another's cache */

struct ap__fold_raise {
    void *block;  /* exchanged for NULL; NULL: none */
    unsigned at;  /* its word */
    bool is_kept; /* its word was not above the top between the barriers */
};

/* Blocks in sight; what the owner does meanwhile may make it wrong. */
static inline size_t ap__fold_in_sight(const struct ap__free_list *list,
                                       const struct ap__free_list_info *info)
{
    const ap__slot *bottom = ap__free_list_bottom(info);
    size_t used = bottom == NULL ? 0 : (size_t)(ap__free_list_top(list) - bottom);
    /* An owner whose list a signal handler has damaged is told so by its next slow path. */
    return used > info->room ? 0 : used - ap__min(used, ap__fold_hidden(info));
}

/* Before the barrier: exchanges the newest block in sight, if there is one, for NULL. */
static inline void ap__fold_lay(const struct ap__free_list *list,
                                const struct ap__free_list_info *info, struct ap__fold_raise *raise)
{
    size_t in_sight = ap__fold_in_sight(list, info);
    *raise = (struct ap__fold_raise){NULL, 0, false};
    if (in_sight != 0) {
        raise->at = ap__fold_hidden(info) + (unsigned)in_sight;
        ap__slot *slot = &ap__free_list_bottom(info)[raise->at];
        void *block = ap__slot_load(slot);
        /* seq_cst, as the exchange back: the barrier orders them, and they are few. */
        if (block != NULL && atomic_compare_exchange_strong(slot, &block, NULL)) {
            raise->block = block;
        }
    }
}

/* Between the barriers. */
static inline void ap__fold_see_top(const struct ap__free_list *list,
                                    const struct ap__free_list_info *info,
                                    struct ap__fold_raise *raise)
{
    raise->is_kept =
        raise->block != NULL && ap__free_list_top(list) >= &ap__free_list_bottom(info)[raise->at];
}

/* After the second one. `false`: the owner may have the block. */
static inline bool ap__fold_raise(struct ap__free_list_info *info,
                                  const struct ap__fold_raise *raise, uint8_t epoch)
{
    ap__slot *bottom = ap__free_list_bottom(info);
    unsigned hidden = ap__fold_hidden(info);
    if (!raise->is_kept || ap__slot_load(&bottom[raise->at]) != NULL) {
        return false;
    }
    if (hidden == ap__fold_gone(info)) {
        info->epoch = epoch;
    }
    ap__slot_store(&bottom[hidden], raise->block);
    ap__fold_set_hidden(info, raise->at);
    return true;
}

/* Leaves the list as it was, whatever its owner has done meanwhile. */
static inline void ap__fold_give_up(struct ap__free_list_info *info,
                                    const struct ap__fold_raise *raise)
{
    void *none = NULL;
    (void)atomic_compare_exchange_strong(&ap__free_list_bottom(info)[raise->at], &none,
                                         raise->block);
}

#endif
