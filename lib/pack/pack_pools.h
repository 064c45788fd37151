/* SPDX-License-Identifier: MIT */
/*
 * pack_pools.h: the packed spans, divided among the threads.
 *
 * Threads claim from AP_PACK_POOLS pools by turns of their numbers: so threads that run at once do not wait for each other,
 * and what one allocates lies side by side. A begun span for each is all that this costs, as blocks of all sizes share it.
 *
 * Does: finds the pool to claim from, and that of a block; adds spans, removes drained ones, and lets a pool take one over
 * that another has to spare. Does not: claim or release units.
 * Invariants, per pool: a span with a run long enough for a block is on a list, or away (being purged); block_bytes is
 * what its spans have in use. A span belongs to the pool that its record names, which changes only with the
 * locks of both: who reads the name of a pool whose lock it has can rely on it.
 */
#ifndef AP_PACK_PACK_POOLS_H
#define AP_PACK_PACK_POOLS_H

#include "os/lock.h"
#include "pack/pack_lists.h"
#include "pack/pack_traffic.h"

enum { AP_PACK_POOLS = 8 };
_Static_assert(AP_PACK_POOLS - 1 == AP__RANK_PACK_LAST - AP__RANK_PACK,
               "each pool's lock has a rank of its own");

struct ap__pack_pool {
    struct ap__lock lock;
    /* All below: under `lock`. */
    struct ap__pack_lists lists;
    struct ap__pack_traffic traffic;
    size_t blocks;           /* taken here less given back here; the sum of all pools is right */
    size_t releases;         /* wraps */
    uint64_t seen_contended; /* how often the lock had been waited for at the last take */
    _Atomic(uint64_t) spans; /* this and the next are read without the lock, too */
    _Atomic(uint64_t) block_bytes; /* usable */
} AP_CACHE_ALIGNED;

extern AP_HIDDEN struct ap__pack_pool ap__pack_pools[AP_PACK_POOLS];

/* The one that a thread of this number is to claim from. */
struct ap__pack_pool *ap__pack_pool_of(unsigned number);

/* The pool of a span that is packed, with its lock taken. NULL: it is packed no more, which takes a double free; no lock
 * is taken. */
struct ap__pack_pool *ap__pack_enter(const struct ap__span *span);

/* A span that may have a run of `units`: from the pool's lists, of another's, or a new one. Enters and leaves with the
 * lock, which may be free in between. NULL: no memory. */
struct ap__span *ap__pack_find_span_locked(struct ap__pack_pool *pool, unsigned units);

/* Brings a span onto the list where it belongs, or to the page heap if nothing of it is in use; not if it is away. */
void ap__pack_settle_locked(struct ap__pack_pool *pool, struct ap__span *span);

/* Free pages of the span may be resident from now on: it belongs to the head of its list. */
void ap__pack_become_unpurged_locked(struct ap__pack_pool *pool, struct ap__span *span);

#endif
