/* SPDX-License-Identifier: MIT */
/*
 * shards_test.c: whether a class is divided among the processors, and when.
 * Goal: it is spread when it should be, not before, for good, and never if it should not; among as many as are wanted.
 * Method: direct calls on a fresh heap.
 */
#include "central/shards.h"

#include <criterion/criterion.h>

#include "os/os.h"
#include "spread_class.h"
#include "support/heap_check.h"

Test(shards, a_class_of_a_program_of_one_thread_has_one)
{
    static void *blocks[3 * BLOCKS];
    init(2);
    (void)processor_run_on_shard(1, 2); /* where there is one, it would make a difference */
    cr_assert_eq(take(CLASS, blocks, 3 * BLOCKS), 3 * BLOCKS);
    cr_assert(!ap__central_is_spread(CLASS));
    cr_assert_eq(ap__shard_mine(CLASS), shard_at(0));
    for (unsigned i = 0; i < 3 * BLOCKS; i++) {
        cr_assert_eq(named_by(blocks[i]), 0);
    }
    cr_assert_eq(shard_at(0)->lists.members, 3 * SPANS);
    heap_check();
    ap__central_share();
    cr_assert(!ap__central_is_spread(CLASS), "not before it gets one more span");
    (void)take_one();
    cr_assert(ap__central_is_spread(CLASS));
}

static void expect_spread_from(unsigned size_class, unsigned spans)
{
    static void *blocks[AP_SLOTS_MAX];
    unsigned slots = ap__size_class[size_class].slots;
    for (unsigned have = 1; have <= spans; have++) {
        cr_assert(!ap__central_is_spread(size_class), "%u of %u spans", have - 1, spans);
        cr_assert_eq(take(size_class, blocks, slots), slots);
        cr_assert_eq(stats(size_class).spans, have);
    }
    cr_assert(ap__central_is_spread(size_class));
}

/* One class has no influence on another. */
static void expect_classes_spread_from(unsigned shards, unsigned spans)
{
    static const size_t sizes[] = {16, 64, 80, 1024, SIZE};
    init(shards);
    ap__central_share();
    for (unsigned i = 0; i < AP_ARRAY_LENGTH(sizes); i++) {
        expect_spread_from(ap__class_of_size(sizes[i]), spans);
    }
}

Test(shards, two_come_into_use_with_sixteen_spans)
{
    expect_classes_spread_from(2, 16);
}

Test(shards, three_come_into_use_with_twentyfour_spans)
{
    expect_classes_spread_from(3, 24);
}

Test(shards, eight_come_into_use_with_sixtyfour_spans)
{
    expect_classes_spread_from(8, 64);
}

Test(shards, a_class_stays_spread)
{
    static void *blocks[BLOCKS];
    init(2);
    ap__central_share();
    cr_assert_eq(take(CLASS, blocks, BLOCKS), BLOCKS);
    give(blocks, BLOCKS);
    cr_assert_eq(stats(CLASS).spans, 0);
    cr_assert(ap__central_is_spread(CLASS));
    heap_check();
}

Test(shards, blocks_of_more_than_2_kib_have_one)
{
    static void *blocks[3 * BLOCKS];
    init(2);
    ap__central_share();
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        cr_assert_eq(ap__shards_of(c), ap__size_class[c].size <= SIZE ? 2 : 1);
        cr_assert_eq(ap__central_shards(c), 1, "none is spread");
    }
    unsigned next = CLASS + 1;
    unsigned count = 3 * SPANS * ap__size_class[next].slots;
    (void)processor_run_on_shard(1, 2);
    cr_assert_eq(take(next, blocks, count), count);
    cr_assert_eq(stats(next).spans, 3 * SPANS);
    cr_assert(!ap__central_is_spread(next));
    cr_assert_eq(ap__shard_mine(next), ap__shard_at(0, next));
    cr_assert_eq(ap__shard_at(0, next)->lists.members, 3 * SPANS);
    heap_check();
}

Test(shards, one_for_all_processors_is_the_same_as_none)
{
    static void *blocks[BLOCKS_MAX];
    init(1);
    ap__central_share();
    cr_assert_eq(take(CLASS, blocks, BLOCKS_MAX), BLOCKS_MAX);
    cr_assert(!ap__central_is_spread(CLASS));
    cr_assert_eq(shard_at(0)->lists.members, 4 * SPANS);
    heap_check();
}

Test(shards, are_as_many_as_are_wanted_within_bounds)
{
    init(AP_CENTRAL_SHARDS_MAX + 1);
    cr_assert_eq(ap__shards_of(CLASS), AP_CENTRAL_SHARDS_MAX);
    ap__shards_init(1000000);
    cr_assert_eq(ap__shards_of(CLASS), AP_CENTRAL_SHARDS_MAX);
    ap__central_init(false, 5);
    cr_assert_eq(ap__shards_of(CLASS), 5);
    ap__shards_init(0);
    cr_assert_eq(ap__shards_of(CLASS), ap__min(ap__os_cpu_count(), AP_CENTRAL_SHARDS_MAX));
    for (unsigned number = 0; number < AP_CENTRAL_SHARDS_MAX; number++) {
        cr_assert_eq(ap__central_lock(number, CLASS), &shard_at(number)->lock);
    }
}

Test(shards, are_not_divided_anew_once_they_are_shared)
{
    init(3);
    ap__central_share();
    ap__shards_init(1);
    cr_assert_eq(ap__shards_of(CLASS), 3);
    ap__shards_init(8);
    cr_assert_eq(ap__shards_of(CLASS), 3);
    expect_spread_from(CLASS, 24);
}
