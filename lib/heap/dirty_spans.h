/* SPDX-License-Identifier: MIT */
/*
 * dirty_spans.h: free spans that may hold memory: which has lain longest, and giving that memory back.
 *
 * Does: keeps them in the order in which they became free, short and long ones apart, since those decay at
 * different speeds; finds the dirty granules of a span; gives them to the kernel. Does not: decide when, or
 * take a span off the heap for it.
 * Callers: the page heap; lists under its lock, discard for a span that is its caller's alone.
 * Invariant: a list's `granules` is the sum of its spans' dirty granules.
 */
#ifndef AP_HEAP_DIRTY_SPANS_H
#define AP_HEAP_DIRTY_SPANS_H

#include "heap/page_heap.h"

struct ap__dirty_list {
    struct ap__span *newest;
    struct ap__span *oldest;
    size_t granules; /* dirty ones, in all of them */
};

/* A free span with dirty granules enters or leaves the list of its kind, one of AP__DIRTY_KINDS. */
void ap__dirty_list_insert(struct ap__dirty_list *lists, struct ap__span *span);
void ap__dirty_list_remove(struct ap__dirty_list *lists, struct ap__span *span);

/* Of the granules [first, *end): moves *end behind the last dirty one, and counts the dirty ones of the piece that
 * ends there, begins at *begin, and has at most `most` granules. There is a dirty one. */
size_t ap__dirty_piece(size_t first, size_t most, size_t *begin, size_t *end);

/* Gives the memory of the span's dirty runs back, up to `most` granules, highest addresses first: what is
 * taken again comes from the lowest. Returns the granules. No lock: the span is the caller's. */
size_t ap__dirty_discard(const struct ap__span *span, size_t most);

#endif
