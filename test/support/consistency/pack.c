/* SPDX-License-Identifier: MIT */
/*
 * pack.c: each packed span's bitmaps, counts, bounds and list agree, and each pool's counts with those of its spans.
 */
#include "support/consistency/walk.h"

#include <string.h>

#include "base/bits.h"
#include "pack/pack.h"
#include "pack/pack_pools.h"

enum {
    LEAST_UNITS = AP__PACK_SIZE_MIN / AP_UNIT_BYTES + 1,
    MOST_UNITS = AP__PACK_SIZE_MAX / AP_UNIT_BYTES
};

/* By pool, from the records. */
static struct pool_sums {
    size_t spans, listed, block_bytes;
} pool_sums[AP_PACK_POOLS];
static size_t blocks;

/* Units of the free run from `unit` on. */
static unsigned run_at(const struct ap__unit_map *map, unsigned unit)
{
    unsigned end = unit;
    while (end < map->units && !ap__unit_is(map->used, end)) {
        end++;
    }
    return end - unit;
}

/* What a part of the span has at most, seen unit by unit. */
static void check_part(const struct ap__span *span, const struct ap__unit_map *map, unsigned part)
{
    unsigned part_units = map->units / AP_PACK_PARTS;
    unsigned longest = 0;
    for (unsigned unit = part * part_units; unit < (part + 1) * part_units; unit++) {
        unsigned run = (unsigned)ap__min(run_at(map, unit), AP_PACK_RUN_MAX);
        longest = (unsigned)ap__max(longest, run);
        unit += run != 0 ? run - 1 : 0;
    }
    walk_check_span(span->packed.part_most[part] >= longest,
                    "a part of a packed span has a longer run than it says", span);
    walk_check_span(span->packed.longest_most >= longest,
                    "a packed span has a longer run than it says", span);
}

/* One block after the other. Returns the units they have. */
static size_t check_blocks(const struct ap__span *span, const struct ap__unit_map *map)
{
    size_t used = 0;
    for (unsigned unit = 0; unit < map->units && !walk.found;) {
        if (!ap__unit_is(map->used, unit)) {
            walk_check_span(!ap__unit_is(map->last, unit), "a free unit is the last of a block",
                            span);
            unit++;
            continue;
        }
        unsigned end = unit;
        while (end < map->units && ap__unit_is(map->used, end) && !ap__unit_is(map->last, end)) {
            end++;
        }
        walk_check_span(end < map->units && ap__unit_is(map->used, end),
                        "a packed block has no end", span);
        unsigned units = end + 1 - unit;
        walk_check_span(units >= LEAST_UNITS && units <= MOST_UNITS,
                        "a packed block is too short or too long", span);
        used += units;
        blocks++;
        unit = end + 1;
    }
    return used;
}

static void check_packed_span(const struct ap__span *span)
{
    unsigned name = atomic_load(&span->shard);
    walk_check_span(span->granules == AP__PACK_SPAN_GRANULES, "a packed span's length is wrong",
                    span);
    if (!walk_check(name != 0 && name <= AP_PACK_POOLS, "a packed span names no pool", span,
                    span->index) ||
        !walk_check(atomic_load(&span->unit_map) != NULL, "a packed span has no bitmaps", span,
                    span->index)) {
        return;
    }
    struct pool_sums *sums = &pool_sums[name - 1];
    struct ap__unit_map map = ap__unit_map_of(span);
    size_t used = check_blocks(span, &map);
    walk_check_span(used + span->packed.free_units == map.units,
                    "the number of free units is not the bitmap's", span);
    for (unsigned part = 0; part < AP_PACK_PARTS && !walk.found; part++) {
        check_part(span, &map, part);
    }
    bool is_away = span->packed.bucket == AP_PACK_AWAY;
    walk.is_busy |= is_away;
    walk_check_span(is_away || !ap__pack_lists_is_misplaced(span),
                    "a packed span's bucket is not that of its longest run", span);
    walk_check_span(is_away || used != 0, "a packed span without blocks is kept", span);
    sums->spans++;
    sums->listed += span->packed.bucket < AP_PACK_BUCKETS;
    sums->block_bytes += used * AP_UNIT_BYTES;
}

/* Returns the spans on the list. */
static size_t check_bucket(unsigned number, unsigned bucket)
{
    const struct ap__pack_lists *lists = &ap__pack_pools[number].lists;
    const struct ap__span *head = lists->buckets[bucket];
    const struct ap__span *span = head;
    bool purged_before = false;
    size_t count = 0;
    (void)walk_check(((lists->occupied >> bucket & 1) != 0) == (head != NULL),
                     "the bit of a pool's bucket is wrong", head, bucket);
    while (span != NULL && !walk.found) {
        walk_check_span(count <= walk.records, "a pool's list has no end", span);
        walk_check_span(span->state == AP__SPAN_PACKED, "a span on a pool's list is not packed",
                        span);
        walk_check_span(atomic_load(&span->shard) == number + 1,
                        "a span on a pool's list names another", span);
        walk_check_span(span->packed.bucket == bucket,
                        "a packed span is on another list than it says", span);
        walk_check_span(span->link.next->link.previous == span, "a pool's links differ", span);
        walk_check_span(span->packed.is_purged || !purged_before,
                        "a packed span with its pages is behind a purged one", span);
        purged_before = span->packed.is_purged;
        count++;
        span = span->link.next == head ? NULL : span->link.next;
    }
    return count;
}

static void check_pool(unsigned number)
{
    const struct pool_sums *expected = &pool_sums[number];
    const struct ap__pack_pool *pool = &ap__pack_pools[number];
    size_t listed = 0;
    for (unsigned bucket = 0; bucket < AP_PACK_BUCKETS; bucket++) {
        listed += check_bucket(number, bucket);
    }
    (void)walk_check(listed == expected->listed, "a packed span is not on the list it says", NULL,
                     number);
    (void)walk_check(atomic_load(&pool->spans) == expected->spans,
                     "a pool's count of spans is wrong", NULL, number);
    (void)walk_check(atomic_load(&pool->block_bytes) == expected->block_bytes,
                     "a pool's count of bytes is wrong", NULL, number);
}

void walk_pack(void)
{
    size_t counted = 0;
    memset(pool_sums, 0, sizeof pool_sums);
    blocks = 0;
    for (uint32_t i = 0; i < walk.records && !walk.found; i++) {
        const struct ap__span *span = ap__span_by_index(i);
        if (span->state == AP__SPAN_PACKED) {
            check_packed_span(span);
        }
    }
    for (unsigned number = 0; number < AP_PACK_POOLS && !walk.found; number++) {
        check_pool(number);
        counted += ap__pack_pools[number].blocks;
    }
    (void)walk_check(counted == blocks, "the count of packed blocks is wrong", NULL, blocks);
    walk.sums.packed_blocks = blocks;
}
