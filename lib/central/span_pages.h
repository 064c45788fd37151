/* SPDX-License-Identifier: MIT */
/*
 * span_pages.h: the whole free pages inside a partly used span.
 *
 * Pure functions over a span's bitmap; the caller holds the lock of the span's shard. A page is free if no block that
 * is not free has a byte in it; what lies behind the last block belongs to no block.
 */
#ifndef AP_CENTRAL_SPAN_PAGES_H
#define AP_CENTRAL_SPAN_PAGES_H

#include "central/slot_map.h"
#include "heap/page_runs.h"

/* No span has more, with pages of 4 KiB or longer: it has fewer than 40 pages, or fewer than 40 blocks. */
enum { AP_SPAN_RUNS_MAX = 20 };

/* The first run of free pages among the slots from *slot on; *slot is then where to go on. */
static inline struct ap__page_run ap__span_free_pages(const struct ap__span *span,
                                                      const struct ap__size_class *info,
                                                      size_t page_bytes, unsigned *slot)
{
    while (*slot <= info->slots) { /* one more: what lies behind the last block */
        unsigned first = ap__slot_map_next(span, *slot, info->slots, true);
        unsigned end = ap__slot_map_next(span, first, info->slots, false);
        *slot = end == info->slots ? end + 1u : end;
        size_t from = ap__align_up((size_t)first * info->size, page_bytes);
        size_t to = end == info->slots ? ap__span_bytes(span)
                                       : ap__align_down((size_t)end * info->size, page_bytes);
        if (from < to) {
            return (struct ap__page_run){span->start + from, to - from};
        }
    }
    return (struct ap__page_run){0, 0};
}

#endif
