/* SPDX-License-Identifier: MIT */
/*
 * fold_test.c: the second NULL of a free list.
 * Goal: a fold hides the oldest blocks, what is taken are those at the bottom, and an unfolded list holds the rest
 * without a gap, the newest as they were. Method: a list of made-up blocks, word by word.
 */
#include "cache/fold.h"

#include <criterion/criterion.h>

enum { COUNT = 10, HIDDEN = 6, EPOCH = 7 };

static ap__slot words[COUNT + 1];
static struct ap__free_list list;
static struct ap__free_list_info info;

/* A block by its number; 0: NULL. */
static void *block(unsigned number)
{
    return (void *)((uintptr_t)number * 64);
}

/* Block i in word i, HIDDEN of them under a fold. */
static void set_up(void)
{
    for (unsigned i = 0; i <= COUNT; i++) {
        ap__slot_store(&words[i], block(i));
    }
    atomic_store(&info.bottom, words);
    ap__free_list_set_top(&list, words + COUNT);
    ap__fold(&info, HIDDEN, EPOCH);
}

TestSuite(fold, .init = set_up);

static void expect_words(const unsigned *numbers, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        cr_assert_eq(ap__slot_load(&words[i]), block(numbers[i]), "word %u", i);
    }
}

/* A list without a fold, from its bottom on. */
static void expect_whole(const unsigned *numbers, unsigned count)
{
    expect_words(numbers, count);
    cr_assert_eq(ap__free_list_top(&list), words + count - 1);
    cr_assert_eq(info.hidden + info.unused + ap__fold_gone(&info), 0);
}

static void expect_taken(unsigned wanted, const unsigned *numbers, unsigned count)
{
    void *taken[COUNT];
    cr_assert_eq(ap__fold_take(&info, taken, wanted), count);
    for (unsigned i = 0; i < count; i++) {
        cr_assert_eq(taken[i], block(numbers[i]));
    }
}

Test(fold, the_oldest_blocks_are_hidden)
{
    expect_words((unsigned[]){6, 1, 2, 3, 4, 5, 0, 7, 8, 9, 10}, COUNT + 1);
    cr_assert_eq(info.hidden, HIDDEN);
    cr_assert_eq(info.epoch, EPOCH);
    cr_assert_eq(ap__free_list_top(&list), words + COUNT);
}

Test(fold, a_list_is_whole_again_without_it)
{
    info.unused = 3;
    ap__unfold(&list, &info);
    expect_whole((unsigned[]){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, COUNT + 1);
    ap__unfold(&list, &info);
    expect_whole((unsigned[]){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, COUNT + 1);
}

Test(fold, what_is_taken_comes_from_the_bottom)
{
    expect_taken(2, (unsigned[]){6, 1}, 2);
    expect_words((unsigned[]){0, 0, 2, 3, 4, 5, 0, 7, 8, 9, 10}, COUNT + 1);
    expect_taken(COUNT, (unsigned[]){2, 3, 4, 5}, 4);
    expect_taken(COUNT, NULL, 0);
    cr_assert_eq(ap__fold_gone(&info), HIDDEN);
    expect_words((unsigned[]){0, 0, 0, 0, 0, 0, 0, 7, 8, 9, 10}, COUNT + 1);
}

Test(fold, what_has_been_taken_leaves_no_gap)
{
    expect_taken(2, (unsigned[]){6, 1}, 2);
    info.unused = 3;
    ap__unfold(&list, &info);
    expect_whole((unsigned[]){0, 3, 4, 5, 2, 7, 8, 9, 10}, COUNT - 1);
}

Test(fold, all_that_was_hidden_may_have_been_taken)
{
    expect_taken(HIDDEN, (unsigned[]){6, 1, 2, 3, 4, 5}, HIDDEN);
    ap__unfold(&list, &info);
    expect_whole((unsigned[]){0, 7, 8, 9, 10}, COUNT + 1 - HIDDEN);
}

Test(fold, all_blocks_may_be_hidden_and_taken)
{
    ap__unfold(&list, &info);
    ap__fold(&info, COUNT, EPOCH);
    cr_assert_null(ap__slot_load(ap__free_list_top(&list)), "a pop finds nothing");
    expect_taken(COUNT - 1, (unsigned[]){10, 1, 2, 3, 4, 5, 6, 7, 8}, COUNT - 1);
    ap__unfold(&list, &info);
    expect_whole((unsigned[]){0, 9}, 2);
}

Test(fold, of_the_unused_those_count_that_are_still_there)
{
    static const unsigned left[] = {4, 3, 2, 1, 0, 0, 0};
    info.unused = 4;
    for (unsigned taken = 0; taken < HIDDEN; taken++) {
        void *one;
        cr_assert_eq(ap__fold_unused(&info), left[taken]);
        cr_assert_eq(ap__fold_take(&info, &one, 1), 1);
    }
    cr_assert_eq(ap__fold_unused(&info), left[HIDDEN]);
}
