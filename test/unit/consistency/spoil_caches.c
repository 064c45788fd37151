/* SPDX-License-Identifier: MIT */
/* spoil_caches.c: thread caches, transfer caches, and the blocks in them. */
#include "cache/cache_limits.h"
#include "cache/thread.h"
#include "damage.h"
#include "heap/page_heap.h"
#include "pack/pack.h"
#include "pack/pack_place.h"
#include "spoil.h"
#include "support/recycle.h"

static struct ap__thread_cache *my_cache(void)
{
    return ap__thread_cache_or_null();
}

static struct ap__free_list *list(void)
{
    return &my_cache()->lists[built.small_class];
}

static void more_than_capacity(void)
{
    ap__free_list_set_top(list(), list()->full + 1);
}

static void beyond_the_array(void)
{
    my_cache()->infos[built.small_class].room = 1;
}

static void full_elsewhere(void)
{
    const struct ap__free_list_info *info = &my_cache()->infos[built.small_class];
    list()->full = atomic_load(&info->bottom) + info->capacity + 1;
}

static void fold_above_top(void)
{
    my_cache()->infos[built.small_class].hidden = UINT16_MAX;
}

static void no_end(void)
{
    const struct ap__free_list_info *info = &my_cache()->infos[built.small_class];
    ap__slot_store(atomic_load(&info->bottom) + info->hidden, built.small_live);
}

static void unused_list_is_open(void)
{
    static ap__slot slots[2];
    my_cache()->lists[0].full = &slots[1];
}

static void unused_list_has_capacity(void)
{
    my_cache()->infos[AP_CLASS_COUNT - 1].capacity = 1;
}

static void cached_twice(void)
{
    ap__slot *top = ap__free_list_top(list());
    ap__slot_store(top - 1, ap__slot_load(top));
}

static void cached_and_free(void)
{
    void *p = ap__slot_load(ap__free_list_top(list()));
    struct ap__span *span = span_of(p);
    unsigned slot = (unsigned)(((uintptr_t)p - span->start) / SMALL);
    span->slots.bitmap[slot / 64] |= UINT64_C(1) << (slot % 64);
    span->slots.free_slots++;
    span->slots.first_word = 0;
    damage_central_count(built.small_class, DAMAGE_UNCLAIMED);
}

static void cached_interior(void)
{
    ap__slot_store(ap__free_list_top(list()), (char *)built.small_cached + 16);
}

static void cached_of_other_class(void)
{
    ap__slot_store(ap__free_list_top(list()), built.middling_live);
}

static void cached_foreign(void)
{
    ap__slot_store(ap__free_list_top(list()), &built.sent_class);
}

static struct ap__free_list *packed_list(void)
{
    return &my_cache()->lists[built.packed_class];
}

static void packed_of_no_recycled_class(void)
{
    recycle(built.packed_class, false);
}

static void packed_of_other_length(void)
{
    size_t size = ap__size_class[built.packed_class].size;
    struct ap__span *span = ap__pack_span_of(built.packed_cached);
    AP_CHECK(ap__pack_resize(span, built.packed_cached, size, size - AP_UNIT_BYTES),
             "it can be cut");
}

static void packed_interior(void)
{
    ap__slot_store(ap__free_list_top(packed_list()), (char *)built.packed_cached + AP_UNIT_BYTES);
}

static void packed_twice(void)
{
    ap__slot *top = ap__free_list_top(packed_list());
    ap__slot_store(top - 1, ap__slot_load(top));
}

static void packed_in_transfer(void)
{
    damage_transfer_put(built.sent_class, built.packed_cached);
}

static void capacity_sum(void)
{
    my_cache()->capacity_bytes += SMALL;
}

static void more_than_granted(void)
{
    /* A list of the largest blocks with a capacity that nobody granted. */
    static ap__slot array[9];
    unsigned c = AP_CLASS_COUNT - 1;
    struct ap__free_list_info *info = &my_cache()->infos[c];
    atomic_store(&info->bottom, array);
    info->capacity = 8;
    info->room = 8;
    my_cache()->lists[c].full = array + 8;
    ap__free_list_set_top(&my_cache()->lists[c], array);
    my_cache()->capacity_bytes += 8 * (size_t)ap__size_class[c].size;
}

static void grants_sum(void)
{
    (void)ap__cache_limits_grant(0, 1);
}

static void unused_cache(void)
{
    atomic_store(&my_cache()->in_use, false);
}

static void common_null(void)
{
    ap__slot_store(&ap__free_list_none, built.small_live);
}

static void transfer_count(void)
{
    damage_transfer(built.sent_class, DAMAGE_TRANSFER_COUNT);
}

static void transfer_limit(void)
{
    damage_transfer(built.sent_class, DAMAGE_TRANSFER_LIMIT);
}

static void transfer_unused(void)
{
    damage_transfer(built.sent_class, DAMAGE_TRANSFER_UNUSED);
}

static void transfer_twice(void)
{
    damage_transfer(built.sent_class, DAMAGE_TRANSFER_BLOCK);
}

static const struct spoil all[] = {
    {more_than_capacity, "holds more than its capacity"},
    {beyond_the_array, "beyond its array"},
    {full_elsewhere, "is full elsewhere"},
    {fold_above_top, "above the top"},
    {no_end, "no NULL where its blocks end"},
    {unused_list_is_open, "not empty and full"},
    {unused_list_has_capacity, "without an array has a capacity"},
    {cached_twice, "kept twice"},
    {cached_and_free, "free in its span"},
    {cached_interior, "is no slot"},
    {cached_of_other_class, "in no span of its class"},
    {cached_foreign, "in no span of its class"},
    {packed_of_no_recycled_class, "for a class that has none"},
    {packed_of_other_length, "not as long as its class"},
    {packed_interior, "not as long as its class"},
    {packed_twice, "kept twice"},
    {packed_in_transfer, "for a class that has none"},
    {capacity_sum, "sum of capacities"},
    {more_than_granted, "more room than it was granted"},
    {grants_sum, "the sum of all grants"},
    {unused_cache, "a cache that nobody has is not empty"},
    {common_null, "the NULL of unused lists"},
    {transfer_count, "transfer cache holds more than its capacity"},
    {transfer_limit, "transfer cache's limit"},
    {transfer_unused, "fewer blocks than unused"},
    {transfer_twice, "kept twice"},
};

const struct spoils spoils_of_caches = {all, sizeof all / sizeof *all};
