/* SPDX-License-Identifier: MIT */
/*
 * idle.c: a batch at a time, under the registry's lock.
 *
 * The lock is what an owner waits for who finds its cache claimed; and fork takes it, so no cache is
 * claimed by another when a process is copied.
 */
#include "cache/idle.h"

#include "cache/fold.h"
#include "cache/thread.h"
#include "central/central_free_list.h"
#include "os/lock.h"
#include "os/yield.h"
#include "pack/pack.h"

void ap__thread_cache_claim_slowly(struct ap__thread_cache *cache)
{
    do {
        ap__lock_take(ap__thread_lock());
        ap__lock_release(ap__thread_lock());
    } while (!ap__thread_cache_try_claim(cache, AP__CLAIMED_BY_OWNER));
}

/* Goes through the classes from *size_class on, to the first that has something to take. */
static unsigned take_from_lists(struct ap__thread_cache *cache, unsigned age_least,
                                unsigned *size_class, void **blocks, bool *more)
{
    for (; *size_class < AP_CLASS_COUNT; ++*size_class) {
        struct ap__free_list_info *info = &cache->infos[*size_class];
        if (info->hidden == ap__fold_gone(info)) {
            continue;
        }
        if ((uint8_t)(ap__central_epoch() - info->epoch) < age_least) {
            *more = true;
            continue;
        }
        AP__YIELD_POINT();
        return ap__fold_take(info, blocks, ap__size_class[*size_class].batch);
    }
    return 0;
}

static unsigned take_batch(struct ap__thread_cache *cache, unsigned age_least, unsigned *size_class,
                           void **blocks, bool *more)
{
    unsigned got = 0;
    ap__lock_take(ap__thread_lock());
    AP__YIELD_POINT();
    /* A cache that nobody has is empty, or that of a thread which a forked child has lost. */
    if (atomic_load_explicit(&cache->in_use, memory_order_relaxed)) {
        if (ap__thread_cache_try_claim(cache, AP__CLAIMED_BY_OTHER)) {
            got = take_from_lists(cache, age_least, size_class, blocks, more);
            if (got != 0) {
                ap__thread_cache_count_flush(cache, got);
            }
            ap__thread_cache_unclaim(cache);
        } else {
            *more = true;
        }
    }
    ap__lock_release(ap__thread_lock());
    AP__YIELD_POINT();
    return got;
}

static bool take_idle(struct ap__thread_cache *cache, unsigned age_least)
{
    void *blocks[AP_BATCH_MAX];
    bool more = false;
    unsigned size_class = 1;
    unsigned got;
    while ((got = take_batch(cache, age_least, &size_class, blocks, &more)) != 0) {
        ap__pack_give_kept(size_class, blocks, got, "free");
    }
    return more;
}

bool ap__thread_caches_take_idle(unsigned age_least)
{
    bool more = false;
    for (struct ap__thread_cache *cache = ap__thread_caches(); cache != NULL; cache = cache->next) {
        if (!atomic_load_explicit(&cache->has_folds, memory_order_relaxed)) {
            continue;
        }
        /* Before the look: a fold made meanwhile sets it again. */
        atomic_store_explicit(&cache->has_folds, false, memory_order_relaxed);
        if (take_idle(cache, age_least)) {
            atomic_store_explicit(&cache->has_folds, true, memory_order_relaxed);
            more = true;
        }
    }
    return more;
}
