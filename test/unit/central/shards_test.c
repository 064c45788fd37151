/* SPDX-License-Identifier: MIT */
/*
 * shards_test.c: whether a class is divided among the threads, and when.
 * Goal: it is spread when it should be, not before, step by step, for good, and never if it should not; among as many as
 * are wanted.
 * Method: direct calls on a fresh heap.
 */
#include "central/shards.h"

#include <criterion/criterion.h>

#include "spread_class.h"
#include "support/heap_check.h"

Test(shards, a_class_of_a_program_of_one_thread_has_one)
{
    static void *blocks[3 * BLOCKS];
    init(2);
    run_on_shard(1); /* which would make a difference */
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

/* Takes the blocks of one span more; the class then has so many shards. */
static void expect_span(unsigned size_class, unsigned spans, unsigned shards)
{
    static void *blocks[AP_SLOTS_MAX];
    unsigned slots = ap__size_class[size_class].slots;
    cr_assert_eq(take(size_class, blocks, slots), slots);
    cr_assert_eq(stats(size_class).spans, spans);
    cr_assert_eq(ap__central_shards(size_class), shards, "%u spans of class %u: %u", spans,
                 size_class, ap__central_shards(size_class));
    cr_assert_eq(ap__central_is_spread(size_class), shards != 1);
}

/* One class has no influence on another. steps[i]: spans with which there are as many shards as the i-th step has. */
static void expect_steps(unsigned most, const unsigned *steps, const unsigned *shards,
                         unsigned count)
{
    static const size_t sizes[] = {16, 64, 80, 1024, SIZE};
    init(most);
    ap__central_share();
    for (unsigned i = 0; i < AP_ARRAY_LENGTH(sizes); i++) {
        unsigned size_class = ap__class_of_size(sizes[i]);
        unsigned has = 1;
        unsigned step = 0;
        for (unsigned spans = 1; spans <= steps[count - 1] + 2; spans++) {
            if (step < count && spans == steps[step]) {
                has = shards[step++];
            }
            expect_span(size_class, spans, has);
        }
    }
}

Test(shards, two_come_into_use_with_eight_spans)
{
    expect_steps(2, (unsigned[]){8}, (unsigned[]){2}, 1);
}

Test(shards, three_come_into_use_with_twelve_spans)
{
    expect_steps(3, (unsigned[]){8, 12}, (unsigned[]){2, 3}, 2);
}

Test(shards, eight_come_into_use_step_by_step)
{
    expect_steps(8, (unsigned[]){8, 16, 32}, (unsigned[]){2, 4, 8}, 3);
}

/* The number of shards changes with the first one's lock held, whoever changes it: forks rely on that. */
Test(shards, any_thread_may_bring_more)
{
    init(8);
    ap__central_share();
    for (unsigned spans = 1; spans <= 32; spans++) {
        unsigned number = spans % 5;
        uint64_t taken = atomic_load(&shard_at(0)->lock.taken);
        run_on_shard(number);
        expect_span(CLASS, spans, spans < 8 ? 1 : spans < 16 ? 2 : spans < 32 ? 4 : 8);
        if (spans == 16 || spans == 32) {
            cr_assert_gt(atomic_load(&shard_at(0)->lock.taken), taken);
        }
        for (unsigned i = 0; i < AP_CENTRAL_SHARDS_MAX; i++) {
            cr_assert_eq(atomic_load(&shard_at(i)->lock.owner), 0);
        }
    }
    heap_check();
}

/* What the thread that forks does while it has all locks. */
Test(shards, none_comes_in_the_fork_window)
{
    init(8);
    ap__central_share();
    for (unsigned spans = 1; spans < 8; spans++) {
        expect_span(CLASS, spans, 1);
    }
    ap__lock_fork_window_open();
    ap__lock_take(&shard_at(0)->lock);
    for (unsigned spans = 8; spans <= 10; spans++) {
        expect_span(CLASS, spans, 1);
    }
    ap__lock_release(&shard_at(0)->lock);
    ap__lock_fork_window_close();
    expect_span(CLASS, 11, 2);
    heap_check();
}

/* Blocks that have come back do not count. */
Test(shards, come_with_what_is_in_use)
{
    static void *blocks[AP_SLOTS_MAX];
    init(2);
    ap__central_share();
    unsigned size_class = ap__class_of_size(64);
    unsigned slots = ap__size_class[size_class].slots;
    for (unsigned spans = 1; spans <= 20; spans++) {
        cr_assert_eq(take(size_class, blocks, slots), slots);
        ap__central_give(size_class, blocks, slots - 1, "free");
        cr_assert(!ap__central_is_spread(size_class));
    }
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
    run_on_shard(1);
    cr_assert_eq(take(next, blocks, count), count);
    cr_assert_eq(stats(next).spans, 3 * SPANS);
    cr_assert(!ap__central_is_spread(next));
    cr_assert_eq(ap__shard_mine(next), ap__shard_at(0, next));
    cr_assert_eq(ap__shard_at(0, next)->lists.members, 3 * SPANS);
    heap_check();
}

Test(shards, one_for_all_threads_is_the_same_as_none)
{
    static void *blocks[BLOCKS_MAX];
    init(1);
    ap__central_share();
    cr_assert_eq(take(CLASS, blocks, BLOCKS_MAX), BLOCKS_MAX);
    cr_assert(!ap__central_is_spread(CLASS));
    cr_assert_eq(shard_at(0)->lists.members, 8 * SPANS);
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
    cr_assert_eq(ap__shards_of(CLASS), AP_CENTRAL_SHARDS_MAX);
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
}
