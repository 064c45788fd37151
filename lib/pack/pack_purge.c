/* SPDX-License-Identifier: MIT */
/*
 * pack_purge.c: the free pages inside packed spans go back to the kernel.
 *
 * As in central_purge.c: a span from which no block was taken for some epochs is taken off its list, so that nobody claims
 * from it, and listed again when its free pages have gone: the lock is free for the system calls, and blocks may come
 * back meanwhile.
 */
#include "central/central_free_list.h"
#include "heap/page_runs.h"
#include "os/os.h"
#include "pack/pack.h"
#include "pack/pack_pools.h"

enum {
    AWAY_MAX = 64, /* spans that are away at a time */
    RUNS_MAX = 32, /* page runs that are given back without the lock at a time */
};

struct purge {
    struct ap__pack_pool *pool;
    unsigned age_least, age_most;
    bool refused; /* by the kernel: locked pages, say; trying again would not help */
    bool pending; /* there are spans to purge later */
    unsigned count;
    struct ap__span *spans[AWAY_MAX];
};

/* Epochs since a block of the span was last handed out; wraps, which makes it look younger at worst. */
static bool is_due(const struct purge *purge, const struct ap__span *span)
{
    unsigned drawn = span->index % (purge->age_most - purge->age_least + 1);
    return (uint8_t)(ap__central_epoch() - span->packed.claim_epoch) >= purge->age_least + drawn;
}

/* Takes spans off a list: those that have had blocks back since they were purged, which come first. */
static void take_away_from_locked(struct purge *purge, unsigned bucket)
{
    struct ap__span *span = purge->pool->lists.buckets[bucket];
    struct ap__span *tail = span != NULL ? span->link.previous : NULL;
    for (bool more = span != NULL; more && !span->packed.is_purged && purge->count < AWAY_MAX;) {
        struct ap__span *next = span->link.next;
        more = span != tail;
        if (!is_due(purge, span)) {
            purge->pending = true;
        } else {
            ap__pack_lists_remove(&purge->pool->lists, span, AP_PACK_AWAY);
            purge->spans[purge->count++] = span;
        }
        span = next;
    }
}

/* Those with the longest runs first. */
static bool take_away_locked(struct purge *purge)
{
    purge->count = 0;
    for (uint32_t left = purge->pool->lists.occupied; left != 0;) {
        unsigned bucket = ap__highest_bit(left);
        left &= ~(UINT32_C(1) << bucket);
        take_away_from_locked(purge, bucket);
    }
    return purge->count != 0;
}

/* The whole pages of free runs from *unit on; *unit is then where to go on. */
static unsigned collect_runs_locked(struct ap__span *span, struct ap__page_run *runs,
                                    unsigned *unit)
{
    struct ap__unit_map map = ap__unit_map_of(span);
    size_t page_bytes = ap__os_page_size();
    unsigned count = 0;
    while (count < RUNS_MAX && *unit < map.units) {
        unsigned first = ap__unit_next(map.used, *unit, map.units, false);
        unsigned end = ap__unit_next(map.used, first, map.units, true);
        size_t from = ap__align_up((size_t)first << AP_UNIT_SHIFT, page_bytes);
        size_t to = ap__align_down((size_t)end << AP_UNIT_SHIFT, page_bytes);
        if (from < to) {
            runs[count++] = (struct ap__page_run){span->start + from, to - from};
        }
        *unit = end;
    }
    return count;
}

/* Gives the free pages of a span that is away back, and lists it again. Enters and leaves with the lock,
 * which is free in between. */
static size_t purge_span_locked(struct purge *purge, struct ap__span *span)
{
    struct ap__pack_pool *pool = purge->pool;
    size_t purged = 0;
    unsigned unit = 0;
    struct ap__page_run runs[RUNS_MAX];
    span->packed.is_purged = true;
    for (unsigned count; (count = collect_runs_locked(span, runs, &unit)) != 0;) {
        ap__lock_release(&pool->lock);
        purged += ap__page_runs_discard(runs, count, &purge->refused);
        ap__lock_take(&pool->lock);
    }
    span->packed.bucket = AP_PACK_NO_BUCKET;
    span->packed.is_purged &= !purge->refused;
    ap__pack_settle_locked(pool, span);
    return purged;
}

static size_t purge_pool(struct purge *purge)
{
    struct ap__pack_pool *pool = purge->pool;
    size_t purged = 0;
    ap__lock_take(&pool->lock);
    /* Not more spans than there are now: others may go on freeing meanwhile. */
    for (size_t left = atomic_load_explicit(&pool->spans, memory_order_relaxed);
         left > 0 && !purge->refused && take_away_locked(purge);) {
        for (unsigned i = 0; i < purge->count; i++) {
            purged += purge_span_locked(purge, purge->spans[i]);
        }
        left -= ap__min(left, purge->count);
    }
    ap__lock_release(&pool->lock);
    return purged;
}

size_t ap__pack_purge(unsigned age_least, unsigned age_most, bool *pending)
{
    struct purge purge = {.age_least = age_least, .age_most = age_most};
    size_t purged = 0;
    for (unsigned number = 0; number < AP_PACK_POOLS && !purge.refused; number++) {
        purge.pool = &ap__pack_pools[number];
        purged += purge_pool(&purge);
    }
    *pending |= purge.pending && !purge.refused;
    return purged;
}
