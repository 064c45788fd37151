/* SPDX-License-Identifier: MIT */
/*
 * live_check.h: whether a small block that the program passes in is the one freed last.
 *
 * All that a look at the thread's cache can tell without a search. Other double frees are found by the spans'
 * bitmaps when their batch is returned, or, with option `hardened`, at once (hardened/).
 */
#ifndef AP_API_LIVE_CHECK_H
#define AP_API_LIVE_CHECK_H

#include "cache/thread.h"
#include "guard/misuse.h"

/* Whether `p` is the newest block of the list, or the newest that its fold hides, which lies in word 0; else there is
 * NULL. Where a fold leaves nothing in sight it is the latter that was freed last. */
static inline bool ap__is_newest(const struct ap__thread_cache *cache, unsigned size_class,
                                 const void *p)
{
    const ap__slot *top = ap__free_list_top(&cache->lists[size_class]);
    const ap__slot *bottom = ap__free_list_bottom(&cache->infos[size_class]);
    return ap__slot_load(top) == p || (bottom != NULL && ap__slot_load(bottom) == p);
}

/* Ends the process, as a double free in `function`, if the block is the last that this thread freed of its class, or
 * had freed when the list was folded. */
static inline void ap__check_live(unsigned size_class, const void *p, const char *function)
{
    const struct ap__thread_cache *cache = ap__thread_cache_or_null();
    if (AP_MISUSED(cache != NULL && ap__is_newest(cache, size_class, p))) {
        ap__misuse(function, p, AP__MISUSE_DOUBLE_FREE);
    }
}

#endif
