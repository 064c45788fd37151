/* SPDX-License-Identifier: MIT */
/* spoil_meta.c: free pieces and empty pages of metadata. */
#include <stddef.h>

#include "meta/meta.h"
#include "meta/pages.h"
#include "meta/pieces.h"
#include "os/os.h"
#include "spoil.h"

enum { SMALL_BYTES = 64 };

/* The newest free piece of its size. */
static struct ap__piece *free_piece(size_t bytes)
{
    void *piece = ap__meta_take(bytes);
    ap__meta_give(piece, bytes);
    return piece;
}

static void no_end(void)
{
    struct ap__piece *piece = free_piece(SMALL_BYTES);
    piece->next = piece;
}

static void not_aligned(void)
{
    struct ap__piece *piece = free_piece(2 * SMALL_BYTES);
    piece->next = (struct ap__piece *)(void *)((char *)free_piece(SMALL_BYTES) + SMALL_BYTES / 2);
}

static char *empty_page(void)
{
    (void)free_piece(ap__os_page_size());
    (void)ap__meta_purge();
    char *page = ap__pages_take(ap__os_page_size());
    ap__pages_give(page, ap__os_page_size());
    return page;
}

static void in_an_empty_page(void)
{
    ap__piece_push(empty_page() + SMALL_BYTES, 0);
}

static void not_zero(void)
{
    empty_page()[SMALL_BYTES] = 1;
}

static void sum_of_pieces(void)
{
    ap__free_pieces.bytes += SMALL_BYTES;
}

static const struct spoil all[] = {
    {no_end, "has no end"},
    {not_aligned, "is not aligned"},
    {in_an_empty_page, "in an empty page"},
    {not_zero, "not zero"},
    {sum_of_pieces, "sum of free pieces"},
};

const struct spoils spoils_of_meta = {all, sizeof all / sizeof *all};
