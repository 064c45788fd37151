/* SPDX-License-Identifier: MIT */
/*
 * live_check.h: whether a small block that the program passes in is the one freed last.
 *
 * All that a look at the caches can tell without a search. Other double frees are found by the spans'
 * bitmaps when their batch is returned, or, with option `hardened`, at once (hardened/).
 */
#ifndef AP_API_LIVE_CHECK_H
#define AP_API_LIVE_CHECK_H

#include "cache/thread.h"
#include "guard/misuse.h"

/* Ends the process, as a double free in `function`, if this thread freed the block last of its class. */
static inline void ap__check_live(unsigned size_class, const void *p, const char *function)
{
    const struct ap__thread_cache *cache = ap__thread_cache_or_null();
    if (AP_MISUSED(cache != NULL &&
                   ap__slot_load(ap__free_list_top(&cache->lists[size_class])) == p)) {
        ap__misuse(function, p, AP__MISUSE_DOUBLE_FREE);
    }
}

#endif
