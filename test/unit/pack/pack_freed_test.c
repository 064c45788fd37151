/* SPDX-License-Identifier: MIT */
/*
 * pack_freed_test.c: a block is freed, and another thread of the program resizes it.
 * Goal: whatever the block has become between its length was asked for and its resize began, its neighbours and the
 * counts are what they were. Method: the two halves of such a resize, with the free in between.
 */
#include <criterion/criterion.h>

#include "apmalloc.h"
#include "pack/pack.h"
#include "pack/pack_place.h"
#include "support/heap_check.h"

enum { SIZE = 4224, NEIGHBOURS = 8 };

static char *blocks[NEIGHBOURS];

static void take_all(void)
{
    ap_free(ap_malloc(1));
    for (unsigned i = 0; i < NEIGHBOURS; i++) {
        blocks[i] = ap__pack_take(SIZE, 0);
        cr_assert_not_null(blocks[i]);
    }
}

static void expect_others(unsigned without)
{
    for (unsigned i = 0; i < NEIGHBOURS; i++) {
        struct ap__span *span = ap__pack_span_of(blocks[i]);
        cr_assert(i == without || ap__pack_usable_size(span, blocks[i]) == SIZE, "block %u", i);
    }
    cr_assert_eq(heap_check().packed_blocks, NEIGHBOURS - 1);
}

static void resize_freed(size_t size)
{
    take_all();
    struct ap__span *span = ap__pack_span_of(blocks[0]);
    (void)ap__pack_give(span, blocks[4], "free");
    cr_assert_not(ap__pack_resize(span, blocks[4], SIZE, size));
    expect_others(4);
}

Test(pack_freed, a_freed_block_does_not_shrink)
{
    resize_freed(2000);
}

Test(pack_freed, a_freed_block_does_not_grow)
{
    resize_freed(SIZE + 100);
}

/* Its place is a shorter block's. */
Test(pack_freed, a_block_of_another_length_is_another)
{
    take_all();
    struct ap__span *span = ap__pack_span_of(blocks[0]);
    cr_assert(ap__pack_resize(span, blocks[4], SIZE, 2048));
    cr_assert_not(ap__pack_resize(span, blocks[4], SIZE, 2 * SIZE));
    cr_assert_not(ap__pack_resize(span, blocks[4], SIZE, 1500));
    cr_assert_eq(ap__pack_usable_size(span, blocks[4]), 2048);
    cr_assert_eq(heap_check().packed_blocks, NEIGHBOURS);
}
