/* SPDX-License-Identifier: MIT */
/*
 * live_check.c: the last block freed, and the mark.
 */
#include "api/live_check.h"

#include "cache/thread.h"
#include "central/central_free_list.h"
#include "central/transfer_cache.h"
#include "guard/misuse.h"
#include "heap/region.h"

/* The first word of a block, whatever the program keeps there. */
typedef uintptr_t __attribute__((may_alias)) block_word;

static uintptr_t mark(void)
{
    uintptr_t base = ap__region_base();
    return AP_LIKELY(base != 0) ? base : UINTPTR_MAX; /* a heap without a region */
}

void *ap__mark_free(void *p)
{
    if (AP_UNLIKELY(ap__options.hardened != 0) && p != NULL) {
        *(block_word *)p = mark();
    }
    return p;
}

void *ap__mark_live(void *p)
{
    if (AP_UNLIKELY(ap__options.hardened != 0) && p != NULL) {
        *(block_word *)p = 0;
    }
    return p;
}

static bool was_freed_last(unsigned size_class, const void *p)
{
    const struct ap__thread_cache *cache = ap__thread_cache_or_null();
    return cache != NULL && ap__slot_load(ap__free_list_top(&cache->lists[size_class])) == p;
}

/* Whether a block that holds the mark is free for certain. */
AP_COLD static bool is_free(unsigned size_class, const void *p)
{
    for (const struct ap__thread_cache *cache = ap__thread_caches(); cache != NULL;
         cache = cache->next) {
        if (ap__thread_cache_holds(cache, size_class, p)) {
            return true;
        }
    }
    return ap__transfer_holds(size_class, p) || ap__central_is_free(size_class, p);
}

static bool is_marked_and_free(unsigned size_class, const void *p)
{
    return AP_UNLIKELY(ap__options.hardened != 0) && *(const block_word *)p == mark() &&
           is_free(size_class, p);
}

void ap__check_live(unsigned size_class, const void *p, const char *function)
{
    if (AP_UNLIKELY(was_freed_last(size_class, p)) || is_marked_and_free(size_class, p)) {
        ap__misuse(function, p, AP__MISUSE_DOUBLE_FREE);
    }
}
