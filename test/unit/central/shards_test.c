/* SPDX-License-Identifier: MIT */
/*
 * shards_test.c: whether a class is divided among the threads, and when.
 * Goal: it is spread when it should be, not before, step by step, for good, and never if it should not; among as many
 * as are wanted; not in a fork window; each thread has the shard that its number says. Method: direct calls on a fresh
 * heap.
 */
#include "central/shards.h"

#include <criterion/criterion.h>

#include "spread_class.h"
#include "support/heap_check.h"

Test(shards, a_class_of_a_program_of_one_thread_has_one)
{
    static void *blocks[3 * BLOCKS];
    init(2);
    ap__central_set_thread(1);
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
    cr_assert_eq(ap__shard_mine(CLASS), shard_at(1));
}

/* How many shards, of `most`, a class of so many spans has. */
static unsigned shards_with(unsigned spans, unsigned most)
{
    unsigned count = 1;
    while (count < most && spans >= 4 * ap__min(2 * count, most)) {
        count = (unsigned)ap__min(2 * count, most);
    }
    return count;
}

static void expect_steps(unsigned size_class, unsigned most, unsigned spans)
{
    static void *blocks[AP_SLOTS_MAX];
    unsigned slots = ap__size_class[size_class].slots;
    for (unsigned have = 1; have <= spans; have++) {
        cr_assert_eq(take(size_class, blocks, slots), slots);
        cr_assert_eq(stats(size_class).spans, have);
        cr_assert_eq(ap__central_shards(size_class), shards_with(have, most), "%u spans", have);
        cr_assert_eq(ap__central_is_spread(size_class), shards_with(have, most) > 1);
    }
}

/* One class has no influence on another. */
static void expect_classes_grow(unsigned most, unsigned spans, unsigned expected)
{
    static const size_t sizes[] = {16, 64, 80, 1024, SIZE};
    init(most);
    ap__central_share();
    cr_assert_eq(shards_with(spans, most), expected);
    cr_assert_lt(shards_with(spans - 1, most), expected);
    for (unsigned i = 0; i < AP_ARRAY_LENGTH(sizes); i++) {
        expect_steps(ap__class_of_size(sizes[i]), most, spans);
    }
}

Test(shards, two_come_into_use_with_eight_spans)
{
    expect_classes_grow(2, 8, 2);
}

Test(shards, of_three_two_come_into_use_with_eight_spans_the_third_with_twelve)
{
    expect_classes_grow(3, 12, 3);
}

Test(shards, of_eight_two_come_into_use_with_eight_spans_four_with_sixteen_all_with_thirtytwo)
{
    expect_classes_grow(8, 32, 8);
}

/* One more span, for which a thread of the shard whose number is given has the locks. */
static void add_one(unsigned number)
{
    struct ap__shard *shard = shard_at(number);
    ap__lock_take(&shard->lock);
    cr_assert(ap__shard_find_span_locked(shard, CLASS));
    for (unsigned other = 0; other < AP_CENTRAL_SHARDS_MAX; other++) {
        const struct ap__lock *lock = &shard_at(other)->lock;
        cr_assert_eq(ap__lock_is_mine(lock), other == number, "the lock of %u", other);
        cr_assert(other == number || atomic_load(&lock->owner) == 0);
    }
    ap__lock_release(&shard->lock);
}

static unsigned claim_span(unsigned number)
{
    static void *blocks[SLOTS];
    ap__central_set_thread(number);
    return take(CLASS, blocks, SLOTS);
}

Test(shards, a_class_grows_by_whatever_shard_gets_a_span)
{
    static void *blocks[BLOCKS_MAX];
    init(8);
    ap__central_share();
    cr_assert_eq(take(CLASS, blocks, BLOCKS), BLOCKS);
    unsigned spans = SPANS;
    for (unsigned shards = 2; shards < 8; shards *= 2) {
        cr_assert_eq(ap__central_shards(CLASS), shards);
        for (; spans < 2 * shards * 4 - 1; spans++) {
            cr_assert_eq(claim_span(spans), SLOTS);
        }
        cr_assert_eq(ap__central_shards(CLASS), shards);
        size_t members = shard_at(shards - 1)->lists.members;
        add_one(shards - 1);
        cr_assert_eq(ap__central_shards(CLASS), 2 * shards);
        cr_assert_eq(shard_at(shards - 1)->lists.members, members + 1);
        cr_assert_eq(claim_span(shards - 1), SLOTS, "of the span that was added");
        spans++;
        cr_assert_eq(stats(CLASS).spans, spans);
    }
    heap_check();
}

Test(shards, spans_stay_where_they_were_and_are_taken_over)
{
    static void *blocks[BLOCKS];
    init(2);
    ap__central_share();
    cr_assert_eq(take(CLASS, blocks, BLOCKS), BLOCKS);
    cr_assert_eq(ap__central_shards(CLASS), 2);
    for (unsigned i = 0; i < BLOCKS; i++) {
        cr_assert_eq(named_by(blocks[i]), 0);
    }
    give(blocks, 2);
    give(blocks + SLOTS, 1);
    ap__central_set_thread(1);
    cr_assert_eq(take_one(), blocks[0], "of the less full one");
    cr_assert_eq(named_by(blocks[0]), 1);
    cr_assert_eq(named_by(blocks[SLOTS]), 0);
    expect_claimed(BLOCKS - SLOTS - 1, SLOTS - 1);
    heap_check();
}

Test(shards, what_counts_is_what_is_in_use)
{
    static void *blocks[SPANS * SLOTS];
    init(2);
    ap__central_share();
    cr_assert_eq(take(CLASS, blocks, (SPANS - 1) * SLOTS), (SPANS - 1) * SLOTS);
    give(blocks, SLOTS);
    cr_assert_eq(take(CLASS, blocks, SLOTS), SLOTS, "seven spans again");
    cr_assert_eq(ap__central_shards(CLASS), 1);
    cr_assert_eq(claim_span(0), SLOTS);
    cr_assert_eq(ap__central_shards(CLASS), 2);
}

/* A thread in the fork window has the locks that there are at its beginning. */
static void expect_not_in_fork_window(unsigned shards)
{
    ap__lock_fork_window_open();
    for (unsigned number = 0; number < shards; number++) {
        ap__lock_take(&shard_at(number)->lock);
    }
    for (unsigned number = 0; number < 2 * shards; number++) {
        cr_assert_eq(claim_span(number), SLOTS);
    }
    cr_assert_eq(ap__central_shards(CLASS), shards);
    for (unsigned number = 0; number < shards; number++) {
        cr_assert_eq(shard_at(number)->lock.recursion, 0);
        cr_assert(ap__lock_is_mine(&shard_at(number)->lock));
        ap__lock_release(&shard_at(number)->lock);
    }
    ap__lock_fork_window_close();
    heap_check();
}

Test(shards, there_are_no_more_in_a_fork_window)
{
    static void *blocks[BLOCKS_MAX];
    init(8);
    ap__central_share();
    unsigned count = (SPANS - 1) * SLOTS;
    cr_assert_eq(take(CLASS, blocks, count), count);
    expect_not_in_fork_window(1);
    cr_assert_eq(claim_span(0), SLOTS);
    cr_assert_eq(ap__central_shards(CLASS), 2);
    while (stats(CLASS).spans < 2 * SPANS - 1) {
        cr_assert_eq(claim_span(1), SLOTS);
    }
    expect_not_in_fork_window(2);
    cr_assert_eq(claim_span(1), SLOTS);
    cr_assert_eq(ap__central_shards(CLASS), 4);
}

Test(shards, a_threads_number_says_which_is_its_own)
{
    static void *blocks[BLOCKS_MAX];
    init(8);
    ap__central_share();
    for (unsigned shards = 1; shards <= 8; shards *= 2) {
        cr_assert_eq(ap__central_shards(CLASS), shards);
        for (unsigned number = 0; number < 20; number++) {
            ap__central_set_thread(number);
            cr_assert_eq(ap__shard_mine(CLASS), shard_at(number % shards));
            cr_assert_eq(ap__shard_mine(CLASS + 1), ap__shard_at(0, CLASS + 1));
        }
        ap__central_set_thread(0);
        while (ap__central_shards(CLASS) == shards && shards < 8) {
            cr_assert_eq(take(CLASS, blocks, SLOTS), SLOTS);
        }
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
    ap__central_set_thread(1);
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
    cr_assert_eq(shard_at(0)->lists.members, BLOCKS_MAX / SLOTS);
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
    expect_steps(CLASS, 3, 40);
}
