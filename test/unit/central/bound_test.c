/* SPDX-License-Identifier: MIT */
/*
 * bound_test.c: how many spans a class may have.
 * Goal: it adds none beyond its bound, but those that are added on purpose; that this was so is said, and taken back as
 * soon as a block comes back, also by the transfer cache; a bound that is lifted comes back; all shards count. Method:
 * direct calls on a fresh heap, of a class that is not divided and of one that is.
 */
#include "central/shards.h"

#include <criterion/criterion.h>

#include "central/transfer_cache.h"
#include "spread_class.h"
#include "support/heap_check.h"

#define SPAN_BYTES ((size_t)SIZE * SLOTS)

static void *blocks[BLOCKS_MAX];

static void expect_refused(void)
{
    void *block;
    cr_assert_eq(ap__central_take(CLASS, &block, 1), 0);
    cr_assert(ap__central_is_at_bound(CLASS));
}

Test(bound, a_class_has_none_until_it_is_set)
{
    init(1);
    for (unsigned c = 0; c < AP_CLASS_COUNT; c++) {
        cr_assert_eq(ap__central_bound(c), SIZE_MAX);
        cr_assert(!ap__central_is_at_bound(c));
    }
    static const size_t bounds[] = {0, 1, (size_t)1 << 20, SIZE_MAX - 1, SIZE_MAX};
    for (unsigned i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        ap__central_set_bound(CLASS, bounds[i]);
        cr_assert_eq(ap__central_bound(CLASS), bounds[i]);
        cr_assert_eq(ap__central_bound(CLASS + 1), SIZE_MAX);
    }
}

Test(bound, a_class_adds_no_span_beyond_it)
{
    init(1);
    for (unsigned spans = 0; spans < 4; spans++) {
        unsigned before = spans == 0 ? 0 : 1;
        ap__central_set_bound(CLASS, spans * SPAN_BYTES);
        cr_assert(!ap__central_is_at_bound(CLASS));
        cr_assert_eq(take(CLASS, blocks, 2 * SLOTS), before * SLOTS, "up to %u", spans);
        cr_assert_eq(stats(CLASS).spans, spans);
        expect_refused();
    }
    void *other;
    cr_assert_eq(ap__central_take(CLASS + 1, &other, 1), 1, "others do not notice");
    heap_check();
}

Test(bound, a_begun_span_is_one)
{
    init(1);
    ap__central_set_bound(CLASS, SPAN_BYTES + 1);
    cr_assert_eq(take(CLASS, blocks, 3 * SLOTS), 2 * SLOTS);
    expect_refused();
}

Test(bound, what_is_not_refused_is_not_at_the_bound)
{
    init(1);
    ap__central_set_bound(CLASS, SPAN_BYTES);
    cr_assert_eq(take(CLASS, blocks, SLOTS), SLOTS);
    cr_assert(!ap__central_is_at_bound(CLASS), "nobody has asked for more");
    expect_refused();
}

Test(bound, a_higher_one_is_in_force_at_once)
{
    init(1);
    ap__central_set_bound(CLASS, 0);
    expect_refused();
    ap__central_set_bound(CLASS, SIZE_MAX);
    cr_assert(!ap__central_is_at_bound(CLASS));
    cr_assert_eq(take(CLASS, blocks, 3 * SLOTS), 3 * SLOTS);
    cr_assert(!ap__central_is_at_bound(CLASS));
}

Test(bound, a_lower_one_leaves_the_spans_that_there_are)
{
    init(1);
    cr_assert_eq(take(CLASS, blocks, 3 * SLOTS), 3 * SLOTS);
    ap__central_set_bound(CLASS, SPAN_BYTES);
    expect_refused();
    give(blocks, 1);
    cr_assert_eq(take_one(), blocks[0]);
    for (unsigned i = 0; i < 3 * SLOTS; i++) {
        give(&blocks[i], 1);
    }
    cr_assert_eq(take(CLASS, blocks, 2 * SLOTS), SLOTS);
    heap_check();
}

Test(bound, a_block_that_comes_back_takes_it_back)
{
    init(1);
    ap__central_set_bound(CLASS, SPAN_BYTES);
    cr_assert_eq(take(CLASS, blocks, SLOTS), SLOTS);
    expect_refused();
    give(&blocks[5], 1);
    cr_assert(!ap__central_is_at_bound(CLASS));
    cr_assert_eq(take_one(), blocks[5]);
    cr_assert(!ap__central_is_at_bound(CLASS));
    expect_refused();
    give(blocks, SLOTS);
    cr_assert(!ap__central_is_at_bound(CLASS));
    cr_assert_eq(stats(CLASS).spans, 0);
    cr_assert_eq(take(CLASS, blocks, SLOTS), SLOTS, "its span has gone, another may come");
}

Test(bound, a_block_in_the_transfer_cache_takes_it_back)
{
    init(1);
    ap__transfer_init(1, (size_t)1 << 20);
    ap__central_set_bound(CLASS, SPAN_BYTES);
    cr_assert_eq(take(CLASS, blocks, SLOTS), SLOTS);
    expect_refused();
    cr_assert_eq(ap__transfer_give(CLASS, blocks, 1), 1);
    cr_assert(!ap__central_is_at_bound(CLASS));
    void *again = NULL;
    cr_assert_eq(ap__transfer_take(CLASS, &again, 1), 1);
    cr_assert_eq(again, blocks[0]);
    expect_refused();
    give(blocks, SLOTS);
}

/* A heap that may have so many granules more. */
static void leave_room(size_t granules)
{
    struct ap__page_heap_stats figures;
    ap__page_heap_stats(&figures);
    ap__heap_limits_set_hard(figures.usable_bytes - figures.free_bytes + granules * AP_GRANULE);
}

Test(bound, a_lifted_one_is_in_force_again_once_there_is_room)
{
    enum { WANTED = 4 };
    init(1);
    ap__central_set_bound(CLASS, SPAN_BYTES);
    cr_assert_eq(take(CLASS, blocks, SLOTS), SLOTS);
    expect_refused();
    leave_room(WANTED - 1);
    ap__central_lift_bound(CLASS, WANTED);
    cr_assert(ap__central_is_bound_lifted(CLASS));
    cr_assert(!ap__central_is_bound_lifted(CLASS + 1));
    cr_assert(!ap__central_is_at_bound(CLASS));
    cr_assert_eq(ap__central_bound(CLASS), SPAN_BYTES);
    cr_assert_eq(take(CLASS, blocks, SLOTS + 1), SLOTS + 1);
    cr_assert(ap__central_is_bound_lifted(CLASS));
    leave_room(WANTED);
    cr_assert_eq(take(CLASS, blocks, 2 * SLOTS), SLOTS - 1, "of the span that there is");
    cr_assert(!ap__central_is_bound_lifted(CLASS));
    expect_refused();
    heap_check();
}

Test(bound, one_that_is_set_is_not_lifted)
{
    init(1);
    leave_room(1);
    ap__central_lift_bound(CLASS, 2);
    ap__central_set_bound(CLASS, 0);
    cr_assert(!ap__central_is_bound_lifted(CLASS));
    expect_refused();
}

Test(bound, below_it_nobody_looks_for_room)
{
    init(1);
    ap__central_set_bound(CLASS, 2 * SPAN_BYTES);
    ap__central_lift_bound(CLASS, 1);
    cr_assert_eq(take(CLASS, blocks, 2 * SLOTS), 2 * SLOTS);
    cr_assert(ap__central_is_bound_lifted(CLASS));
    expect_refused();
    cr_assert(!ap__central_is_bound_lifted(CLASS));
}

Test(bound, a_span_can_be_added_whatever_it_is)
{
    init(1);
    ap__central_set_bound(CLASS, 0);
    for (unsigned spans = 1; spans < 4; spans++) {
        expect_refused();
        cr_assert(ap__central_add_span(CLASS));
        cr_assert(!ap__central_is_at_bound(CLASS));
        cr_assert_eq(stats(CLASS).spans, spans);
        cr_assert_eq(take(CLASS, blocks, 2 * SLOTS), SLOTS);
    }
    refuse_memory(true);
    cr_assert(!ap__central_add_span(CLASS));
    refuse_memory(false);
    heap_check();
}

Test(bound, it_is_added_to_the_threads_shard)
{
    spread(blocks);
    ap__central_set_thread(1);
    ap__central_set_bound(CLASS, 0);
    cr_assert(ap__central_add_span(CLASS));
    cr_assert_eq(shard_at(1)->lists.members, 1);
    cr_assert_eq(take(CLASS, blocks, 2 * SLOTS), SLOTS);
    heap_check();
}

Test(bound, blocks_of_another_class_do_not)
{
    void *other;
    init(1);
    ap__central_set_bound(CLASS, 0);
    expect_refused();
    cr_assert_eq(ap__central_take(CLASS + 1, &other, 1), 1);
    ap__central_give(CLASS + 1, &other, 1, "free");
    cr_assert(ap__central_is_at_bound(CLASS));
}

Test(bound, a_shard_that_comes_into_use_by_it_is_the_threads)
{
    init(2);
    ap__central_share();
    ap__central_set_thread(1);
    cr_assert_eq(take(CLASS, blocks, BLOCKS - SLOTS), BLOCKS - SLOTS);
    ap__central_set_bound(CLASS, 0);
    expect_refused();
    cr_assert_eq(ap__central_shards(CLASS), 1);
    cr_assert(ap__central_add_span(CLASS));
    cr_assert_eq(ap__central_shards(CLASS), 2);
    cr_assert_eq(shard_at(1)->lists.members, 1);
    ap__central_set_bound(CLASS, SIZE_MAX); /* now it may have another, too */
    cr_assert_eq(take(CLASS, blocks, 1), 1);
    cr_assert_eq(stats(CLASS).spans, SPANS);
    heap_check();
}

Test(bound, none_is_added_where_a_block_has_come_back)
{
    init(1);
    ap__central_set_bound(CLASS, SPAN_BYTES);
    cr_assert_eq(take(CLASS, blocks, SLOTS), SLOTS);
    expect_refused();
    give(blocks, 1);
    cr_assert(ap__central_add_span(CLASS));
    cr_assert_eq(take_one(), blocks[0]);
    cr_assert_eq(stats(CLASS).spans, 1);
    heap_check();
}

/* Whoever claims, and however the spans are divided: as if there were one shard. */
Test(bound, what_is_in_use_counts_in_whatever_shard)
{
    spread(blocks);
    ap__central_set_bound(CLASS, (SPANS + MORE) * SPAN_BYTES);
    ap__central_set_thread(1);
    cr_assert_eq(take(CLASS, blocks + BLOCKS, (MORE + 1) * SLOTS), MORE * SLOTS);
    cr_assert(ap__central_is_at_bound(CLASS));
    ap__central_set_thread(0);
    expect_refused();
    ap__central_set_bound(CLASS, (SPANS + MORE + 2) * SPAN_BYTES);
    cr_assert_eq(take(CLASS, blocks + BLOCKS, 3 * SLOTS), 2 * SLOTS);
    cr_assert_eq(stats(CLASS).spans, SPANS + MORE + 2);
    heap_check();
}

Test(bound, free_blocks_of_all_shards_are_claimed_before_it_is_reached)
{
    spread(blocks);
    ap__central_set_bound(CLASS, SPANS * SPAN_BYTES);
    give(blocks, 1);
    ap__central_set_thread(1);
    cr_assert_eq(take_one(), blocks[0], "the only one of the other shard");
    expect_refused();
    give(blocks, 1);
    cr_assert(!ap__central_is_at_bound(CLASS));
    cr_assert_eq(stats(CLASS).spans, SPANS);
    heap_check();
}
