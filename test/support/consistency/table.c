/* SPDX-License-Identifier: MIT */
/*
 * table.c: each large span, and each granule of a small one outside of the region, is in the table once, and no other.
 */
#include "support/consistency/walk.h"

#include "heap/page_heap.h"
#include "table/large_table.h"

static void check_entry(void *entries, uintptr_t address, uint32_t record)
{
    const void *where = (const void *)address;
    ++*(size_t *)entries;
    if (walk.found ||
        !walk_check(record < walk.records, "an entry of the table has no record", where, record)) {
        return;
    }
    const struct ap__span *span = ap__span_by_index(record);
    if (span->state == AP__SPAN_SMALL) {
        (void)walk_check(span->outside && address - span->start < ap__span_bytes(span) &&
                             address % AP_GRANULE == 0,
                         "an entry of the table leads to another small span", where, record);
    } else {
        (void)walk_check(span->state == AP__SPAN_LARGE && span->start == address,
                         "an entry of the table leads to no large span", where, record);
    }
}

/* Returns how many entries there must be. */
static size_t check_span_is_entered(const struct ap__span *span)
{
    uint32_t record = 0;
    if (span->state == AP__SPAN_LARGE) {
        bool entered = ap__large_table_find(span->start, &record);
        walk_check_span(walk.is_child || (entered && record == span->index),
                        "a large span is not in the table", span);
        walk_check_span(walk.is_child || span->large.alignment == 0 ||
                            span->start % span->large.alignment == 0,
                        "a large span is not aligned as it says", span);
        return 1;
    }
    if (span->state != AP__SPAN_SMALL || !span->outside) {
        return 0;
    }
    for (size_t i = 0; i < span->granules; i++) {
        bool entered = ap__large_table_find(span->start + i * AP_GRANULE, &record);
        walk_check_span(entered && record == span->index, "a granule outside is not in the table",
                        span);
    }
    return span->granules;
}

void walk_table(void)
{
    struct ap__large_table_stats stats;
    size_t entries = 0;
    size_t wanted = 0;
    (void)walk_check(ap__large_table_is_valid(), "the table's own invariants do not hold", NULL, 0);
    ap__large_table_visit(check_entry, &entries);
    for (uint32_t i = 0; i < walk.records && !walk.found; i++) {
        wanted += check_span_is_entered(ap__span_by_index(i));
    }
    ap__large_table_stats(&stats);
    (void)walk_check(walk.is_child ? entries <= wanted : entries == wanted,
                     "the table has not one entry for each span", NULL, entries);
    (void)walk_check(walk.is_child ? entries <= stats.live : entries == stats.live,
                     "the table's count of entries is wrong", NULL, stats.live);
}
