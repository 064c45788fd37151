/* SPDX-License-Identifier: MIT */
/*
 * dirty_spans.c: doubly linked lists, newest first; pieces are found by a walk over the clean map.
 */
#include "heap/dirty_spans.h"

#include "heap/huge_pages.h"
#include "heap/region.h"
#include "os/os.h"

static struct ap__dirty_list *list_of(struct ap__dirty_list *lists, const struct ap__span *span)
{
    bool is_long = span->granules >= AP_LONG_SPAN_GRANULES;
    return &lists[is_long ? AP__DIRTY_LONG : AP__DIRTY_SHORT];
}

void ap__dirty_list_insert(struct ap__dirty_list *lists, struct ap__span *span)
{
    struct ap__dirty_list *list = list_of(lists, span);
    span->link.previous = NULL;
    span->link.next = list->newest;
    if (list->newest != NULL) {
        list->newest->link.previous = span;
    } else {
        list->oldest = span;
    }
    list->newest = span;
    list->granules += span->tree.dirty_granules;
}

void ap__dirty_list_remove(struct ap__dirty_list *lists, struct ap__span *span)
{
    struct ap__dirty_list *list = list_of(lists, span);
    if (span->link.previous != NULL) {
        span->link.previous->link.next = span->link.next;
    } else {
        list->newest = span->link.next;
    }
    if (span->link.next != NULL) {
        span->link.next->link.previous = span->link.previous;
    } else {
        list->oldest = span->link.previous;
    }
    list->granules -= span->tree.dirty_granules;
}

size_t ap__dirty_piece(size_t first, size_t most, size_t *begin, size_t *end)
{
    *end = ap__region_dirty_end(first, *end);
    size_t found = 0;
    for (size_t start = *end; start > first && *end - start < most; start--) {
        bool is_dirty = !ap__region_is_clean(start - 1);
        found += is_dirty;
        *begin = is_dirty ? start - 1 : *begin;
    }
    return found;
}

size_t ap__dirty_discard(const struct ap__span *span, size_t most)
{
    size_t first = ap__region_granule_of(span->start);
    size_t discarded = 0;
    size_t end = first + span->granules;
    while (discarded < most && (end = ap__region_dirty_end(first, end)) > first) {
        size_t run = 1;
        while (end - run > first && discarded + run < most && !ap__region_is_clean(end - run - 1)) {
            run++;
        }
        end -= run;
        uintptr_t start = ap__region_address_of(end);
        if (ap__os_discard((void *)start, run << AP_PAGE_HEAP_GRANULE_SHIFT)) {
            ap__huge_pages_purged(start, run << AP_PAGE_HEAP_GRANULE_SHIFT);
            ap__region_set_clean(end, run, true);
            discarded += run;
        }
    }
    return discarded;
}
