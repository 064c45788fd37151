/* SPDX-License-Identifier: MIT */
/* spoil_table.c: entries of large objects, and of small spans outside of the region. */
#include "heap/page_heap.h"
#include "spoil.h"
#include "table/large_table.h"

static void not_entered(void)
{
    uint32_t record;
    (void)ap__large_table_delete((uintptr_t)built.larges[1], &record);
}

static void entered_for_nothing(void)
{
    (void)ap__large_table_insert(built.free_short->start, built.free_short->index);
}

static void entered_inside(void)
{
    (void)ap__large_table_insert((uintptr_t)built.larges[1] + AP_GRANULE,
                                 span_of(built.larges[1])->index);
}

static void entered_for_small(void)
{
    (void)ap__large_table_insert(built.spread[0]->start, built.spread[0]->index);
}

static void entered_without_record(void)
{
    (void)ap__large_table_insert(AP_GRANULE, ap__span_record_count());
}

static void entered_with_other_record(void)
{
    uint32_t record;
    (void)ap__large_table_delete((uintptr_t)built.larges[1], &record);
    (void)ap__large_table_insert((uintptr_t)built.larges[1], span_of(built.larges[3])->index);
}

static void granule_not_entered(void)
{
    uint32_t record;
    (void)ap__large_table_delete(span_of(built.outside_small)->start, &record);
}

static void large_alignment(void)
{
    span_of(built.larges[1])->large.alignment = (size_t)1 << 46;
}

static const struct spoil all[] = {
    {not_entered, "a large span is not in the table"},
    {entered_for_nothing, "leads to no large span"},
    {entered_inside, "leads to no large span"},
    {entered_for_small, "leads to another small span"},
    {entered_without_record, "has no record"},
    {entered_with_other_record, "leads to no large span"},
    {granule_not_entered, "a granule outside is not in the table"},
    {large_alignment, "not aligned as it says"},
};

const struct spoils spoils_of_table = {all, sizeof all / sizeof *all};
