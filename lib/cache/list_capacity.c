/* SPDX-License-Identifier: MIT */
/*
 * list_capacity.c: capacities, the arrays behind them, and the account of the bytes they may hold.
 *
 * Arrays only grow while their list is in use: they are pieces of a power of two, and a list that has been long
 * will be long again. Observers may read an array that was given back (statistics, the search for a double free):
 * metadata stays mapped.
 */
#include "cache/list_capacity.h"

#include <string.h>

#include "cache/cache_limits.h"
#include "meta/meta.h"
#include "os/check.h"
#include "os/yield.h"

ap__slot ap__free_list_none;

/* Room in the bounds for `more_bytes`; asks for a grant if need be. */
static bool reserve_bytes(struct ap__thread_cache *cache, size_t more_bytes)
{
    size_t allowed = AP_CACHE_FREE_BYTES + cache->granted_bytes;
    size_t wanted = cache->capacity_bytes + more_bytes;
    if (wanted > allowed) {
        size_t granted = ap__cache_limits_grant(cache->granted_bytes, wanted - allowed);
        if (granted == 0) {
            return false;
        }
        cache->granted_bytes += granted;
    }
    cache->capacity_bytes = wanted;
    return true;
}

static void unreserve_bytes(struct ap__thread_cache *cache, size_t bytes)
{
    cache->capacity_bytes -= bytes;
}

static size_t array_bytes(size_t room)
{
    return (room + 1) * sizeof(ap__slot);
}

/* Moves a list into an array with room for `capacity` blocks. */
static bool enlarge_array(struct ap__thread_cache *cache, unsigned size_class, unsigned capacity)
{
    struct ap__free_list *list = &cache->lists[size_class];
    struct ap__free_list_info *info = &cache->infos[size_class];
    ap__slot *old = ap__free_list_bottom(info);
    size_t bytes = ap__meta_size(array_bytes(capacity));
    ap__slot *array = ap__meta_take(bytes);
    if (array == NULL) {
        return false;
    }
    size_t used = 0;
    if (old != NULL) {
        used = (size_t)(ap__free_list_top(list) - old);
        memcpy(array, old, (used + 1) * sizeof *array);
    }
    AP__YIELD_POINT();
    atomic_store_explicit(&info->bottom, array, memory_order_relaxed);
    AP__YIELD_POINT();
    ap__free_list_set_top(list, array + used);
    AP__YIELD_POINT();
    if (old != NULL) {
        ap__meta_give(old, array_bytes(info->room));
    }
    info->room = (uint16_t)(bytes / sizeof *array - 1);
    return true;
}

static bool set_capacity(struct ap__thread_cache *cache, unsigned size_class, unsigned capacity)
{
    struct ap__free_list_info *info = &cache->infos[size_class];
    size_t more = (capacity - info->capacity) * (size_t)ap__size_class[size_class].size;
    if (!reserve_bytes(cache, more)) {
        return false;
    }
    if (capacity > info->room && !enlarge_array(cache, size_class, capacity)) {
        unreserve_bytes(cache, more);
        return false;
    }
    info->capacity = (uint16_t)capacity;
    cache->lists[size_class].full = ap__free_list_bottom(info) + capacity;
    return true;
}

void ap__list_lower_capacity(struct ap__thread_cache *cache, unsigned size_class, unsigned capacity)
{
    struct ap__free_list *list = &cache->lists[size_class];
    struct ap__free_list_info *info = &cache->infos[size_class];
    AP_ASSERT(ap__thread_cache_used(cache, size_class) <= capacity && capacity <= info->capacity);
    unreserve_bytes(cache, (info->capacity - capacity) * (size_t)ap__size_class[size_class].size);
    info->capacity = (uint16_t)capacity;
    list->full = (ap__slot *)ap__min((uintptr_t)list->full,
                                     (uintptr_t)(ap__free_list_bottom(info) + capacity));
}

/* Takes back half of what lists beyond a batch could hold and do not: they have had their time, and a list without room
 * pays for each block. Once between two visits. */
static bool trim_capacities(struct ap__thread_cache *cache)
{
    if (cache->is_trimmed) {
        return false;
    }
    cache->is_trimmed = true;
    size_t before = cache->capacity_bytes;
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        size_t capacity = cache->infos[c].capacity;
        size_t batch = ap__size_class[c].batch;
        if (capacity > batch) {
            size_t least = ap__max(batch, ap__thread_cache_used(cache, c));
            ap__list_lower_capacity(cache, c, (unsigned)(capacity - (capacity - least) / 2));
        }
    }
    return cache->capacity_bytes < before;
}

/* Raises a list's capacity to `wanted`, or by one, as the bounds allow. */
static bool raise_capacity(struct ap__thread_cache *cache, unsigned size_class, unsigned wanted)
{
    unsigned capacity = cache->infos[size_class].capacity;
    return set_capacity(cache, size_class, wanted) ||
           (wanted > capacity + 1 && set_capacity(cache, size_class, capacity + 1));
}

bool ap__list_grow(struct ap__thread_cache *cache, unsigned size_class, unsigned most)
{
    unsigned capacity = cache->infos[size_class].capacity;
    if (capacity >= most) {
        return false;
    }
    unsigned wanted = capacity == 0 ? ap__cache_limits_initial_capacity(size_class)
                                    : (unsigned)ap__min(2u * capacity + 1, most);
    return raise_capacity(cache, size_class, wanted) ||
           (capacity <= ap__size_class[size_class].batch / 4u && trim_capacities(cache) &&
            raise_capacity(cache, size_class, wanted));
}

void ap__list_drop(struct ap__thread_cache *cache, unsigned size_class)
{
    struct ap__free_list *list = &cache->lists[size_class];
    struct ap__free_list_info *info = &cache->infos[size_class];
    ap__slot *bottom = ap__free_list_bottom(info);
    AP_ASSERT(ap__free_list_top(list) == bottom);
    info->capacity = 0;
    if (info->room <= AP_CACHE_INITIAL_BLOCKS) {
        /* One cache line, which the next thread that gets this cache will need: two locks saved. */
        list->full = bottom;
        return;
    }
    list->full = &ap__free_list_none;
    ap__free_list_set_top(list, &ap__free_list_none);
    AP__YIELD_POINT();
    atomic_store_explicit(&info->bottom, NULL, memory_order_relaxed);
    AP__YIELD_POINT();
    ap__meta_give(bottom, array_bytes(info->room));
    info->room = 0;
}

void ap__list_release_grants(struct ap__thread_cache *cache)
{
    ap__cache_limits_release(cache->granted_bytes);
    cache->granted_bytes = 0;
    cache->capacity_bytes = 0;
}
