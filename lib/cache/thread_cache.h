/* SPDX-License-Identifier: MIT */
/*
 * thread_cache.h: one thread's free lists: refill, and flush of the oldest.
 *
 * Does: the slow half of the small-block paths, for the thread that owns the cache. Does not: decide
 * which thread has which cache (thread.c), or take any lock of its own.
 * Callers: the owner, holding no lock; what others may call says so.
 * Invariants: blocks in a list <= its capacity; the sum over lists of capacity * size <=
 * AP_CACHE_FREE_BYTES + granted_bytes; a list without an array has capacity 0.
 * A signal handler that has interrupted a slow path and calls another one is reported, and the process
 * ends: what it would find is half of a change.
 */
#ifndef AP_CACHE_THREAD_CACHE_H
#define AP_CACHE_THREAD_CACHE_H

#include "base/size_class.h"
#include "cache/free_list.h"

struct ap__thread_cache {
    struct ap__free_list lists[AP_CLASS_COUNT]; /* hit paths */
    struct ap__free_list_info infos[AP_CLASS_COUNT];
    size_t capacity_bytes; /* sum of capacity * size; owner */
    size_t granted_bytes;  /* by cache_limits; owner */
    unsigned slow_events;  /* since the last visit of all lists; owner */
    bool exit_armed;       /* the thread's exit will be noticed; owner */
    bool is_trimmed;       /* since the last visit: what lists could hold and do not; owner */
    /* Its slow paths are under way. Volatile: signal handlers of the owner's read it, too. */
    volatile bool at_work;
    _Atomic(uint8_t) claim;   /* who may change the lists now: see idle.h */
    _Atomic(bool) has_blocks; /* perhaps, for others; set by the owner, cleared by who looks */
    uint8_t seen_epoch;       /* when `seen` was found; who has claimed the cache */
    uint64_t seen;            /* what the tops of the lists were at the last look: see idle.c */
    uint64_t random;          /* state of ap__thread_cache_take_any(); 0: none yet; owner */
    unsigned number;          /* counts up from one record to the next; constant */
    /* Registry (thread.c). `next` never changes once set: observers walk it without a lock. */
    struct ap__thread_cache *next;
    struct ap__thread_cache *next_vacant; /* under the registry's lock */
    _Atomic(bool) in_use;
    /* Statistics: one writer, who has claimed the cache; read by anyone. */
    _Atomic(uint64_t) refills;
    _Atomic(uint64_t) flushes;
    _Atomic(uint64_t) blocks_in;  /* by refills */
    _Atomic(uint64_t) blocks_out; /* by flushes */
};

/* The NULL that lists without an array share. */
extern AP_HIDDEN ap__slot ap__free_list_none;

/* Words of a list above its bottom, those of blocks that others have taken included (fold.h). The owner. */
static inline size_t ap__thread_cache_used(const struct ap__thread_cache *cache,
                                           unsigned size_class)
{
    return (size_t)(ap__free_list_top(&cache->lists[size_class]) -
                    ap__free_list_bottom(&cache->infos[size_class]));
}

/* Makes a zeroed record an empty cache. */
void ap__thread_cache_init(struct ap__thread_cache *cache);

/* A block of the class when its list is empty; refills the list. NULL: no memory. */
void *ap__thread_cache_refill(struct ap__thread_cache *cache, unsigned size_class);

/* Any block of the class: one at random of those in its list, which is refilled if it is empty. */
void *ap__thread_cache_take_any(struct ap__thread_cache *cache, unsigned size_class);

/* Takes `p`, as a rule when its list is full; makes room or flushes the oldest. `function` is for reports. */
void ap__thread_cache_overflow(struct ap__thread_cache *cache, unsigned size_class, void *p,
                               const char *function);

/* Gives all blocks and grants back, and all arrays beyond a cache line. The cache stays usable. */
void ap__thread_cache_empty(struct ap__thread_cache *cache);

/* Blocks have gone from the cache to below. By the owner, or whoever else has claimed the cache (idle.h). */
void ap__thread_cache_count_flush(struct ap__thread_cache *cache, unsigned blocks);

/* Blocks in a list. Any thread; late, never wild. */
size_t ap__thread_cache_count(const struct ap__thread_cache *cache, unsigned size_class);

/* Whether the block is in the list now. Any thread; exact for the owner. */
bool ap__thread_cache_holds(const struct ap__thread_cache *cache, unsigned size_class,
                            const void *p);

#endif
