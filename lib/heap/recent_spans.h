/* SPDX-License-Identifier: MIT */
/*
 * recent_spans.h: spans of large objects on their way from one owner to the next of the same length.
 *
 * Does: holds the span that a thread gave last, for a taker of just its length. A program that allocates and
 * frees buffers of one size meets neither the page heap's lock nor its tree. Does not: search, split, coalesce
 * or count: to the page heap such a span is in use. So whoever needs memory, or wants to know how much there is,
 * takes them all out first.
 * Threads: any, no lock; a slot of its own for each of the first few threads, shared by more.
 * Bound: SLOTS spans of at most AP_RECENT_GRANULES_MAX each; the first step of decay takes them out.
 */
#ifndef AP_HEAP_RECENT_SPANS_H
#define AP_HEAP_RECENT_SPANS_H

#include "heap/span.h"

/* 4 MiB. The longer the use, the less a lock weighs beside it; and what waits is memory that an object of another
 * length has to do without: 45 MiB more in a program of two threads and random lengths up to 25 MiB. */
#define AP_RECENT_GRANULES_MAX ((size_t)64)

/* A span of just this length that was given lately; it is the caller's. NULL: none is at hand. */
struct ap__span *ap__recent_spans_take(size_t granules);

/* Leaves a span for the next taker. Returns what the caller has to do with instead: the span that was there
 * before, `span` itself if it is too long, or NULL. */
struct ap__span *ap__recent_spans_exchange(struct ap__span *span);

/* Any span that waits, of whichever thread. NULL: there are none. */
struct ap__span *ap__recent_spans_take_any(void);

#endif
