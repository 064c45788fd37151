/* SPDX-License-Identifier: MIT */
/*
 * live_check.h: whether a small block that the program passes in is live, not free already.
 *
 * Does: finds the block that was freed last by its place on the list; with option `hardened`, every
 * free block by a mark. Does not: look at large objects (their table knows) or report anything else.
 *
 * The mark. With `hardened`, a free block holds the region's address in its first word: free writes
 * it, malloc clears it. A block that holds it when it is passed in is looked for in all caches and in
 * its span's bitmap, and only then called free: a mark alone decides nothing, so a program that
 * happens to hold the same word there loses a search, nothing else, and a forged mark gains nothing.
 * Callers: any thread, holding no lock.
 */
#ifndef AP_API_LIVE_CHECK_H
#define AP_API_LIVE_CHECK_H

#include "config/options.h"

/* Ends the process, as a double free in `function`, if the block is found to be free. */
void ap__check_live(unsigned size_class, const void *p, const char *function);

/* Writes and clears the mark; NULL is passed through. */
void *ap__mark_free(void *p);
void *ap__mark_live(void *p);

#endif
