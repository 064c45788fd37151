/* SPDX-License-Identifier: MIT */
/*
 * list_capacity.h: how many blocks a thread's lists may hold: within the bounds of cache_limits.h.
 *
 * Does: raises and lowers the capacity of one list, moves it into a larger array, keeps the cache's account of bytes.
 * Does not: take or give blocks, or decide when a list has use for more.
 * Callers: the slow paths of the owner, with the cache claimed (idle.h).
 * Invariants: those of thread_cache.h about capacities, arrays and grants.
 */
#ifndef AP_CACHE_LIST_CAPACITY_H
#define AP_CACHE_LIST_CAPACITY_H

#include "cache/thread_cache.h"

/*
 * Doubles a list's capacity as far as `most` and the bounds allow. For a list of next to nothing others make room.
 * `false`: it stays as it is.
 */
bool ap__list_grow(struct ap__thread_cache *cache, unsigned size_class, unsigned most);

/* Lowers it to `capacity`, which is not less than what the list holds. */
void ap__list_lower_capacity(struct ap__thread_cache *cache, unsigned size_class,
                             unsigned capacity);

/* Of an empty list: no capacity, and no array unless that is a cache line. */
void ap__list_drop(struct ap__thread_cache *cache, unsigned size_class);

/* When all lists are dropped: their grants go back. */
void ap__list_release_grants(struct ap__thread_cache *cache);

#endif
