/* SPDX-License-Identifier: MIT */
/*
 * idle.h: blocks that a thread has left in its cache for long become usable by others.
 *
 * Does: takes what lies below the folds of other threads' lists, once it has lain there for a while; and where a
 * thread sleeps, raises the folds first, so that it keeps nothing. Does not: disturb a hit path: it finds its
 * list empty at the next call.
 *
 * A cache is claimed by its owner for the time of a slow path, and by others for that of a copy.
 * Costs the slow paths a compare-and-swap on a line of their own, and a pop a second look (free_list.h).
 */
#ifndef AP_CACHE_IDLE_H
#define AP_CACHE_IDLE_H

#include "cache/thread_cache.h"

enum { AP__UNCLAIMED, AP__CLAIMED_BY_OWNER, AP__CLAIMED_BY_OTHER };

/* Waits until nobody else has the cache. */
AP_COLD void ap__thread_cache_claim_slowly(struct ap__thread_cache *cache);

static inline bool ap__thread_cache_try_claim(struct ap__thread_cache *cache, uint8_t by)
{
    uint8_t unclaimed = AP__UNCLAIMED;
    /* acquire: pairs with the release in unclaim(): what the last one did to the lists is seen. */
    return atomic_compare_exchange_strong_explicit(&cache->claim, &unclaimed, by,
                                                   memory_order_acquire, memory_order_relaxed);
}

/* By the owner, holding no lock. */
static inline void ap__thread_cache_claim(struct ap__thread_cache *cache)
{
    if (AP_UNLIKELY(!ap__thread_cache_try_claim(cache, AP__CLAIMED_BY_OWNER))) {
        ap__thread_cache_claim_slowly(cache);
    }
}

static inline void ap__thread_cache_unclaim(struct ap__thread_cache *cache)
{
    atomic_store_explicit(&cache->claim, AP__UNCLAIMED, memory_order_release);
}

/* Whether folds may be raised; set at start. Else blocks in sight stay where they are. */
void ap__thread_caches_use_barriers(bool use);

/*
 * Gives what has been under a fold for `age_least` epochs (central_free_list.h) to the central free lists.
 * What a thread that sleeps has in sight, too, but the caller: one that has taken and freed nothing for as long, and
 * since the last look at least.
 * `true`: there is more, which is too young, or whose owner is at work. Any thread, holding no lock.
 */
bool ap__thread_caches_take_idle(unsigned age_least);

#endif
