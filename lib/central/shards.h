/* SPDX-License-Identifier: MIT */
/*
 * shards.h: the spans of each class, divided among the threads once there are many.
 *
 * At first a class has one shard. Threads that claim from the same spans get blocks in turn: their pages hold what
 * belongs to both, so that a page stays as long as the longer-lived of the two, neither's blocks lie side by side, and
 * the class' lock and the spans' records travel from processor to processor. So a class of small blocks that has many
 * spans is spread: each thread, or each few, claims from spans of its own, and takes over one of another's before it
 * has the page heap give it a new one.
 *
 * Does: finds the shard and the span for a claim, and those of a block. Does not: claim or release slots.
 * Invariants, per shard: a span with free slots is on one of its lists, or away (being purged); claimed = slots of its
 * spans - free slots. A span belongs to the shard that its record names. The name changes only with the locks held of
 * the shards that it names before and after: who reads the name of a shard whose lock it has can rely on it.
 *
 * Idea: the arenas of jemalloc, between which threads are divided; that nobody's span is more than lent, from Hoard.
 */
#ifndef AP_CENTRAL_SHARDS_H
#define AP_CENTRAL_SHARDS_H

#include "base/size_class.h"
#include "central/span_lists.h"
#include "heap/page_heap.h"
#include "os/lock.h"

enum { AP_CENTRAL_SHARDS_MAX = 8 };
_Static_assert(AP_CENTRAL_SHARDS_MAX - 1 == AP__RANK_CENTRAL_LAST - AP__RANK_CENTRAL,
               "each shard's locks have a rank of their own");

struct ap__shard {
    struct ap__lock lock;
    /* All below: under `lock`. */
    struct ap__span_lists lists; /* of the spans that have free slots */
    _Atomic(uint64_t) claimed;   /* blocks; read without the lock, too */
} AP_CACHE_ALIGNED;
_Static_assert(sizeof(struct ap__shard) == (size_t)2 * AP_CACHE_LINE,
               "one pair of cache lines a shard");

/* How many shards a class may get; 0: as many as there can be. Before the first use, and again when the environment is
 * read late: then it is without effect if there have been several threads. */
void ap__shards_init(unsigned count);

/* How many shards the class may ever get. What is beyond those that it has (ap__central_shards()) is not touched. */
unsigned ap__shards_of(unsigned size_class);

extern AP_HIDDEN struct ap__shard ap__shards[AP_CENTRAL_SHARDS_MAX][AP_CLASS_COUNT];

static inline struct ap__shard *ap__shard_at(unsigned number, unsigned size_class)
{
    return &ap__shards[number][size_class];
}

/* What the record of a span says that belongs to a shard: never 0. */
static inline uint16_t ap__shard_name(unsigned number, unsigned size_class)
{
    return (uint16_t)((number + 1) << 8 | size_class);
}
_Static_assert(AP_CLASS_COUNT <= 256 && AP_CENTRAL_SHARDS_MAX < 255, "a byte each");

/* The shard of the class that a record names, NULL: none of it. */
static inline struct ap__shard *ap__shard_named(unsigned name, unsigned size_class)
{
    return name != 0 && (uint8_t)name == size_class ? ap__shard_at((name >> 8) - 1, size_class)
                                                    : NULL;
}

/* The one that the calling thread is to claim from. */
struct ap__shard *ap__shard_mine(unsigned size_class);

/* A span with free slots for a shard that has none. Enters and leaves with its lock, which may be free in between.
 * `false`: no memory, and no free slot in any shard. */
bool ap__shard_find_span_locked(struct ap__shard *shard, unsigned size_class);

/* For ap__shard_settle_locked(): gives a drained span to the page heap. */
void ap__shard_remove_span_locked(struct ap__shard *shard, struct ap__span *span);

/* Brings a span whose number of free slots has grown onto the list where it belongs now, or out. */
static inline void ap__shard_settle_locked(struct ap__shard *shard, struct ap__span *span)
{
    ap__span_lists_relist(&shard->lists, span);
    if (AP_UNLIKELY(span->slots.free_slots == ap__size_class[span->size_class].slots) &&
        span->slots.bucket != AP_SPAN_AWAY) {
        ap__shard_remove_span_locked(shard, span);
    }
}

/* See ap__central_is_at_bound(). */
extern AP_HIDDEN _Atomic(bool) ap__class_at_bound[AP_CLASS_COUNT];

/* The class has free slots, or blocks that have come back. */
static inline void ap__shard_leave_bound(unsigned size_class)
{
    if (AP_UNLIKELY(atomic_load_explicit(&ap__class_at_bound[size_class], memory_order_relaxed))) {
        atomic_store_explicit(&ap__class_at_bound[size_class], false, memory_order_relaxed);
    }
}

/* For ap__span_of_class(): an address that is not in the region. */
struct ap__span *ap__span_of_class_outside(unsigned size_class, const void *p);

/* The span of the class that an address lies in, NULL if it lies in none. */
static inline struct ap__span *ap__span_of_class(unsigned size_class, const void *p)
{
    size_t granule = ap__region_granule_of((uintptr_t)p);
    if (AP_UNLIKELY(granule >= ap__region_limit_granules())) {
        return ap__span_of_class_outside(size_class, p);
    }
    /* The class map knows what the record says, and is smaller. */
    return ap__region_class_of(granule) == size_class ? ap__region_span_of(granule) : NULL;
}

/*
 * Takes the lock of the shard that the span of an address belongs to, and gives up `held`, unless that is it (NULL:
 * none is held). Returns which lock is held then. *span: NULL if the address lies in no span of the class, at some moment
 * at least: which is not so while a block there is claimed.
 */
static inline struct ap__shard *ap__shard_enter(struct ap__shard *held, unsigned size_class,
                                                const void *p, struct ap__span **span)
{
    for (;;) {
        *span = ap__span_of_class(size_class, p);
        /* relaxed: what was read without the lock is read again with it. */
        unsigned name =
            *span != NULL ? atomic_load_explicit(&(*span)->shard, memory_order_relaxed) : 0;
        struct ap__shard *shard = ap__shard_named(name, size_class);
        if (AP_UNLIKELY(shard == NULL)) {
            *span = NULL;
            return held;
        }
        if (shard == held) {
            return held;
        }
        if (held != NULL) {
            ap__lock_release(&held->lock);
        }
        ap__lock_take(&shard->lock);
        held = shard;
    }
}

#endif
