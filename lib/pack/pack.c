/* SPDX-License-Identifier: MIT */
/*
 * pack.c: claims, releases and changes of length.
 *
 * First fit by address within a span, of the spans with the shortest runs that would do: so what is long stays long, and
 * spans with little in them drain.
 */
#include "pack/pack.h"

#include "base/counter.h"
#include "base/size_class.h"
#include "central/central_free_list.h"
#include "central/transfer_cache.h"
#include "heap/huge_pages.h"
#include "heap/page_heap.h"
#include "os/bell.h"
#include "os/os.h"
#include "os/yield.h"
#include "pack/pack_place.h"
#include "pack/pack_pools.h"

enum {
    POPULATE_SPANS_MIN = 8, /* so that an eighth more than is used is there at most */
    POPULATE_UNITS_MAX = AP__POPULATE_SIZE_MAX / AP_UNIT_BYTES,
    POLL_RELEASES = 16,
};

/* Set by init, constant afterwards. */
static bool populates;
static bool raises_bounds;

static void set_bounds(size_t bytes)
{
    for (unsigned c = ap__class_of_size(AP__PACK_SIZE_MIN);
         c < AP_CLASS_COUNT && ap__size_class[c].size <= AP__PACK_SIZE_MAX; c++) {
        ap__central_set_bound(c, bytes);
    }
}

void ap__pack_init(enum ap__when when, bool populate)
{
    static const size_t bounds[] = {
        [AP__WHEN_AUTO] = AP__PACK_BOUND_BYTES, [AP__WHEN_NEVER] = SIZE_MAX, [AP__WHEN_ALWAYS] = 0};
    populates = populate;
    raises_bounds = when == AP__WHEN_AUTO;
    set_bounds(bounds[when]);
}

_Atomic(uint8_t) ap__pack_classes_to_keep[AP__PACK_SIZE_MAX / AP_UNIT_BYTES + 1];
_Atomic(bool) ap__pack_recycling;

static void set_recycled(unsigned size_class)
{
    size_t size = ap__size_class[size_class].size;
    AP_ASSERT(size % AP_UNIT_BYTES == 0);
    ap__transfer_keep_all(size_class); /* bringing one back is a lock and a search */
    atomic_store_explicit(&ap__pack_classes_to_keep[size >> AP_UNIT_SHIFT], (uint8_t)size_class,
                          memory_order_relaxed);
    atomic_store_explicit(&ap__pack_recycling, true, memory_order_relaxed);
}

/* A fine class is recycled when both is true: in the lists of a closed one no call looks for blocks. */
enum { FINE_IS_OPEN = 1, FINE_IS_REPLACING = 2 };
static _Atomic(uint8_t) fine_states[AP_CLASS_COUNT];

static void note_fine(unsigned fine, uint8_t state)
{
    /* relaxed: the second of two sees what the first has set; nothing else depends on it. */
    uint8_t before = atomic_fetch_or_explicit(&fine_states[fine], state, memory_order_relaxed);
    if ((before | state) == (FINE_IS_OPEN | FINE_IS_REPLACING)) {
        set_recycled(fine);
    }
}

void ap__pack_note_open(unsigned fine)
{
    note_fine(fine, FINE_IS_OPEN);
}

/* These blocks replace each other: those of the class, and of the fine one below it, belong into thread caches. In a small
 * heap the class has more spans of its own from now on, and what is packed of it goes by and by. In a large one that would
 * leave holes as large as the new spans, and where sizes are mixed no packed span would ever drain: so packed blocks
 * go through the caches themselves. */
static void note_replacing(size_t size_bytes)
{
    unsigned size_class = ap__class_of_size(size_bytes);
    size_class += ap__class_is_fine(size_class);
    if (ap__pack_block_bytes() > AP__PACK_RAISE_BYTES_MAX || !raises_bounds) {
        set_recycled(size_class);
        note_fine(size_class - 1, FINE_IS_REPLACING);
    } else if (ap__central_bound(size_class) < AP__PACK_RAISED_BYTES) {
        ap__central_set_bound(size_class, AP__PACK_RAISED_BYTES);
        ap__central_set_bound(size_class - 1, AP__PACK_RAISED_BYTES);
    }
}

static unsigned units_for(size_t size_bytes)
{
    return (unsigned)((size_bytes + AP_UNIT_BYTES - 1) >> AP_UNIT_SHIFT);
}

static size_t bytes_of(unsigned units)
{
    return (size_t)units << AP_UNIT_SHIFT;
}

/* Whether another thread has met this one, or a third, at the lock of late. */
static bool was_waited_for_locked(struct ap__pack_pool *pool)
{
    struct ap__lock_stats now = {0, 0};
    ap__lock_add_stats(&pool->lock, &now);
    bool waited = now.contended != pool->seen_contended;
    pool->seen_contended = now.contended;
    return waited;
}

/* ------------------------------------------------------------ take */

/* Memory that is about to be used for the first time, and is to be populated; see central_free_list.c. */
struct fresh_memory {
    uintptr_t start;
    size_t bytes; /* 0: none */
};

static bool is_worth_populating(const struct ap__pack_pool *pool, const struct ap__span *span)
{
    return populates && span->packed.is_purged &&
           atomic_load_explicit(&pool->spans, memory_order_relaxed) >= POPULATE_SPANS_MIN &&
           !ap__huge_pages_expected(span->start);
}

/* `units` of the span below `end` have been claimed. */
static struct fresh_memory note_fresh_locked(struct ap__pack_pool *pool, struct ap__span *span,
                                             unsigned units, unsigned end)
{
    struct fresh_memory fresh = {0, 0};
    size_t from = span->packed.fresh;
    size_t to = (bytes_of(end) + AP_GRANULE - 1) / AP_GRANULE;
    if (from == 0 && !is_worth_populating(pool, span)) {
        to = span->granules;
    } else if (to > from && units <= POPULATE_UNITS_MAX) {
        ap__pack_become_unpurged_locked(pool, span);
        fresh = (struct fresh_memory){span->start + from * AP_GRANULE, (to - from) * AP_GRANULE};
    }
    span->packed.fresh = (uint8_t)ap__max(from, to);
    return fresh;
}

/* The first free run of `units`; the end of the span if there is none. What was only thought to be one is known better
 * afterwards. */
static unsigned find_run(struct ap__span *span, unsigned units)
{
    struct ap__unit_map map = ap__unit_map_of(span);
    unsigned part_units = map.units / AP_PACK_PARTS;
    unsigned longest = 0;
    for (unsigned part = 0; part < AP_PACK_PARTS; part++) {
        unsigned most = span->packed.part_most[part];
        if (most >= units) {
            unsigned end = (part + 1) * part_units;
            unsigned unit = ap__unit_map_find(&map, end - part_units, end, units, &most);
            if (unit != end) {
                return unit;
            }
            span->packed.part_most[part] = (uint16_t)most;
        }
        longest = (unsigned)ap__max(longest, most);
    }
    span->packed.longest_most = (uint16_t)longest;
    return map.units;
}

/* A run of units, which is claimed. NULL: no memory. */
static struct ap__span *claim_locked(struct ap__pack_pool *pool, unsigned units, unsigned *unit)
{
    for (;;) {
        struct ap__span *span = ap__pack_find_span_locked(pool, units);
        if (span == NULL) {
            return NULL;
        }
        *unit = find_run(span, units);
        struct ap__unit_map map = ap__unit_map_of(span);
        if (*unit != map.units) {
            ap__unit_map_claim(&map, *unit, units);
            return span;
        }
        ap__pack_lists_move(&pool->lists,
                            span); /* its longest run is less than before: so this ends */
    }
}

/* `units` of the span have become part of blocks. */
static void note_claimed_locked(struct ap__pack_pool *pool, struct ap__span *span, unsigned units)
{
    span->packed.free_units -= (uint16_t)units;
    span->packed.claim_epoch = ap__central_epoch();
    if (span->packed.longest_most > span->packed.free_units) {
        span->packed.longest_most = span->packed.free_units;
        ap__pack_settle_locked(pool, span);
    }
}

void *ap__pack_take(size_t size_bytes, unsigned thread)
{
    struct fresh_memory fresh = {0, 0};
    unsigned units = units_for(size_bytes);
    unsigned unit;
    void *p = NULL;
    struct ap__pack_pool *pool = ap__pack_pool_of(thread);
    ap__lock_take(&pool->lock);
    struct ap__span *span = claim_locked(pool, units, &unit);
    if (span != NULL) {
        note_claimed_locked(pool, span, units);
        if (AP_UNLIKELY(span->packed.fresh < span->granules)) {
            fresh = note_fresh_locked(pool, span, units, unit + units);
        }
        pool->blocks++;
        ap__counter_add(&pool->block_bytes, bytes_of(units));
        if (ap__pack_traffic_taken(&pool->traffic, bytes_of(units), was_waited_for_locked(pool))) {
            note_replacing(bytes_of(units));
        }
        p = (void *)(span->start + bytes_of(unit));
    }
    ap__lock_release(&pool->lock);
    /* Without the lock; the block there is ours, so the span stays. */
    if (fresh.bytes != 0) {
        (void)ap__os_populate((void *)fresh.start, fresh.bytes);
    }
    return p;
}

/* ------------------------------------------------------------ give */

/* Whether a live block starts at `p`, and at which unit of its span; as ap__pack_find_unit(). */
static inline bool find_block(const struct ap__span *span, const void *p,
                              struct ap__pack_place *place)
{
    return (uintptr_t)p % AP_UNIT_BYTES == 0 && ap__pack_find_unit(span, p, place) &&
           ap__unit_map_is_start(&place->map, place->unit);
}

enum ap__misuse_cause ap__pack_why_no_block(const struct ap__span *span, const void *p)
{
    struct ap__pack_place place;
    bool is_inside = ap__pack_find_unit(span, p, &place) && ap__unit_is(place.map.used, place.unit);
    return is_inside ? AP__MISUSE_INTERIOR : AP__MISUSE_NOT_LIVE;
}

/* Up to three parts see a longer run: that where it begins, and those that the units lie in. */
static void note_run(struct ap__span *span, unsigned unit, unsigned units)
{
    struct ap__unit_map map = ap__unit_map_of(span);
    unsigned part_units = map.units / AP_PACK_PARTS;
    unsigned begin = ap__unit_map_run_begin(&map, unit, AP_PACK_RUN_MAX);
    for (unsigned part = begin / part_units; part <= (unit + units - 1) / part_units; part++) {
        unsigned from = (unsigned)ap__max(begin, part * part_units);
        unsigned most = (unsigned)ap__min(from + AP_PACK_RUN_MAX, map.units);
        unsigned run = ap__unit_next(map.used, from, most, true) - from;
        uint16_t *longest = &span->packed.part_most[part];
        *longest = (uint16_t)ap__max(*longest, run);
        span->packed.longest_most = (uint16_t)ap__max(span->packed.longest_most, run);
    }
}

/* `units` from `unit` on have become free. */
static void note_free_locked(struct ap__pack_pool *pool, struct ap__span *span, unsigned unit,
                             unsigned units)
{
    note_run(span, unit, units);
    span->packed.free_units += (uint16_t)units;
    ap__pack_become_unpurged_locked(pool, span);
    ap__pack_settle_locked(pool, span);
}

/* The block at `unit` becomes free. */
static void release_locked(struct ap__pack_pool *pool, struct ap__span *span, unsigned unit)
{
    struct ap__unit_map map = ap__unit_map_of(span);
    unsigned units = ap__unit_map_length(&map, unit);
    ap__unit_map_release(&map, unit, units);
    pool->blocks--;
    pool->releases++;
    ap__counter_add(&pool->block_bytes, 0 - bytes_of(units));
    ap__pack_traffic_given(&pool->traffic, bytes_of(units));
    note_free_locked(pool, span, unit, units);
}

static size_t block_bytes_at(const struct ap__pack_place *place)
{
    return bytes_of(ap__unit_map_length(&place->map, place->unit));
}

/* Whether the block may be given back as one of `bytes`, 0: of any length. Where one of another length begins, that
 * which is meant is gone, or the program resized it after it had freed it. */
static bool has_length(const struct ap__pack_place *place, size_t bytes)
{
    return bytes == 0 || block_bytes_at(place) == bytes;
}

/* As ap__pack_give(), of a block of `bytes`, 0: whatever it has. */
static bool give(struct ap__span *span, void *p, size_t bytes, const char *function)
{
    enum ap__misuse_cause cause = AP__MISUSE_NOT_LIVE;
    bool is_block = false;
    bool is_time = false;
    struct ap__pack_pool *pool = ap__pack_enter(span);
    if (AP_LIKELY(pool != NULL)) {
        struct ap__pack_place place;
        bool is_start = find_block(span, p, &place);
        is_block = is_start && has_length(&place, bytes);
        if (AP_LIKELY(is_block)) {
            release_locked(pool, span, place.unit);
            is_time = pool->releases % POLL_RELEASES == 0;
        } else if (!is_start) {
            cause = ap__pack_why_no_block(span, p);
        }
        ap__lock_release(&pool->lock);
    }
    /* Reported without the lock: the program may have a handler for SIGABRT, and it may allocate. */
    if (AP_UNLIKELY(!is_block)) {
        ap__misuse(function, p, cause);
    }
    ap__bell_ring(&ap__heap_bell);
    return is_time;
}

bool ap__pack_give(struct ap__span *span, void *p, const char *function)
{
    return give(span, p, 0, function);
}

/* How many of the first blocks are of spans of the class, as far as one sees; *packed: the span of the one behind them. */
static unsigned count_plain(unsigned size_class, void *const *blocks, unsigned count,
                            struct ap__span **packed)
{
    unsigned plain = 0;
    *packed = NULL;
    if (!ap__pack_is_recycled(size_class)) {
        return count;
    }
    while (plain < count && (*packed = ap__pack_span_of(blocks[plain])) == NULL) {
        plain++;
    }
    return plain;
}

void ap__pack_give_kept(unsigned size_class, void *const *blocks, unsigned count,
                        const char *function)
{
    for (unsigned done = 0; done < count;) {
        struct ap__span *packed;
        unsigned plain = count_plain(size_class, blocks + done, count - done, &packed);
        if (plain != 0) {
            ap__central_give(size_class, blocks + done, plain, function);
        }
        done += plain;
        if (packed != NULL) {
            (void)give(packed, blocks[done++], ap__size_class[size_class].size, function);
        }
    }
}

bool ap__pack_empty_transfers(unsigned size_class, const char *function)
{
    void *blocks[AP_BATCH_MAX];
    bool any = false;
    unsigned got;
    while ((got = ap__transfer_drain(size_class, blocks, AP_BATCH_MAX)) != 0) {
        ap__pack_give_kept(size_class, blocks, got, function);
        any = true;
    }
    return any;
}

static void check_packed(const struct ap__span *span, void *p, size_t bytes, const char *function)
{
    size_t usable = ap__pack_usable_size(span, p);
    if (AP_MISUSED(usable != bytes)) {
        ap__misuse(function, p, usable == 0 ? ap__pack_why_no_block(span, p) : AP__MISUSE_NOT_LIVE);
    }
}

void ap__pack_check_kept(unsigned size_class, void *const *blocks, unsigned count,
                         const char *function)
{
    for (unsigned done = 0; AP_CHECKS && done < count;) {
        struct ap__span *packed;
        unsigned plain = count_plain(size_class, blocks + done, count - done, &packed);
        ap__central_check_slots(size_class, blocks + done, plain, function);
        done += plain;
        if (packed != NULL) {
            check_packed(packed, blocks[done++], ap__size_class[size_class].size, function);
        }
    }
}

/* ------------------------------------------------------------ length */

/* What looks wrong may be a neighbour's change. */
static AP_NOINLINE size_t usable_size_for_sure(const struct ap__span *span, const void *p)
{
    struct ap__pack_pool *pool = ap__pack_enter(span);
    struct ap__pack_place place;
    size_t bytes = 0;
    if (pool != NULL) {
        bytes = find_block(span, p, &place) ? block_bytes_at(&place) : 0;
        ap__lock_release(&pool->lock);
    }
    return bytes;
}

size_t ap__pack_usable_size(const struct ap__span *span, const void *p)
{
    size_t bytes = bytes_of(ap__pack_units_at(span, p));
    if (AP_UNLIKELY(bytes == 0)) {
        return usable_size_for_sure(span, p);
    }
    /* No more than can be read, if it was put together from two spans. */
    return AP_LIKELY(ap__region_contains((uintptr_t)p + bytes - 1)) ? bytes : 0;
}

/* The block at `unit` has `before` units and is to have `wanted`. It may have none any more, if the program frees what it
 * resizes: then its neighbours must keep theirs. */
static bool resize_locked(struct ap__pack_pool *pool, struct ap__span *span, unsigned unit,
                          unsigned before, unsigned wanted)
{
    struct ap__unit_map map = ap__unit_map_of(span);
    if (AP_UNLIKELY(!ap__unit_map_is_start(&map, unit) ||
                    ap__unit_map_length(&map, unit) != before)) {
        return false;
    }
    /* What is free in a span that is away is about to lose its pages. */
    bool is_away = span->packed.bucket == AP_PACK_AWAY;
    if ((is_away && wanted > before) || !ap__unit_map_resize(&map, unit, before, wanted)) {
        return false;
    }
    ap__counter_add(&pool->block_bytes, bytes_of(wanted) - bytes_of(before));
    if (wanted > before) {
        note_claimed_locked(pool, span, wanted - before);
    } else if (wanted < before) {
        note_free_locked(pool, span, unit + wanted, before - wanted);
    }
    return true;
}

bool ap__pack_resize(struct ap__span *span, const void *p, size_t before_bytes, size_t size_bytes)
{
    struct ap__pack_pool *pool = ap__pack_may(1, size_bytes) ? ap__pack_enter(span) : NULL;
    if (pool == NULL) {
        return false;
    }
    struct ap__pack_place place;
    bool done =
        ap__pack_find_unit(span, p, &place) &&
        resize_locked(pool, span, place.unit, units_for(before_bytes), units_for(size_bytes));
    ap__lock_release(&pool->lock);
    if (done && size_bytes < before_bytes) {
        ap__bell_ring(&ap__heap_bell); /* what is free now is to go back some time */
    }
    return done;
}

/* ------------------------------------------------------------ figures */

size_t ap__pack_block_bytes(void)
{
    size_t bytes = 0;
    for (unsigned number = 0; number < AP_PACK_POOLS; number++) {
        bytes += atomic_load_explicit(&ap__pack_pools[number].block_bytes, memory_order_relaxed);
    }
    return bytes;
}

void ap__pack_stats(struct ap__pack_stats *stats)
{
    *stats = (struct ap__pack_stats){0};
    for (unsigned number = 0; number < AP_PACK_POOLS; number++) {
        struct ap__pack_pool *pool = &ap__pack_pools[number];
        ap__lock_take(&pool->lock);
        stats->spans += atomic_load_explicit(&pool->spans, memory_order_relaxed);
        stats->blocks += pool->blocks;
        stats->block_bytes += atomic_load_explicit(&pool->block_bytes, memory_order_relaxed);
        ap__lock_release(&pool->lock);
    }
    stats->span_bytes = stats->spans * AP__PACK_SPAN_GRANULES * AP_GRANULE;
}
