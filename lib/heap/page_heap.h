/* SPDX-License-Identifier: MIT */
/*
 * page_heap.h: owner of the region: hands out, coalesces, and purges spans.
 *
 * Does: best fit, lowest address first; immediate coalescing of neighbours in both directions;
 * growth in chunks under the process' limits; spans outside the region once it is used up.
 * Does not: know blocks, classes' free lists, or large objects; it only writes the class map so that
 * free() finds out what a granule holds.
 * Callers: any layer above; locks of lower rank may be held. One lock inside.
 * Invariants: free spans are never adjacent; the spans tile the usable part of the region; the dirty
 * count of a free span is the number of its granules that are not known to be zero.
 *
 * Idea: tcmalloc's page heap; best fit in address order as in Wilson et al., "Dynamic Storage
 * Allocation: A Survey", 1995, which fragments least.
 */
#ifndef AP_HEAP_PAGE_HEAP_H
#define AP_HEAP_PAGE_HEAP_H

#include "heap/region.h"
#include "heap/span.h"

struct ap__lock;
struct ap__bell;

/*
 * A span of `granules` at a multiple of `alignment` bytes (a power of two, at least a granule), for
 * blocks of `size_class`, or for one large object if that is 0. Its other fields are the caller's
 * to set. NULL: no memory, nothing has changed.
 */
struct ap__span *ap__page_heap_take(size_t granules, size_t alignment, unsigned size_class);

/* A span for blocks of many sizes; never outside of the region, whose map finds it by any address in it. */
struct ap__span *ap__page_heap_take_packed(size_t granules);

/* Whether a span of so many granules is free in the region, or could be had by growth, if that was not refused the last
 * time that somebody tried. */
bool ap__page_heap_has_room(size_t granules);

/* Takes a span back that no block and no table entry refers to. */
void ap__page_heap_give(struct ap__span *span);

/*
 * The same, for spans of large objects that are likely to be followed by one of just their length: without the
 * lock, a look at the heap, or a change of its sums (recent_spans.h). NULL: none is at hand.
 */
struct ap__span *ap__page_heap_take_recent(size_t granules);
void ap__page_heap_give_recent(struct ap__span *span);

/* Makes a LARGE span longer by taking from the free span behind it. `false`: not possible. */
bool ap__page_heap_extend(struct ap__span *span, size_t granules);

/* Makes a LARGE span shorter and frees its end. `false`: no memory for a record; nothing changed. */
bool ap__page_heap_shorten(struct ap__span *span, size_t granules);

/*
 * The span an address lies in, NULL if there is none. Exact for addresses in spans of small and of packed blocks;
 * elsewhere the record may be stale and the caller must look at its state and bounds.
 * Any thread, no lock.
 */
struct ap__span *ap__page_heap_span_of(uintptr_t address);

/* The class of the small block that `p` could be, 0 for none. Any thread, no lock. */
unsigned ap__page_heap_class_of(const void *p);

/* Free spans by length: long ones are given back sooner, since they cost the most and are the least likely
 * to be wanted as they are. */
enum ap__dirty_kind { AP__DIRTY_SHORT, AP__DIRTY_LONG, AP__DIRTY_KINDS };
#define AP_LONG_SPAN_GRANULES 16 /* 1 MiB */

/* Spans given as recent become free memory like all other. The functions below do this themselves, and so does
 * a take that finds nothing else. */
void ap__page_heap_settle(void);

/* What a purge of the free spans of a kind would give back at most, in bytes. */
size_t ap__page_heap_dirty_bytes(enum ap__dirty_kind kind);

/*
 * Gives memory of free spans of a kind back to the kernel, the longest unused first, until
 * `keep_bytes` are left (rounded down to granules); returns the bytes given back.
 */
size_t ap__page_heap_purge(enum ap__dirty_kind kind, size_t keep_bytes);

/* Everything of both kinds. */
size_t ap__page_heap_purge_all(void);

struct ap__page_heap_stats {
    size_t usable_bytes; /* of the region, plus spans outside of it */
    size_t usable_bytes_peak;
    size_t free_bytes;  /* in free spans */
    size_t dirty_bytes; /* of those, what a purge would give back at most */
    size_t free_spans;
    size_t large_spans;
    size_t large_bytes;    /* granules of large objects, in bytes */
    size_t reserved_bytes; /* address space held and not usable */
};
void ap__page_heap_stats(struct ap__page_heap_stats *stats);

/* Rung whenever memory has become unused that could go back to the kernel: by the page heap, and by
 * the layers above it for theirs. Who gives memory back as time goes by listens to it. */
extern struct ap__bell ap__heap_bell;

struct ap__lock *ap__page_heap_lock(void); /* for fork only */

/* What the page heap keeps beside the spans. For tests and debuggers: the caller holds the lock. */
struct ap__page_heap_view {
    const struct ap__span *tree_root;
    size_t tree_count;
    struct {
        const struct ap__span *newest;
        const struct ap__span *oldest;
        size_t granules;
    } dirty[AP__DIRTY_KINDS];
    size_t free_granules;
    size_t large_granules;
    size_t large_count;
    size_t outside_granules;
};
void ap__page_heap_view_locked(struct ap__page_heap_view *view);

#endif
