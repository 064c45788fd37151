/* SPDX-License-Identifier: MIT */
/*
 * pieces.h: the free lists of metadata, one per power of two.
 *
 * Free pieces are linked through their first word; nothing but meta sees a free piece.
 * Callers: meta only, all of it under its lock.
 * Invariant: a piece is aligned to its size or to a page, whichever is less. So one that is smaller than a page
 * lies in one page, and all others are whole pages.
 */
#ifndef AP_META_PIECES_H
#define AP_META_PIECES_H

#include "base/bits.h"

enum {
    AP__PIECE_SHIFT_MIN = 6, /* one cache line: pieces of different threads never share one */
    AP__PIECE_SHIFT_MAX = 20,
    AP__PIECE_SIZES = AP__PIECE_SHIFT_MAX - AP__PIECE_SHIFT_MIN + 1
};
_Static_assert(AP_CACHE_LINE == 1 << AP__PIECE_SHIFT_MIN, "pieces are aligned to cache lines");

struct ap__piece {
    struct ap__piece *next;
};

struct ap__free_pieces {
    struct ap__piece *lists[AP__PIECE_SIZES]; /* by size: the shift less AP__PIECE_SHIFT_MIN */
    size_t bytes;                             /* in all of them */
    size_t bytes_least;                       /* the same, the least since the last look or sweep */
    size_t bytes_left; /* of these, what the last sweep had to leave, at most */
};
extern struct ap__free_pieces ap__free_pieces;

static inline size_t ap__piece_bytes(unsigned size)
{
    return (size_t)1 << (size + AP__PIECE_SHIFT_MIN);
}

/* Which size has pieces of so many bytes, a power of two. */
static inline unsigned ap__piece_size(size_t bytes)
{
    return ap__lowest_bit(bytes) - AP__PIECE_SHIFT_MIN;
}

static inline void ap__piece_push(void *free, unsigned size)
{
    struct ap__piece *piece = free;
    piece->next = ap__free_pieces.lists[size];
    ap__free_pieces.lists[size] = piece;
    ap__free_pieces.bytes += ap__piece_bytes(size);
}

/* NULL: none is free. */
static inline struct ap__piece *ap__piece_pop(unsigned size)
{
    struct ap__piece *piece = ap__free_pieces.lists[size];
    if (piece != NULL) {
        ap__free_pieces.lists[size] = piece->next;
        ap__free_pieces.bytes -= ap__piece_bytes(size);
        ap__free_pieces.bytes_least = ap__min(ap__free_pieces.bytes_least, ap__free_pieces.bytes);
    }
    return piece;
}

#endif
