/* SPDX-License-Identifier: MIT */
/*
 * purge.c: pages of metadata that are wholly free go back to the kernel.
 *
 * One sweep: count, for each page, the cache lines that lie in free pieces; take the pieces of pages that have nothing
 * else off their lists; discard these pages, run by run, and remember them as empty ones. It takes a pass over all
 * free pieces and one over the pages' counts, so it is worth it when a part of the metadata has become free, and no other
 * one is made for what a sweep had to leave.
 *
 * Under the lock all the while: nobody takes a piece from a page that is about to go, and a fork finds all at rest. So that
 * this is not for long, a sweep that nobody asked for looks at some thousand pieces of each size, the newest ones; if that
 * was of use, the next one goes on.
 */
#include <string.h>

#include "meta/mappings.h"
#include "meta/meta.h"
#include "meta/pages.h"
#include "meta/pieces.h"
#include "os/lock.h"
#include "os/os.h"

enum { WORTH_DIVISOR = 64, LOOKED_AT_MAX = 1 << 15 };
#define LAIN_BYTES_MIN ((size_t)64 << 10)

struct sweep {
    uint16_t *free_lines; /* by page */
    size_t pages;         /* how many have a count */
    size_t page_bytes;
    size_t most;     /* pieces of each size that are looked at */
    bool is_partial; /* there are more */
};
/* A page of the largest size there is, 64 KiB, has 1,024 lines. */

static bool is_whole(const struct sweep *sweep, size_t page)
{
    return sweep->free_lines[page] == sweep->page_bytes >> AP__PIECE_SHIFT_MIN;
}

/* The page, or first page, of a piece that has counts; else `pages`. */
static size_t page_of(const struct sweep *sweep, const struct ap__piece *piece, size_t bytes)
{
    size_t first = ap__mappings_page_of(piece);
    size_t last = ap__mappings_page_of((const char *)piece + bytes - 1);
    return first <= last && last < sweep->pages ? first : sweep->pages;
}

static void count_piece(const struct sweep *sweep, const struct ap__piece *piece, size_t bytes)
{
    size_t page = page_of(sweep, piece, bytes);
    for (size_t left = bytes; left != 0 && page < sweep->pages; page++) {
        size_t here = ap__min(left, sweep->page_bytes);
        sweep->free_lines[page] += (uint16_t)(here >> AP__PIECE_SHIFT_MIN);
        left -= here;
    }
}

static void count(struct sweep *sweep)
{
    for (unsigned size = 0; size < AP__PIECE_SIZES; size++) {
        const struct ap__piece *piece = ap__free_pieces.lists[size];
        for (size_t n = 0; piece != NULL && n < sweep->most; n++) {
            count_piece(sweep, piece, ap__piece_bytes(size));
            piece = piece->next;
        }
        sweep->is_partial |= piece != NULL;
    }
}

/* Pieces on whole pages are pieces no more. */
static void unlink_pieces(const struct sweep *sweep)
{
    for (unsigned size = 0; size < AP__PIECE_SIZES; size++) {
        struct ap__piece **link = &ap__free_pieces.lists[size];
        for (size_t n = 0; *link != NULL && n < sweep->most; n++) {
            size_t page = page_of(sweep, *link, ap__piece_bytes(size));
            if (page < sweep->pages && is_whole(sweep, page)) {
                *link = (*link)->next;
                ap__free_pieces.bytes -= ap__piece_bytes(size);
            } else {
                link = &(*link)->next;
            }
        }
    }
}

/* Pages that nobody has become empty ones. Returns the bytes that the kernel took: it may refuse, locked pages, say. */
static size_t empty(char *pages, size_t bytes)
{
    bool done = ap__os_discard(pages, bytes);
    if (!done) {
        memset(pages, 0, bytes);
    }
    ap__pages_give(pages, bytes);
    return done ? bytes : 0;
}

static size_t empty_whole_pages(const struct sweep *sweep)
{
    size_t bytes = 0;
    size_t begin = 0;
    for (size_t page = 0; page <= sweep->pages; page++) {
        if (page == sweep->pages || !is_whole(sweep, page)) {
            if (page != begin) {
                bytes += empty(ap__mappings_page_at(begin), (page - begin) * sweep->page_bytes);
            }
            begin = page + 1;
        }
    }
    return bytes;
}

/* The counts lie on pages of ours for as long: where memory is refused, there may be some all the same. */
static size_t count_bytes(const struct sweep *sweep)
{
    size_t bytes = ap__power_of_two_ceiling(sweep->pages * sizeof *sweep->free_lines);
    return ap__max(bytes, sweep->page_bytes);
}

static void give_counts(const struct sweep *sweep)
{
    char *counts = (char *)sweep->free_lines;
    size_t bytes = count_bytes(sweep);
    if (ap__mappings_page_of(counts) < ap__pages_known()) {
        (void)empty(counts, bytes);
    } else {
        ap__piece_push(counts, ap__piece_size(bytes));
    }
}

/* Returns the bytes given back. What is left, also without memory for the counts, is no reason for another sweep; but
 * where this one has not seen all. */
static size_t sweep_locked(size_t most)
{
    size_t bytes = 0;
    struct ap__free_pieces *pieces = &ap__free_pieces;
    struct sweep sweep = {
        .pages = ap__pages_known(), .page_bytes = ap__os_page_size(), .most = most};
    if (sweep.pages != 0) {
        sweep.free_lines = (uint16_t *)(void *)ap__pages_take(count_bytes(&sweep));
    }
    if (sweep.free_lines != NULL) {
        count(&sweep);
        unlink_pieces(&sweep);
        bytes = empty_whole_pages(&sweep);
        give_counts(&sweep);
    }
    pieces->bytes_least = pieces->bytes;
    pieces->bytes_left = sweep.is_partial && bytes != 0 ? 0 : pieces->bytes;
    return bytes;
}

/* So much must have become free, of `bytes` that are, for a sweep to be worth it. */
static bool is_worth_it_locked(size_t bytes, size_t least)
{
    size_t new_bytes = bytes - ap__min(ap__free_pieces.bytes_left, bytes);
    return new_bytes >= ap__max(ap__mappings_bytes() / WORTH_DIVISOR, least);
}

/* From now on: what was taken of what the last sweep had to leave is not that any more when it comes back. */
static void begin_look_locked(void)
{
    struct ap__free_pieces *pieces = &ap__free_pieces;
    pieces->bytes_left = ap__min(pieces->bytes_left, pieces->bytes_least);
    pieces->bytes_least = pieces->bytes;
}

size_t ap__meta_purge_unused(bool *more)
{
    size_t bytes = 0;
    ap__lock_take(ap__meta_lock());
    size_t lain = ap__free_pieces.bytes_least;
    begin_look_locked();
    if (is_worth_it_locked(lain, LAIN_BYTES_MIN)) {
        bytes = sweep_locked(LOOKED_AT_MAX);
    }
    *more |= is_worth_it_locked(ap__free_pieces.bytes, LAIN_BYTES_MIN);
    ap__lock_release(ap__meta_lock());
    return bytes;
}

size_t ap__meta_purge_at_once(void)
{
    size_t bytes = 0;
    ap__lock_take(ap__meta_lock());
    begin_look_locked();
    if (is_worth_it_locked(ap__free_pieces.bytes, ap__os_page_size())) {
        bytes = sweep_locked(LOOKED_AT_MAX);
    }
    ap__lock_release(ap__meta_lock());
    return bytes;
}

size_t ap__meta_purge(void)
{
    ap__lock_take(ap__meta_lock());
    size_t bytes = ap__free_pieces.bytes != 0 ? sweep_locked(SIZE_MAX) : 0;
    ap__lock_release(ap__meta_lock());
    return bytes;
}
