/* SPDX-License-Identifier: MIT */
/*
 * meta.c: every mapped byte of metadata is in use, in a free piece, in an empty page or untouched; as far as can be seen
 * without knowing what is in use.
 */
#include "support/consistency/walk.h"

#include "meta/mappings.h"
#include "meta/meta.h"
#include "meta/pages.h"
#include "meta/pieces.h"
#include "os/os.h"

static bool is_in_empty_page(const struct ap__piece *piece, size_t bytes)
{
    size_t first = ap__mappings_page_of(piece);
    size_t last = ap__mappings_page_of((const char *)piece + bytes - 1);
    for (size_t page = first; page <= last && page < ap__pages_known(); page++) {
        if (ap__pages_is_empty(page)) {
            return true;
        }
    }
    return false;
}

/* Returns the bytes of a size's free pieces. */
static size_t check_pieces(unsigned size, const struct ap__meta_stats *stats)
{
    size_t bytes = ap__piece_bytes(size);
    size_t sum = 0;
    const struct ap__piece *piece = ap__free_pieces.lists[size];
    while (piece != NULL && !walk.found) {
        sum += bytes;
        if (walk_check(sum <= stats->mapped_bytes, "a list of free pieces has no end", piece,
                       size) &&
            walk_check((uintptr_t)piece % ap__min(bytes, ap__os_page_size()) == 0,
                       "a free piece is not aligned", piece, bytes) &&
            walk_check(!is_in_empty_page(piece, bytes), "a free piece lies in an empty page", piece,
                       bytes)) {
            piece = piece->next;
        }
    }
    return sum;
}

static size_t check_empty_pages(void)
{
    size_t words = ap__os_page_size() / sizeof(uint64_t);
    size_t count = 0;
    for (size_t page = 0; page < ap__pages_known() && !walk.found; page++) {
        const uint64_t *at = (const uint64_t *)(const void *)ap__mappings_page_at(page);
        count += ap__pages_is_empty(page);
        for (size_t i = 0; ap__pages_is_empty(page) && i < words; i++) {
            (void)walk_check(at[i] == 0, "an empty page is not zero", at, i);
        }
    }
    return count * ap__os_page_size();
}

void walk_meta(void)
{
    struct ap__meta_stats stats;
    size_t free_bytes = 0;
    ap__meta_stats(&stats);
    for (unsigned size = 0; size < AP__PIECE_SIZES; size++) {
        free_bytes += check_pieces(size, &stats);
    }
    size_t empty_bytes = check_empty_pages();
    (void)walk_check(free_bytes == stats.free_bytes, "the sum of free pieces is wrong", NULL,
                     free_bytes);
    (void)walk_check(empty_bytes == stats.empty_bytes, "the count of empty pages is wrong", NULL,
                     empty_bytes);
    (void)walk_check(free_bytes + empty_bytes + stats.untouched_bytes <= stats.mapped_bytes,
                     "more metadata is unused than there is", NULL, stats.mapped_bytes);
}
