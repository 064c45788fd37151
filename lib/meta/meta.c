/* SPDX-License-Identifier: MIT */
/*
 * meta.c: pieces for the allocator's own records.
 *
 * A piece is had from the free list of its size. Where that has none, larger pieces are runs of whole pages (pages.c), and
 * smaller ones come from a fresh page, the rest of which becomes free pieces. While there is little metadata, of the sizes
 * in between, once each, which the next ones are cut from: so a small process needs few pages. Later, of the same size: half
 * of the bytes are pieces of 2 KiB, of which both of a page are sooner free than one and a dozen of small ones. Pages that
 * are wholly free can go back to the kernel (purge.c).
 */
#include "meta/meta.h"

#include <string.h>

#include "meta/mappings.h"
#include "meta/pages.h"
#include "meta/pieces.h"
#include "os/check.h"
#include "os/lock.h"
#include "os/os.h"

_Static_assert(AP_META_SIZE_MAX == (size_t)1 << AP__PIECE_SHIFT_MAX,
               "the header's bound is this one");

/* Up to so much, sizes share pages. */
#define SHARING_BYTES_MAX ((size_t)64 << 10)

static struct ap__lock lock = AP_LOCK_INIT(AP__RANK_META);
struct ap__free_pieces ap__free_pieces; /* under `lock` */

struct ap__lock *ap__meta_lock(void)
{
    return &lock;
}

size_t ap__meta_size(size_t size_bytes)
{
    AP_ASSERT(size_bytes > 0 && size_bytes <= AP_META_SIZE_MAX);
    return ap__max(ap__power_of_two_ceiling(size_bytes), (size_t)1 << AP__PIECE_SHIFT_MIN);
}

void ap__meta_set_heap(size_t heap_bytes)
{
    ap__lock_take(&lock);
    ap__mappings_set_heap(heap_bytes);
    ap__lock_release(&lock);
}

/* --- pieces that no free list has --- */

/* Halves a piece until its lower end is of the smaller size. The upper ones become free. */
static void halve_locked(char *piece, unsigned size, unsigned smaller)
{
    while (size-- > smaller) {
        ap__piece_push(piece + ap__piece_bytes(size), size);
    }
}

/* Of the smallest free piece that is larger, but not larger than `largest`: zero. NULL: there is none. */
static void *cut_locked(unsigned size, unsigned largest)
{
    for (unsigned larger = size + 1; larger <= largest; larger++) {
        void *piece = ap__piece_pop(larger);
        if (piece != NULL) {
            halve_locked(piece, larger, size);
            return memset(piece, 0, ap__piece_bytes(size));
        }
    }
    return NULL;
}

static void divide_page_locked(char *page, unsigned size)
{
    for (size_t at = ap__os_page_size() - ap__piece_bytes(size); at != 0;
         at -= ap__piece_bytes(size)) {
        ap__piece_push(page + at, size);
    }
}

/* A piece that is smaller than a page. */
static void *part_of_page_locked(unsigned size)
{
    unsigned page_size = ap__piece_size(ap__os_page_size());
    bool sharing = ap__mappings_bytes() <= SHARING_BYTES_MAX;
    void *part = sharing ? cut_locked(size, page_size) : NULL;
    if (part != NULL) {
        return part;
    }
    char *page = ap__pages_take(ap__os_page_size());
    if (page != NULL && sharing) {
        halve_locked(page, page_size, size);
    } else if (page != NULL) {
        divide_page_locked(page, size);
    }
    return page;
}

/* Zero. Where there is no more memory, of a piece of any larger size. */
static AP_NOINLINE void *fresh_locked(unsigned size)
{
    size_t bytes = ap__piece_bytes(size);
    void *fresh = bytes < ap__os_page_size() ? part_of_page_locked(size) : ap__pages_take(bytes);
    return fresh != NULL ? fresh : cut_locked(size, AP__PIECE_SIZES - 1);
}

/* --- take and give --- */

void *ap__meta_take(size_t size_bytes)
{
    size_t bytes = ap__meta_size(size_bytes);
    unsigned size = ap__piece_size(bytes);
    ap__lock_take(&lock);
    struct ap__piece *piece = ap__piece_pop(size);
    if (piece != NULL) {
        ap__lock_release(&lock);
        return memset(piece, 0, bytes);
    }
    void *fresh = fresh_locked(size);
    ap__lock_release(&lock);
    return fresh;
}

void ap__meta_give(void *piece, size_t size_bytes)
{
    unsigned size = ap__piece_size(ap__meta_size(size_bytes));
    ap__lock_take(&lock);
    ap__piece_push(piece, size);
    ap__lock_release(&lock);
}

void *ap__meta_map(size_t size_bytes)
{
    ap__lock_take(&lock);
    void *pages = ap__mappings_add(ap__align_up(size_bytes, ap__os_page_size()));
    ap__lock_release(&lock);
    return pages;
}

/* --- figures --- */

void ap__meta_stats(struct ap__meta_stats *stats)
{
    ap__lock_take(&lock);
    stats->mapped_bytes = ap__mappings_bytes();
    stats->reserved_bytes = ap__mappings_reserved_bytes();
    stats->free_bytes = ap__free_pieces.bytes;
    stats->empty_bytes = ap__pages_empty_bytes();
    stats->untouched_bytes = ap__pages_untouched_bytes();
    ap__lock_release(&lock);
}

size_t ap__meta_mapped_bytes(void)
{
    struct ap__meta_stats stats;
    ap__meta_stats(&stats);
    return stats.mapped_bytes;
}

size_t ap__meta_reserved_bytes(void)
{
    struct ap__meta_stats stats;
    ap__meta_stats(&stats);
    return stats.reserved_bytes;
}
