/* SPDX-License-Identifier: MIT */
/* spoil_page_heap.c: the region, its maps, the records, the tree, the dirty lists and the sums. */
#include "apmalloc.h"
#include "damage.h"
#include "heap/page_heap.h"
#include "spoil.h"

static void tile_start(void)
{
    span_of(built.larges[1])->start += AP_GRANULE;
}

static void tile_too_long(void)
{
    span_of(built.larges[1])->granules++;
}

static void last_granule(void)
{
    size_t first = ap__region_granule_of((uintptr_t)built.larges[1]);
    ap__region_set_span(first + span_of(built.larges[1])->granules - 1, 1, built.free_long);
}

static void class_map(void)
{
    ap__region_set_class(ap__region_granule_of((uintptr_t)built.small_live), 1,
                         built.small_class + 1);
}

static void class_map_of_large(void)
{
    ap__region_set_class(ap__region_granule_of((uintptr_t)built.larges[1]), 1, 1);
}

static void small_granule(void)
{
    /* Not an end of it: the class has spans of three granules. */
    ap__region_set_span(ap__region_granule_of(built.spread[0]->start) + 1, 1, built.spread[1]);
}

static void unlink_side_by_side(void)
{
    /* A free span becomes two. */
    struct ap__span *second = ap__span_record_take();
    built.free_long->granules--;
    *second = (struct ap__span){.start = built.free_long->start + ap__span_bytes(built.free_long),
                                .granules = 1,
                                .index = second->index,
                                .state = AP__SPAN_FREE,
                                .tree.dirty_granules = 1};
    built.free_long->tree.dirty_granules--;
    size_t first = ap__region_granule_of(built.free_long->start);
    ap__region_set_span_ends(first, built.free_long->granules, built.free_long);
    ap__region_set_span_ends(first + built.free_long->granules, 1, second);
}

static void dirty_count(void)
{
    built.free_long->tree.dirty_granules--;
}

static void clean_map(void)
{
    ap__region_set_clean(ap__region_granule_of(built.free_short->start), 1, true);
}

static void not_zero(void)
{
    (void)ap_trim();
    ((char *)built.free_long->start)[3 * AP_GRANULE + 12345] = 1;
}

static void lost_tile(void)
{
    struct ap__span *lost = ap__span_record_take();
    *lost = *span_of(built.larges[1]);
    lost->index = ap__span_record_count() - 1;
}

static void lost_record(void)
{
    (void)ap__span_record_take();
}

static void record_index(void)
{
    span_of(built.larges[1])->index++;
}

static void record_state(void)
{
    span_of(built.larges[1])->state = 77;
}

static void says_outside(void)
{
    span_of(built.larges[1])->outside = true;
}

static void says_inside(void)
{
    span_of(built.outside_large)->outside = false;
}

static void priority(void)
{
    built.free_short->tree.priority ^= 1;
}

/* The two short ones are of one length; which is the other's child depends on the addresses. */
static void tree_order(void)
{
    struct ap__page_heap_view view;
    ap__page_heap_view_locked(&view);
    struct ap__span *root = ap__span_by_index(view.tree_root->index);
    struct ap__span *left = root->tree.left;
    root->tree.left = root->tree.right;
    root->tree.right = left;
}

static void dirty_link(void)
{
    struct ap__page_heap_view view;
    ap__page_heap_view_locked(&view);
    ap__span_by_index(view.dirty[AP__DIRTY_SHORT].oldest->index)->link.previous = built.free_long;
}

static void free_sum(void)
{
    damage_page_heap_sum(DAMAGE_FREE_GRANULES);
}

static void large_sum(void)
{
    damage_page_heap_sum(DAMAGE_LARGE_GRANULES);
}

static void large_count(void)
{
    damage_page_heap_sum(DAMAGE_LARGE_COUNT);
}

static void outside_sum(void)
{
    damage_page_heap_sum(DAMAGE_OUTSIDE_GRANULES);
}

static void tree_count(void)
{
    damage_page_heap_sum(DAMAGE_TREE_COUNT);
}

static void short_sum(void)
{
    damage_page_heap_sum(DAMAGE_SHORT_DIRTY);
}

static void long_sum(void)
{
    damage_page_heap_sum(DAMAGE_LONG_DIRTY);
}

static const struct spoil all[] = {
    {tile_start, "begins at another granule"},
    {tile_too_long, "last granule leads elsewhere"},
    {last_granule, "last granule leads elsewhere"},
    {class_map, "class map has another class"},
    {class_map_of_large, "class map has another class"},
    {small_granule, "a granule of a small span leads elsewhere"},
    {unlink_side_by_side, "two free spans are side by side"},
    {dirty_count, "dirty count is not that of the clean map"},
    {clean_map, "dirty count is not that of the clean map"},
    {not_zero, "clean memory is not zero"},
    {lost_tile, "a record's span is not in the region"},
    {lost_record, "an unused record is lost"},
    {record_index, "another's index"},
    {record_state, "record is not valid"},
    {says_outside, "a span outside is in the region"},
    {says_inside, "a record's span is not in the region"},
    {priority, "a priority is"},
    {tree_order, "the tree is out of order"},
    {damage_forget_free, "a free span is not in the tree"},
    {damage_forget_long_dirty, "a dirty span is on no list"},
    {dirty_link, "a dirty list's links differ"},
    {free_sum, "sum of free granules"},
    {large_sum, "sum of large granules"},
    {large_count, "count of large spans"},
    {outside_sum, "sum of granules outside"},
    {tree_count, "the tree's count"},
    {short_sum, "a dirty list's sum"},
    {long_sum, "a dirty list's sum"},
};

const struct spoils spoils_of_page_heap = {all, sizeof all / sizeof *all};
