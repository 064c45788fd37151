/* SPDX-License-Identifier: MIT */
/*
 * outside_spans.h: spans that are mappings of their own, once the region is used up or where there is none.
 *
 * Does: maps and unmaps them, and enters the granules of those for small blocks into the table, so that
 * free() finds them. Does not: count them, or reuse them. Callers: the page heap, under its lock.
 */
#ifndef AP_HEAP_OUTSIDE_SPANS_H
#define AP_HEAP_OUTSIDE_SPANS_H

#include "heap/span.h"

/* A span of `granules` at a multiple of `alignment` bytes. Its state is the caller's to set. NULL: no memory. */
struct ap__span *ap__outside_span_map(size_t granules, size_t alignment, unsigned size_class);

/* Unmaps a span and gives its record back. */
void ap__outside_span_unmap(struct ap__span *span);

#endif
