/* SPDX-License-Identifier: MIT */
/*
 * cache_limits.h: how far free lists may grow: bytes per thread and over all threads.
 *
 * Does: says the capacities of a class' list, and keeps the account of what all thread caches
 * together may still be granted. Does not: see lists or threads.
 * Callers: any thread, no lock needed.
 */
#ifndef AP_CACHE_CACHE_LIMITS_H
#define AP_CACHE_CACHE_LIMITS_H

#include "base/size_class.h"

/* Room of a list's first array: with the NULL, one cache line of addresses. */
enum { AP_CACHE_INITIAL_BLOCKS = 7 };

/* Blocks that one refill brings, or that go back under one lock, at most. */
enum { AP_STREAK_MAX = 255 };

/* What a cache may hold before it asks for a grant: many threads means many small caches, not none. */
#define AP_CACHE_FREE_BYTES ((size_t)32 << 10)

/* Sets the bounds in bytes: of one thread's cache and of all together. Once, before the first grant. */
void ap__cache_limits_init(size_t thread_bytes_max, size_t total_bytes_max);

/*
 * Asks for room for `more_bytes` on top of `granted_bytes`, which this cache has. Returns what was
 * granted now (at least more_bytes), 0 for a refusal.
 */
size_t ap__cache_limits_grant(size_t granted_bytes, size_t more_bytes);

/* Gives grants back. */
void ap__cache_limits_release(size_t bytes);

/* All grants together. For tests and debuggers. */
size_t ap__cache_limits_granted(void);

/* After fork: the only grants that live on are this thread's. */
void ap__cache_limits_reset_in_child(size_t granted_bytes);

/* Blocks in a list at its first use, at most. */
unsigned ap__cache_limits_initial_capacity(unsigned size_class);

/* Blocks that the first refill of a list brings; each later one brings twice as many. */
unsigned ap__cache_limits_initial_refill(unsigned size_class);

/* Blocks that a refill of the class brings at most; more than a batch only to a list that only grows. */
unsigned ap__cache_limits_refill_max(unsigned size_class);

/* Blocks in a list at most. */
unsigned ap__cache_limits_capacity_max(unsigned size_class);

#endif
