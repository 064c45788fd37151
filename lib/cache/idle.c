/* SPDX-License-Identifier: MIT */
/*
 * idle.c: hides what a sleeping thread has in sight, and takes what is hidden, a batch at a time; both under
 * the registry's lock.
 *
 * The lock is what an owner waits for who finds its cache claimed; and fork takes it, so no cache is
 * claimed by another when a process is copied.
 *
 * A thread sleeps, as far as can be seen, when the tops of its lists are where they were `age_least` epochs ago.
 * One that has only come back to the same place finds its lists empty: some slow paths, as after a pause.
 */
#include "cache/idle.h"

#include "base/bits.h"
#include "cache/fold.h"
#include "cache/thread.h"
#include "central/central_free_list.h"
#include "os/lock.h"
#include "os/os.h"
#include "os/yield.h"
#include "pack/pack.h"

static bool use_barriers = true; /* constant once there is a second thread */

void ap__thread_caches_use_barriers(bool use)
{
    use_barriers = use;
}

void ap__thread_cache_claim_slowly(struct ap__thread_cache *cache)
{
    do {
        ap__lock_take(ap__thread_lock());
        ap__lock_release(ap__thread_lock());
    } while (!ap__thread_cache_try_claim(cache, AP__CLAIMED_BY_OWNER));
}

/* Takes the registry's lock and claims the cache. `false`: neither; `*more`: because its owner is at work. */
static bool enter(struct ap__thread_cache *cache, bool *more)
{
    ap__lock_take(ap__thread_lock());
    AP__YIELD_POINT();
    /* A cache that nobody has is empty, or that of a thread which a forked child has lost. */
    bool in_use = atomic_load_explicit(&cache->in_use, memory_order_relaxed);
    if (in_use && ap__thread_cache_try_claim(cache, AP__CLAIMED_BY_OTHER)) {
        return true;
    }
    *more |= in_use;
    ap__lock_release(ap__thread_lock());
    return false;
}

static void leave(struct ap__thread_cache *cache)
{
    ap__thread_cache_unclaim(cache);
    ap__lock_release(ap__thread_lock());
    AP__YIELD_POINT();
}

/* ------------------------------------------------------------ hide what is in sight */

/* A hash of the tops. Two states with the same one are as a thread that came back. */
static uint64_t hash_tops(const struct ap__thread_cache *cache)
{
    uint64_t hash = 0;
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        hash =
            (hash ^ (uintptr_t)ap__free_list_top(&cache->lists[c])) * UINT64_C(0x9E3779B97F4A7C15);
    }
    return hash;
}

/* Of a claimed cache. Notes where the tops are. Whatever the age, it takes two looks: where memory is short there are
 * many, and a barrier disturbs all processors that the program runs on. */
static bool has_slept(struct ap__thread_cache *cache, unsigned age_least)
{
    uint64_t hash = hash_tops(cache);
    uint8_t now = (uint8_t)ap__central_epoch();
    if (cache->seen != hash) {
        cache->seen = hash;
        cache->seen_epoch = now;
        return false;
    }
    return (uint8_t)(now - cache->seen_epoch) >= age_least;
}

/* Exchanges the newest block of each list for a NULL. `false`: there is none. */
static bool lay_folds(struct ap__thread_cache *cache, struct ap__fold_raise *raises)
{
    bool any = false;
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        ap__fold_lay(&cache->lists[c], &cache->infos[c], &raises[c]);
        any |= raises[c].block != NULL;
        AP__YIELD_POINT();
    }
    return any;
}

static void see_tops(const struct ap__thread_cache *cache, struct ap__fold_raise *raises)
{
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        ap__fold_see_top(&cache->lists[c], &cache->infos[c], &raises[c]);
    }
}

/* `false`: some owner has come between. */
static bool settle_folds(struct ap__thread_cache *cache, const struct ap__fold_raise *raises,
                         bool may_raise, uint8_t epoch)
{
    bool all = true;
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        struct ap__free_list_info *info = &cache->infos[c];
        if (raises[c].block != NULL && !(may_raise && ap__fold_raise(info, &raises[c], epoch))) {
            ap__fold_give_up(info, &raises[c]);
            all = false;
        }
        AP__YIELD_POINT();
    }
    return all;
}

/* Of a claimed cache, under the registry's lock: all there is, as if it had been hidden at `epoch`. `true`: there is
 * more, whose owner is at work. Without barriers nothing is to be had, now or later. */
static bool raise_folds(struct ap__thread_cache *cache, uint8_t epoch)
{
    static struct ap__fold_raise raises[AP_CLASS_COUNT]; /* under the lock: stacks are short */
    if (!lay_folds(cache, raises)) {
        return false;
    }
    bool done = ap__os_barrier();
    AP__YIELD_POINT();
    see_tops(cache, raises);
    AP__YIELD_POINT();
    done = done && ap__os_barrier();
    return !settle_folds(cache, raises, done, epoch) && done;
}

static bool has_in_sight(const struct ap__thread_cache *cache)
{
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        if (ap__fold_in_sight(&cache->lists[c], &cache->infos[c]) != 0) {
            return true;
        }
    }
    return false;
}

/* The first barrier of a process takes the kernel some ten milliseconds, for which nobody shall wait. */
static void prepare_barriers(void)
{
    static _Atomic(bool) is_prepared;
    /* relaxed: twice does no harm. */
    if (AP_UNLIKELY(!atomic_load_explicit(&is_prepared, memory_order_relaxed))) {
        atomic_store_explicit(&is_prepared, true, memory_order_relaxed);
        (void)ap__os_barrier();
    }
}

/* `true`: there is more, which is too young or whose owner is at work. Not in the caller's own cache, who is awake: so
 * programs of one thread never ask for a barrier. */
static bool hide(struct ap__thread_cache *cache, unsigned age_least)
{
    bool more = false;
    if (!use_barriers || cache == ap__thread_cache_or_null() ||
        !atomic_load_explicit(&cache->in_use, memory_order_relaxed)) {
        return false;
    }
    prepare_barriers();
    if (enter(cache, &more)) {
        if (has_in_sight(cache)) {
            more = !has_slept(cache, age_least) ||
                   raise_folds(cache, (uint8_t)(ap__central_epoch() - age_least));
        }
        leave(cache);
    }
    return more;
}

/* ------------------------------------------------------------ take what is hidden */

/* The words of blocks that are gone are NULL, as the kernel's fresh pages are: whole ones go back to it, now that the
 * first `gone_before` have become more. Those above the top may be written to at any moment. */
static void discard_words(const struct ap__free_list_info *info, unsigned gone_before)
{
    const ap__slot *bottom = ap__free_list_bottom(info);
    size_t page_bytes = ap__os_page_size();
    uintptr_t from = ap__align_down((uintptr_t)(bottom + gone_before), page_bytes);
    uintptr_t to = ap__align_down((uintptr_t)(bottom + ap__fold_gone(info)), page_bytes);
    from = ap__max(from, ap__align_up((uintptr_t)bottom, page_bytes));
    if (from < to) {
        (void)ap__os_discard((void *)from, to - from); /* refused: they stay */
    }
}

/* Goes through the classes from *size_class on, to the first that has something to take. */
static unsigned take_from_lists(struct ap__thread_cache *cache, unsigned age_least,
                                unsigned *size_class, void **blocks, bool *more)
{
    for (; *size_class < AP_CLASS_COUNT; ++*size_class) {
        struct ap__free_list_info *info = &cache->infos[*size_class];
        if (ap__fold_hidden(info) == ap__fold_gone(info)) {
            continue;
        }
        if ((uint8_t)(ap__central_epoch() - info->epoch) < age_least) {
            *more = true;
            continue;
        }
        AP__YIELD_POINT();
        unsigned gone_before = ap__fold_gone(info);
        unsigned got = ap__fold_take(info, blocks, ap__size_class[*size_class].batch);
        discard_words(info, gone_before);
        return got;
    }
    return 0;
}

static unsigned take_batch(struct ap__thread_cache *cache, unsigned age_least, unsigned *size_class,
                           void **blocks, bool *more)
{
    unsigned got = 0;
    if (enter(cache, more)) {
        got = take_from_lists(cache, age_least, size_class, blocks, more);
        if (got != 0) {
            ap__thread_cache_count_flush(cache, got);
        }
        leave(cache);
    }
    return got;
}

static bool take_idle(struct ap__thread_cache *cache, unsigned age_least)
{
    void *blocks[AP_BATCH_MAX];
    bool more = hide(cache, age_least);
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
        if (!atomic_load_explicit(&cache->has_blocks, memory_order_relaxed)) {
            continue;
        }
        /* Before the look: what comes meanwhile sets it again. */
        atomic_store_explicit(&cache->has_blocks, false, memory_order_relaxed);
        if (take_idle(cache, age_least)) {
            atomic_store_explicit(&cache->has_blocks, true, memory_order_relaxed);
            more = true;
        }
    }
    return more;
}
