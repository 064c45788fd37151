/* SPDX-License-Identifier: MIT */
/*
 * pages.h: whole pages that pieces of metadata are cut from.
 *
 * Does: hands out runs of zero pages: *empty* ones, which were handed out before and have come back, those of the
 * lowest addresses first; else the next of the newest mapping.
 * Does not: clear or discard a page: whoever gives one back has done so.
 * Callers: meta only, all of it under its lock.
 * Invariant: an empty page is mapped, belongs to no piece, and reads as zero.
 */
#ifndef AP_META_PAGES_H
#define AP_META_PAGES_H

#include "base/compiler.h"

/* `bytes` is a multiple of the page size. NULL: no memory. */
char *ap__pages_take(size_t bytes);

/* Zero pages become empty ones. Those that nothing is known of are lost. */
void ap__pages_give(char *pages, size_t bytes);

/* Of how many pages, counted from the reservation's begin, it is known whether they are empty. */
size_t ap__pages_known(void);

bool ap__pages_is_empty(size_t page);

/* Of all empty pages, and of what is left of the newest mapping. */
size_t ap__pages_empty_bytes(void);
size_t ap__pages_untouched_bytes(void);

#endif
