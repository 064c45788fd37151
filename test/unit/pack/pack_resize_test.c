/* SPDX-License-Identifier: MIT */
/*
 * pack_resize_test.c: packed blocks, longer and shorter where they lie.
 * Goal: length changes where there is room and nothing changes where there is none; what is left is used.
 * Method: direct calls on a fresh heap.
 */
#include <string.h>

#include "packed.h"
#include "support/heap_check.h"

static char *blocks[2 * IN_SPAN];

static bool resize(char *p, size_t size_bytes)
{
    return ap__pack_resize(span_of(p), p, usable(p), size_bytes);
}

Test(pack_resize, a_block_gets_any_length_where_there_is_room)
{
    init();
    char *front = take(2000, 0);
    char *p = take(2000, 0);
    memset(front, 1, 2048);
    memset(p, 2, 2048);
    for (unsigned i = 0; i < 300; i++) {
        size_t size = AP__PACK_SIZE_MIN + (size_t)i * 7919 % SIZES;
        cr_assert(resize(p, size));
        size_t bytes = usable(p);
        cr_assert(bytes >= size && bytes < size + AP_UNIT_BYTES);
        cr_assert_eq(stats().block_bytes, 2048 + bytes);
        cr_assert_eq(ap__pack_block_bytes(), 2048 + bytes);
        cr_assert_eq(stats().blocks, 2);
        cr_assert(p[0] == 2 && p[1024] == 2);
        memset(p, 2, bytes);
        heap_check();
    }
    cr_assert_eq(front[2047], 1);
    give(p);
    cr_assert_eq(stats().block_bytes, 2048);
    cr_assert_eq(span_of(front)->packed.free_units, 8192 - 16);
}

Test(pack_resize, what_a_shorter_block_leaves_is_used)
{
    init();
    char *p = take(LONGEST, 0);
    char *next = take(LONGEST, 0);
    cr_assert(resize(p, 1500));
    cr_assert_eq(take(LONGEST - 1536, 0), p + 1536);
    cr_assert_eq(take(LONGEST, 0), next + LONGEST);
    heap_check();
}

Test(pack_resize, what_a_full_spans_block_leaves_brings_the_span_back)
{
    init();
    fill_spans(blocks, 2, 0);
    cr_assert(resize(blocks[20], 5000));
    cr_assert_eq(take(20000, 0), blocks[20] + 5120);
    cr_assert_eq(pool_spans(0), 2);
    heap_check();
}

Test(pack_resize, a_block_does_not_grow_into_its_neighbour)
{
    init();
    char *p = take(2000, 0);
    char *q = take(2000, 0);
    char *r = take(2000, 0);
    cr_assert(!resize(p, 2049));
    cr_assert_eq(usable(p), 2048);
    cr_assert(resize(p, 2048), "it is as long as that");
    give(q);
    cr_assert(!resize(p, 4097));
    cr_assert_eq(usable(p), 2048);
    cr_assert_eq(stats().block_bytes, 4096);
    heap_check();
    cr_assert(resize(p, 4096));
    cr_assert_eq(usable(p), 4096);
    cr_assert_eq(usable(r), 2048);
    heap_check();
}

Test(pack_resize, a_block_does_not_grow_beyond_its_span)
{
    init();
    fill_spans(blocks, 2, 0);
    cr_assert_eq(span_of(blocks[IN_SPAN - 1])->start, (uintptr_t)blocks[0]);
    char *last = blocks[IN_SPAN - 1];
    cr_assert(resize(last, 2000));
    char *behind = take(LONGEST - 2048, 0);
    cr_assert_eq(behind - last, 2048);
    cr_assert(!resize(behind, LONGEST));
    cr_assert_eq(usable(behind), LONGEST - 2048);
    heap_check();
}

Test(pack_resize, a_length_that_is_not_packed_is_refused)
{
    init();
    char *p = take(2000, 0);
    cr_assert(!resize(p, 1024));
    cr_assert(!resize(p, 0));
    cr_assert(!resize(p, LONGEST + 1));
    cr_assert(!resize(p, SIZE_MAX));
    cr_assert_eq(usable(p), 2048);
    cr_assert(resize(p, 1025));
    cr_assert(resize(p, LONGEST));
    heap_check();
}

Test(pack_resize, a_block_that_grows_into_all_that_is_free_takes_its_span_off_its_list)
{
    init();
    fill_spans(blocks, 1, 0);
    give(blocks[5]);
    char *p = take(LONGEST - 4096, 0);
    cr_assert_eq(p, blocks[5]);
    cr_assert(resize(p, LONGEST));
    cr_assert_eq(span_of(p)->packed.bucket, AP_PACK_NO_BUCKET);
    cr_assert_eq(span_of(p)->packed.free_units, 0);
    heap_check();
}
