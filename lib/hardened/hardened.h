/* SPDX-License-Identifier: MIT */
/*
 * hardened.h: allocation with option `hardened`: every block is checked when it comes and when it goes.
 *
 * Does: gives each block exactly its size, with a canary behind it (canary.h) or, for large objects, a
 * canary to the end of the page and an inaccessible page after it; hands slots out in random order; fills
 * freed memory with zeros, or makes it inaccessible, and keeps it in quarantine (quarantine.h); looks
 * whether it was written to there. All free memory holds zeros, so new blocks do. Does not: touch errno,
 * or know entry points.
 * Callers: any thread, holding no lock. Everything is a slow path: the hit paths see no cache.
 *
 * What is found, and what it costs: doc/security.md.
 */
#ifndef AP_HARDENED_HARDENED_H
#define AP_HARDENED_HARDENED_H

#include "cache/thread_cache.h"

/* Once, before the first use. */
void ap__hardened_init(size_t quarantine_bytes, uint64_t secret);

/* What needs libc: faults in guards, the sampled blocks' too, are explained from now on. From the
 * constructor, holding no lock. */
void ap__hardened_watch(void);

/*
 * A zeroed block of `size` bytes at a multiple of `alignment` (a power of two). `cache` is the
 * thread's, NULL for none. NULL: no memory.
 */
void *ap__hardened_take(struct ap__thread_cache *cache, size_t alignment, size_t size);

/* Frees a live block; anything wrong with it is misuse of `function`. `false`: no block starts at `p`. */
bool ap__hardened_give(struct ap__thread_cache *cache, void *p, const char *function);

/* The size of the live block at `p`, as it was asked for. `false`: no block starts at `p`. Anything else
 * that is wrong with the block is misuse of `function`. */
bool ap__hardened_size(const void *p, size_t *size, const char *function);

/* Gives a live block another size where it lies. `false`: not possible, nothing has changed. */
bool ap__hardened_resize(void *p, size_t old_size, size_t size);

/* Empties the quarantine. Returns whether there was anything in it. */
bool ap__hardened_flush(struct ap__thread_cache *cache);

#endif
