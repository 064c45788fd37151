/* SPDX-License-Identifier: MIT */
/*
 * span.c: the arena of span records.
 *
 * Records come in slabs, a table holds the slabs' addresses, so an index of 22 bits finds its record
 * with two loads. Slabs grow the arena; recycled records are a list through their link.
 */
#include "heap/span.h"

#include <stdatomic.h>

#include "meta/meta.h"
#include "os/check.h"
#include "os/yield.h"
#include "table/large_table.h"

enum { SLAB_RECORDS_SHIFT = 7, SLAB_RECORDS = 1 << SLAB_RECORDS_SHIFT };
#define RECORDS_MAX AP__LARGE_TABLE_RECORDS_MAX /* an index must fit into the table's slot */
#define SLABS_MAX (RECORDS_MAX >> SLAB_RECORDS_SHIFT)

static _Atomic(struct ap__span *) slabs[SLABS_MAX];
/* Under the page heap's lock. */
static uint32_t records_used;
static struct ap__span *recycled;

bool ap__span_is_valid(const struct ap__span *span)
{
    bool placed = span->granules != 0 && span->start != 0 && span->start % AP_GRANULE == 0;
    switch (span->state) {
    case AP__SPAN_FREE:
        return placed && !span->outside && span->tree.dirty_granules <= span->granules;
    case AP__SPAN_PURGING:
        return placed;
    case AP__SPAN_SMALL:
        return placed && span->size_class > 0 && span->size_class < AP_CLASS_COUNT &&
               span->slots.free_slots <= ap__size_class[span->size_class].slots;
    case AP__SPAN_LARGE:
        return placed && span->large.size_bytes <= ap__span_bytes(span);
    case AP__SPAN_PACKED:
        return placed && !span->outside;
    default:
        return false;
    }
}

struct ap__span *ap__span_by_index(uint32_t index)
{
    AP_ASSERT(index < RECORDS_MAX);
    /* acquire: pairs with the release in new_record(): the slab is zeroed and readable. */
    struct ap__span *slab =
        atomic_load_explicit(&slabs[index >> SLAB_RECORDS_SHIFT], memory_order_acquire);
    return &slab[index & (SLAB_RECORDS - 1)];
}

static struct ap__span *new_record(void)
{
    if (records_used == RECORDS_MAX) {
        return NULL;
    }
    uint32_t index = records_used;
    if (index % SLAB_RECORDS == 0) {
        struct ap__span *slab = ap__meta_take(SLAB_RECORDS * sizeof(struct ap__span));
        if (slab == NULL) {
            return NULL;
        }
        AP__YIELD_POINT();
        atomic_store_explicit(&slabs[index >> SLAB_RECORDS_SHIFT], slab, memory_order_release);
        AP__YIELD_POINT();
    }
    records_used++;
    struct ap__span *span = ap__span_by_index(index);
    span->index = index;
    return span;
}

struct ap__span *ap__span_record_take(void)
{
    struct ap__span *span = recycled;
    if (span == NULL) {
        return new_record();
    }
    recycled = span->link.next;
    span->link.next = NULL;
    return span;
}

void ap__span_record_give(struct ap__span *span)
{
    ap__span_set_state(span, AP__SPAN_UNUSED);
    span->granules = 0;
    span->outside = false;
    span->moved = false;
    span->link.previous = NULL;
    span->link.next = recycled;
    recycled = span;
}

uint32_t ap__span_record_count(void)
{
    return records_used;
}

const struct ap__span *ap__span_recycled(void)
{
    return recycled;
}
