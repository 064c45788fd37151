/* SPDX-License-Identifier: MIT */
/*
 * pack_pools.c: spans come, go, and move from pool to pool.
 *
 * A span is taken over from a pool of which a sixty-fourth is free, a quarter of a span at least: what eight threads' pools
 * have free at the peak of a heap that breathes is 1.5 of 300 MiB less than with a sixteenth and two spans. But not the
 * only one that a pool can claim from: two would take it from each other by turns. When there is no memory for a new
 * span, from any.
 */
#include "pack/pack_pools.h"

#include "base/counter.h"
#include "central/central_free_list.h"
#include "heap/page_heap.h"
#include "meta/meta.h"
#include "os/os.h"
#include "os/yield.h"
#include "pack/pack.h"

enum {
    SPARE_DIVISOR = 64,     /* of a pool: what it has free when a span is taken over, */
    SPARE_SPAN_DIVISOR = 4, /* but so much of a span at least */
};

#define POOL(number)                                                                               \
    {                                                                                              \
        .lock = AP_LOCK_INIT(AP__RANK_PACK + (number))                                             \
    }
struct ap__pack_pool ap__pack_pools[AP_PACK_POOLS] = {POOL(0), POOL(1), POOL(2), POOL(3),
                                                      POOL(4), POOL(5), POOL(6), POOL(7)};

struct ap__pack_pool *ap__pack_pool_of(unsigned number)
{
    return &ap__pack_pools[number % AP_PACK_POOLS];
}

static size_t used_bytes(const struct ap__span *span)
{
    return ap__span_bytes(span) - ((size_t)span->packed.free_units << AP_UNIT_SHIFT);
}

/* From now on the span, which is on no list, belongs to the pool. */
static void enter_span_locked(struct ap__pack_pool *pool, struct ap__span *span)
{
    ap__counter_add(&pool->spans, 1);
    ap__counter_add(&pool->block_bytes, used_bytes(span));
    ap__pack_lists_insert(&pool->lists, span);
    /* relaxed: read without a lock as a hint only; see ap__pack_enter(). */
    atomic_store_explicit(&span->shard, (uint16_t)(pool - ap__pack_pools + 1),
                          memory_order_relaxed);
}

/* The reverse; but it goes on naming the pool: who frees one of its blocks must find a lock to take at any time. */
static void leave_span_locked(struct ap__pack_pool *pool, struct ap__span *span)
{
    ap__counter_add(&pool->spans, (uint64_t)0 - 1);
    ap__counter_add(&pool->block_bytes, (uint64_t)0 - used_bytes(span));
    ap__pack_lists_remove(&pool->lists, span, AP_PACK_NO_BUCKET);
}

static bool add_span_locked(struct ap__pack_pool *pool)
{
    const unsigned units = AP__PACK_SPAN_GRANULES << (AP_PAGE_HEAP_GRANULE_SHIFT - AP_UNIT_SHIFT);
    void *map = ap__meta_take(ap__unit_map_bytes(units));
    if (map == NULL) {
        return false;
    }
    struct ap__span *span = ap__page_heap_take_packed(AP__PACK_SPAN_GRANULES);
    if (span == NULL) {
        ap__meta_give(map, ap__unit_map_bytes(units));
        return false;
    }
    size_t granule = ap__region_granule_of(span->start);
    span->packed.free_units = (uint16_t)units;
    span->packed.longest_most = AP_PACK_RUN_MAX;
    span->packed.fresh = 0;
    span->packed.is_purged = ap__region_count_dirty(granule, span->granules) == 0;
    span->packed.claim_epoch = ap__central_epoch();
    for (unsigned part = 0; part < AP_PACK_PARTS; part++) {
        span->packed.part_most[part] = AP_PACK_RUN_MAX;
    }
    /* release: pairs with the acquire in find_unit() of pack.c: who sees them without the lock sees all of them free. */
    atomic_store_explicit(&span->unit_map, map, memory_order_release);
    enter_span_locked(pool, span);
    return true;
}

static void remove_span_locked(struct ap__pack_pool *pool, struct ap__span *span)
{
    ap__unit_word *map = atomic_load_explicit(&span->unit_map, memory_order_relaxed);
    size_t map_bytes = ap__unit_map_bytes(ap__span_units(span));
    leave_span_locked(pool, span);
    /* Nobody has a block of it. */
    atomic_store_explicit(&span->shard, 0, memory_order_relaxed);
    /* relaxed: who has read them before, with a wrong pointer, may go on doing so: metadata stays readable. */
    atomic_store_explicit(&span->unit_map, NULL, memory_order_relaxed);
    ap__page_heap_give(span);
    ap__meta_give(map, map_bytes);
}

void ap__pack_settle_locked(struct ap__pack_pool *pool, struct ap__span *span)
{
    if (span->packed.bucket == AP_PACK_AWAY) {
        return;
    }
    if (span->packed.free_units == ap__span_units(span)) {
        remove_span_locked(pool, span);
    } else if (AP_UNLIKELY(ap__pack_lists_is_misplaced(span))) {
        ap__pack_lists_move(&pool->lists, span);
    }
}

void ap__pack_become_unpurged_locked(struct ap__pack_pool *pool, struct ap__span *span)
{
    if (span->packed.is_purged) {
        span->packed.is_purged = false;
        if (span->packed.bucket != AP_PACK_AWAY) {
            ap__pack_lists_move(&pool->lists, span);
        }
    }
}

/* ------------------------------------------------------------ the pool of a block */

struct ap__pack_pool *ap__pack_enter(const struct ap__span *span)
{
    unsigned name;
    while ((name = atomic_load_explicit(&span->shard, memory_order_relaxed)) - 1 < AP_PACK_POOLS) {
        struct ap__pack_pool *pool = &ap__pack_pools[name - 1];
        AP__YIELD_POINT();
        ap__lock_take(&pool->lock);
        /* Again: it may have been taken over, or a block that is freed twice may have taken its span with it. */
        if (atomic_load_explicit(&span->shard, memory_order_relaxed) == name &&
            ap__span_peek_state(span) == AP__SPAN_PACKED) {
            return pool;
        }
        ap__lock_release(&pool->lock);
        if (ap__span_peek_state(span) != AP__SPAN_PACKED) {
            break;
        }
    }
    return NULL;
}

/* ------------------------------------------------------------ from one pool to another */

/* `any`: a long search is worth it, as there is no other memory. */
static struct ap__span *find_locked(const struct ap__pack_pool *pool, unsigned units, bool any)
{
    return any ? ap__pack_lists_find_any(&pool->lists, units)
               : ap__pack_lists_find(&pool->lists, units);
}

/* Whether the pool has no other span on its lists: that one it is about to claim from. */
static bool is_only_one(const struct ap__pack_lists *lists, const struct ap__span *span)
{
    return (lists->occupied & (lists->occupied - 1)) == 0 && span->link.next == span;
}

/* What the pool can give away: of the spans with the longest runs, which are those that it would claim from last. Any,
 * if there is no other memory. */
static struct ap__span *find_spare_locked(const struct ap__pack_pool *pool, unsigned units,
                                          bool any)
{
    if (pool->lists.occupied == 0) {
        return NULL;
    }
    struct ap__span *span = pool->lists.buckets[ap__highest_bit(pool->lists.occupied)];
    if (span->packed.longest_most >= units && (any || !is_only_one(&pool->lists, span))) {
        return span;
    }
    return any ? ap__pack_lists_find_any(&pool->lists, units) : NULL;
}

/* `true`: the pool may have a run of `units` now; also because blocks of its own came back while its lock was free. */
static bool take_over_from_locked(struct ap__pack_pool *pool, struct ap__pack_pool *other,
                                  unsigned units, bool any)
{
    ap__lock_take_second(&pool->lock, &other->lock);
    if (find_locked(pool, units, any) == NULL) {
        struct ap__span *span = find_spare_locked(other, units, any);
        if (span != NULL) {
            leave_span_locked(other, span);
            enter_span_locked(pool, span);
        }
    }
    ap__lock_release(&other->lock);
    return find_locked(pool, units, any) != NULL;
}

/* Whether a pool has more free than it needs to go on by itself, as far as one sees without its lock. */
static bool may_have_spare(const struct ap__pack_pool *pool)
{
    size_t span_bytes = (size_t)AP__PACK_SPAN_GRANULES * AP_GRANULE;
    size_t spans = atomic_load_explicit(&pool->spans, memory_order_relaxed);
    size_t bytes = spans * span_bytes;
    size_t used = atomic_load_explicit(&pool->block_bytes, memory_order_relaxed);
    return spans > 1 &&
           used + ap__max(bytes / SPARE_DIVISOR, span_bytes / SPARE_SPAN_DIVISOR) <= bytes;
}

static bool take_over_locked(struct ap__pack_pool *pool, unsigned units, bool any)
{
    for (unsigned number = 0; number < AP_PACK_POOLS; number++) {
        struct ap__pack_pool *other = &ap__pack_pools[number];
        if (other != pool && (any || may_have_spare(other)) &&
            take_over_from_locked(pool, other, units, any)) {
            return true;
        }
    }
    return false;
}

struct ap__span *ap__pack_find_span_locked(struct ap__pack_pool *pool, unsigned units)
{
    struct ap__span *span = find_locked(pool, units, false);
    if (AP_UNLIKELY(span == NULL)) {
        bool any = !take_over_locked(pool, units, false) && !add_span_locked(pool);
        if (!any || take_over_locked(pool, units, true)) {
            span = find_locked(pool, units, any);
        }
    }
    return span;
}
