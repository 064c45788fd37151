/* SPDX-License-Identifier: MIT */
/* spoil_central.c: small spans, the lists they are on, and the counts of their shards. */
#include "central/shards.h"
#include "central/slot_map.h"
#include "damage.h"
#include "heap/page_heap.h"
#include "spoil.h"

static void bit_and_count(void)
{
    built.spread[0]->slots.free_slots--;
}

static void bit_behind(void)
{
    unsigned slots = ap__size_class[built.middling_class].slots;
    built.spread[0]->slots.bitmap[slots / 64] |= UINT64_C(1) << (slots % 64);
}

static void first_word(void)
{
    built.spread[0]->slots.first_word = 1;
}

static void bucket(void)
{
    built.spread[0]->slots.bucket--;
}

static void wrong_length(void)
{
    /* One granule is cut off, as a large object of its own. */
    struct ap__span *rest = ap__span_record_take();
    struct ap__span *span = built.spread[0];
    span->granules--;
    *rest = (struct ap__span){.start = span->start + ap__span_bytes(span),
                              .granules = 1,
                              .index = rest->index,
                              .state = AP__SPAN_LARGE};
    ap__region_set_span_ends(ap__region_granule_of(rest->start), 1, rest);
    ap__region_set_class(ap__region_granule_of(rest->start), 1, 0);
    damage_page_heap_sum(DAMAGE_LARGE_COUNT);
    damage_page_heap_sum(DAMAGE_LARGE_GRANULES);
}

static void no_bitmap(void)
{
    built.spread[0]->slots.bitmap = NULL;
}

static void list_link(void)
{
    built.spread[0]->link.previous = built.spread[0];
}

static void purged_order(void)
{
    const struct ap__span_lists *lists = &ap__shard_at(0, built.middling_class)->lists;
    lists->buckets[built.spread[0]->slots.bucket]->slots.is_purged = true;
}

static void not_listed(void)
{
    damage_forget_listed(built.small_class);
}

static void class_spans(void)
{
    damage_central_count(built.middling_class, DAMAGE_SPANS);
}

static void drained(void)
{
    struct ap__span *span = built.spread[0];
    unsigned slots = ap__size_class[built.middling_class].slots;
    ap__slot_map_fill(span, slots);
}

static void class_claimed(void)
{
    damage_central_count(built.middling_class, DAMAGE_CLAIMED);
}

static void class_occupied(void)
{
    damage_central_count(built.middling_class, DAMAGE_OCCUPIED);
}

static void class_spare(void)
{
    damage_central_count(built.middling_class, DAMAGE_SPARE);
}

static void no_shard(void)
{
    atomic_store(&built.spread[0]->shard, 0);
}

static void other_shard(void)
{
    atomic_store(&span_of(built.small_live)->shard, ap__shard_name(1, built.small_class));
}

static void shard_of_other_class(void)
{
    atomic_store(&span_of(built.small_live)->shard, ap__shard_name(0, built.middling_class));
}

static void shard_of_none(void)
{
    atomic_store(&built.free_short->shard, ap__shard_name(0, 1));
}

static const struct spoil all[] = {
    {bit_and_count, "number of free slots is not the bitmap's"},
    {bit_behind, "behind the last slot"},
    {first_word, "before the first word"},
    {bucket, "bucket is not that of its free slots"},
    {wrong_length, "a small span's length"},
    {no_bitmap, "has no bitmap"},
    {list_link, "a bucket's links differ"},
    {purged_order, "behind a purged one"},
    {not_listed, "not on the list it says"},
    {class_spans, "class' count of spans"},
    {drained, "a span without live blocks is kept"},
    {class_claimed, "class' count of claimed blocks"},
    {class_occupied, "the bit of a bucket"},
    {class_spare, "spare span is not what it says"},
    {no_shard, "names no shard of its class"},
    {other_shard, "names no shard of its class"},
    {shard_of_other_class, "names no shard of its class"},
    {shard_of_none, "a span of no class names a shard"},
};

const struct spoils spoils_of_central = {all, sizeof all / sizeof *all};
