/* SPDX-License-Identifier: MIT */
/*
 * meta.h: memory for the allocator's own records.
 *
 * Does: hands out zeroed, cache-line aligned pieces whose sizes are powers of two, from address space of
 * their own with inaccessible pages on both sides; takes pieces back into free lists by size; gives the memory of pages
 * that are wholly free back to the kernel.
 * The address space is reserved once: under a limit on it that is set later the kernel refuses every new
 * mapping, and the heap must go on working within the limit.
 * Does not: unmap anything, ever. So a record's address stays readable for the life of the process,
 * which lock-free readers rely on.
 * Callers: any layer above, holding any lock (the lock here is a leaf).
 * Invariant: mapped bytes = in use + free lists + empty pages + untouched rest of the newest mapping.
 */
#ifndef AP_META_META_H
#define AP_META_META_H

#include "base/compiler.h"

/* How large the heap may become for which records are kept: so much address space is reserved for them. Before the
 * first piece is taken; else for a heap of a TiB. */
void ap__meta_set_heap(size_t heap_bytes);

/*
 * At least `size_bytes` (at most AP_META_SIZE_MAX) zero bytes, aligned to a cache line, NULL if the
 * kernel has no memory. ap__meta_size() says how many bytes they really are.
 */
void *ap__meta_take(size_t size_bytes);

/* `size_bytes` as it was asked for. The piece may be handed out again at once, zeroed. */
void ap__meta_give(void *piece, size_t size_bytes);

/* What a request is rounded up to. */
size_t ap__meta_size(size_t size_bytes);

/* Zero pages for an array of records larger than a piece can be. NULL: no memory. */
void *ap__meta_map(size_t size_bytes);

#define AP_META_SIZE_MAX ((size_t)1 << 20)

/*
 * Whole pages that are free go back to the kernel, and are handed out again as zero. Each returns the bytes that it gave
 * back. The first: all there are, now. The others pass over all that is free only if enough of it is new since the last
 * time, a 64th of all metadata: a page at least; or 64 KiB that have been free since the call of purge_unused() before.
 * That one sets `*more` if there may be something for the next.
 */
size_t ap__meta_purge(void);
size_t ap__meta_purge_at_once(void);
size_t ap__meta_purge_unused(bool *more);

struct ap__meta_stats {
    size_t mapped_bytes;    /* for records */
    size_t free_bytes;      /* of these, in free pieces */
    size_t empty_bytes;     /* in pages that hold nothing; as a rule they have no memory */
    size_t untouched_bytes; /* in the newest mapping's pages that were never used */
    size_t reserved_bytes;  /* address space that is reserved for records and not in use */
};
void ap__meta_stats(struct ap__meta_stats *stats);

/* Two of them. */
size_t ap__meta_mapped_bytes(void);
size_t ap__meta_reserved_bytes(void);

struct ap__lock;
struct ap__lock *ap__meta_lock(void); /* for fork only */

#endif
