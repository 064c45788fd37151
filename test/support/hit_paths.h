/* SPDX-License-Identifier: MIT */
/*
 * hit_paths.h: what malloc and free do with a list, for tests of caches that belong to no thread.
 *
 * As lib/api/fast_path.h and the slow halves do it, but of any cache and class.
 */
#ifndef TEST_SUPPORT_HIT_PATHS_H
#define TEST_SUPPORT_HIT_PATHS_H

#include "cache/thread_cache.h"
#include "central/central_free_list.h"

static inline void *hit_path_take(struct ap__thread_cache *cache, unsigned size_class)
{
    void *p = ap__free_list_pop(&cache->lists[size_class]);
    return p != NULL ? p : ap__thread_cache_refill(cache, size_class);
}

static inline void hit_path_give(struct ap__thread_cache *cache, unsigned size_class, void *p)
{
    struct ap__free_list *list = &cache->lists[size_class];
    ap__slot *top = ap__free_list_top(list);
    if (top == list->full) {
        ap__thread_cache_overflow(cache, size_class, p, "free");
        return;
    }
    ap__slot_store(top + 1, p);
    ap__free_list_set_top(list, top + 1);
}

/* Blocks of the class that are not in its central free list. */
static inline size_t blocks_claimed(unsigned size_class)
{
    struct ap__central_stats stats;
    ap__central_stats(size_class, &stats);
    return stats.claimed;
}

#endif
