/* SPDX-License-Identifier: MIT */
/*
 * mappings.h: address space for metadata, and usable pages in it.
 *
 * Does: makes one reservation, and cuts mappings off it in order; numbers the reservation's pages, so that something
 * can be kept for each of them. When there is no reservation (any more), each mapping is one of its own, whose pages
 * have no number.
 * Does not: unmap anything that it has handed out.
 * Callers: meta only, all of it under its lock.
 */
#ifndef AP_META_MAPPINGS_H
#define AP_META_MAPPINGS_H

#include "base/compiler.h"

/* How much address space to reserve at most, for a heap of so many bytes. Before the first mapping. */
void ap__mappings_set_heap(size_t heap_bytes);

/* Usable zero pages between two inaccessible ones. NULL: no memory. `bytes` is a multiple of the page size. */
char *ap__mappings_add(size_t bytes);

/* Pages from the reservation's begin to this address; that of no mapping: not below ap__mappings_pages(). */
size_t ap__mappings_page_of(const void *address);

/* The reverse. */
char *ap__mappings_page_at(size_t page);

/* How many pages of the reservation are in use so far, guards included. */
size_t ap__mappings_pages(void);

/* Of all mappings together, and what is left of the reservation. */
size_t ap__mappings_bytes(void);
size_t ap__mappings_reserved_bytes(void);

#endif
