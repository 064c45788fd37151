/* SPDX-License-Identifier: MIT */
/*
 * meta.c: bump allocation of the allocator's own records, with a free list per power of two.
 *
 *   mapping:  | guard page | pieces ... | untouched rest ... | guard page |
 *
 * They are cut off one reservation, in order, and made usable; when there is none (any more), each is
 * a mapping of its own. They grow from 64 KiB to 1 MiB, so that a small process keeps a small footprint
 * and a large one makes few system calls. The rest of a mapping that is too small for a request is left: at most one
 * request's size per mapping. Free pieces are linked through their first word; nothing but this file
 * sees a free piece.
 */
#include "meta/meta.h"

#include <string.h>

#include "base/bits.h"
#include "os/check.h"
#include "os/lock.h"
#include "os/os.h"

enum {
    PIECE_SHIFT_MIN = 6, /* one cache line: pieces of different threads never share one */
    PIECE_SHIFT_MAX = 20,
    PIECE_SHIFTS = PIECE_SHIFT_MAX - PIECE_SHIFT_MIN + 1
};
_Static_assert(AP_META_SIZE_MAX == (size_t)1 << PIECE_SHIFT_MAX, "the header's bound is this one");
_Static_assert(AP_CACHE_LINE == 1 << PIECE_SHIFT_MIN, "pieces are aligned to cache lines");

#define MAPPING_BYTES_MIN ((size_t)64 << 10)
#define MAPPING_BYTES_MAX ((size_t)1 << 20)

/* Address space for records: more than the records of a full region need. Under a limit on address space, the same
 * part of the limit. */
#define RESERVE_DIVISOR 64
#define RESERVE_BYTES_MAX ((size_t)16 << 30)
#define RESERVE_BYTES_MIN ((size_t)512 << 10)

struct free_piece {
    struct free_piece *next;
};

static struct ap__lock lock = AP_LOCK_INIT(AP__RANK_META);
/* All below: under `lock`. */
static struct free_piece *free_pieces[PIECE_SHIFTS];
static char *rest;        /* untouched part of the newest mapping */
static size_t rest_bytes; /* of it */
static size_t next_mapping_bytes = MAPPING_BYTES_MIN;
static size_t mapped_bytes;
static char *reserved;        /* what is left of the reservation */
static size_t reserved_bytes; /* of it */
static bool reservation_tried;
static size_t reservation_most = RESERVE_BYTES_MAX;

struct ap__lock *ap__meta_lock(void)
{
    return &lock;
}

static unsigned piece_shift(size_t size_bytes)
{
    AP_ASSERT(size_bytes > 0 && size_bytes <= AP_META_SIZE_MAX);
    size_t rounded = ap__power_of_two_ceiling(size_bytes);
    return ap__highest_bit(ap__max(rounded, (size_t)1 << PIECE_SHIFT_MIN));
}

size_t ap__meta_size(size_t size_bytes)
{
    return (size_t)1 << piece_shift(size_bytes);
}

void ap__meta_set_heap(size_t heap_bytes)
{
    size_t most = ap__min(heap_bytes / RESERVE_DIVISOR, RESERVE_BYTES_MAX);
    ap__lock_take(&lock);
    reservation_most = ap__max(most, RESERVE_BYTES_MIN);
    ap__lock_release(&lock);
}

static void reserve_locked(void)
{
    reservation_tried = true;
    size_t most = ap__min(ap__os_address_space_limit() / RESERVE_DIVISOR, reservation_most);
    for (size_t bytes = ap__align_down(most, ap__os_page_size());
         bytes >= RESERVE_BYTES_MIN && reserved == NULL; bytes /= 2) {
        reserved = ap__os_reserve(bytes);
        reserved_bytes = reserved != NULL ? bytes : 0;
    }
}

/* Inaccessible address space: of the reservation, or else a mapping of its own. */
static char *take_addresses_locked(size_t bytes)
{
    if (!reservation_tried) {
        reserve_locked();
    }
    if (bytes > reserved_bytes) {
        return ap__os_reserve(bytes);
    }
    char *taken = reserved;
    reserved += bytes;
    reserved_bytes -= bytes;
    return taken;
}

/* Takes back what was taken last. */
static void return_addresses_locked(char *taken, size_t bytes)
{
    if (taken + bytes == reserved) {
        reserved = taken;
        reserved_bytes += bytes;
    } else {
        (void)ap__os_unmap(taken, bytes);
    }
}

/* Usable zero pages between two inaccessible ones. */
static char *map_locked(size_t bytes)
{
    size_t guard = ap__os_page_size();
    char *mapping = take_addresses_locked(bytes + 2 * guard);
    if (mapping == NULL) {
        return NULL;
    }
    if (!ap__os_commit(mapping + guard, bytes)) {
        return_addresses_locked(mapping, bytes + 2 * guard);
        return NULL;
    }
    mapped_bytes += bytes;
    return mapping + guard;
}

/* A new mapping with room for `bytes`; what is left of the old one is given up. */
static bool map_more_locked(size_t bytes)
{
    size_t usable = ap__max(next_mapping_bytes, bytes);
    char *mapping = map_locked(usable);
    if (mapping == NULL) {
        return false;
    }
    rest = mapping;
    rest_bytes = usable;
    next_mapping_bytes = ap__min(next_mapping_bytes * 2, MAPPING_BYTES_MAX);
    return true;
}

static void *bump_locked(size_t bytes)
{
    if (rest_bytes < bytes && !map_more_locked(bytes)) {
        return NULL;
    }
    void *piece = rest;
    rest += bytes;
    rest_bytes -= bytes;
    return piece;
}

void *ap__meta_take(size_t size_bytes)
{
    unsigned shift = piece_shift(size_bytes);
    ap__lock_take(&lock);
    struct free_piece *piece = free_pieces[shift - PIECE_SHIFT_MIN];
    if (piece != NULL) {
        free_pieces[shift - PIECE_SHIFT_MIN] = piece->next;
        ap__lock_release(&lock);
        memset(piece, 0, (size_t)1 << shift);
        return piece;
    }
    void *fresh = bump_locked((size_t)1 << shift); /* zero: never used before */
    ap__lock_release(&lock);
    return fresh;
}

void ap__meta_give(void *piece, size_t size_bytes)
{
    unsigned index = piece_shift(size_bytes) - PIECE_SHIFT_MIN;
    struct free_piece *freed = piece;
    ap__lock_take(&lock);
    freed->next = free_pieces[index];
    free_pieces[index] = freed;
    ap__lock_release(&lock);
}

void *ap__meta_map(size_t size_bytes)
{
    ap__lock_take(&lock);
    void *pages = map_locked(ap__align_up(size_bytes, ap__os_page_size()));
    ap__lock_release(&lock);
    return pages;
}

size_t ap__meta_mapped_bytes(void)
{
    ap__lock_take(&lock);
    size_t bytes = mapped_bytes;
    ap__lock_release(&lock);
    return bytes;
}

size_t ap__meta_reserved_bytes(void)
{
    ap__lock_take(&lock);
    size_t bytes = reserved_bytes;
    ap__lock_release(&lock);
    return bytes;
}
