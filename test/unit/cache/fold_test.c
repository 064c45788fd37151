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
    info.room = COUNT;
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

/* ------------------------------------------------------------ raising */

enum { LATER = EPOCH + 5 };

static struct ap__fold_raise raise_begun(void)
{
    struct ap__fold_raise begun;
    ap__fold_lay(&list, &info, &begun);
    return begun;
}

static bool settle(struct ap__fold_raise *begun)
{
    ap__fold_see_top(&list, &info, begun);
    bool raised = ap__fold_raise(&info, begun, LATER);
    if (!raised) {
        ap__fold_give_up(&info, begun);
    }
    return raised;
}

Test(fold, raised_it_hides_all)
{
    struct ap__fold_raise begun = raise_begun();
    cr_assert_eq(begun.block, block(10));
    cr_assert(settle(&begun));
    expect_words((unsigned[]){6, 1, 2, 3, 4, 5, 10, 7, 8, 9, 0}, COUNT + 1);
    cr_assert_eq(info.hidden, COUNT);
    cr_assert_eq(info.epoch, EPOCH, "blocks that lie there for longer are not kept for it");
    cr_assert_eq(ap__fold_in_sight(&list, &info), 0);
    cr_assert_null(ap__free_list_pop(&list));
    cr_assert_eq(ap__free_list_top(&list), words + COUNT);
    expect_taken(COUNT, (unsigned[]){6, 1, 2, 3, 4, 5, 10, 7, 8, 9}, COUNT);
    ap__unfold(&list, &info);
    expect_whole((unsigned[]){0}, 1);
}

Test(fold, raised_where_all_below_is_gone_it_is_of_the_new_epoch)
{
    expect_taken(COUNT, (unsigned[]){6, 1, 2, 3, 4, 5}, HIDDEN);
    struct ap__fold_raise begun = raise_begun();
    cr_assert(settle(&begun));
    cr_assert_eq(info.epoch, LATER);
    expect_taken(COUNT, (unsigned[]){10, 7, 8, 9}, COUNT - HIDDEN);
}

Test(fold, raised_once_more_it_hides_what_came_on_top)
{
    struct ap__fold_raise begun = raise_begun();
    cr_assert(settle(&begun));
    expect_taken(COUNT - 1, (unsigned[]){6, 1, 2, 3, 4, 5, 10, 7, 8}, COUNT - 1);
    ap__free_list_set_top(&list, words + COUNT - 1); /* as if there were room above */
    ap__fold_set_hidden(&info, COUNT - 1);
    ap__slot_store(&words[COUNT - 1], NULL);
    ap__slot_store(&words[COUNT], block(11));
    ap__free_list_set_top(&list, words + COUNT);
    begun = raise_begun();
    cr_assert(settle(&begun));
    expect_taken(COUNT, (unsigned[]){11}, 1);
}

Test(fold, without_blocks_in_sight_nothing_is_laid)
{
    ap__free_list_set_top(&list, words + HIDDEN);
    cr_assert_null(raise_begun().block);
    atomic_store(&info.bottom, NULL);
    cr_assert_null(raise_begun().block);
}

Test(fold, an_owner_who_has_the_block_keeps_it)
{
    struct ap__fold_raise begun = raise_begun();
    ap__free_list_set_top(&list, words + COUNT - 1);
    cr_assert_not(settle(&begun));
    cr_assert_eq(info.hidden, HIDDEN);
    expect_words((unsigned[]){6, 1, 2, 3, 4, 5, 0, 7, 8, 9, 10}, COUNT + 1);
}

Test(fold, what_the_owner_has_put_there_meanwhile_stays)
{
    struct ap__fold_raise begun = raise_begun();
    ap__slot_store(&words[COUNT], block(12));
    cr_assert_not(settle(&begun));
    expect_words((unsigned[]){6, 1, 2, 3, 4, 5, 0, 7, 8, 9, 12}, COUNT + 1);
    cr_assert_eq(ap__free_list_pop(&list), block(12));
    cr_assert_eq(ap__free_list_pop(&list), block(9));
}

Test(fold, an_owner_who_meets_the_null_finds_the_block_again)
{
    struct ap__fold_raise begun = raise_begun();
    cr_assert_null(ap__free_list_pop(&list));
    ap__free_list_set_top(&list, words + COUNT - 1); /* between the two looks of a pop */
    ap__fold_see_top(&list, &info, &begun);
    ap__free_list_set_top(&list, words + COUNT);
    cr_assert_not(ap__fold_raise(&info, &begun, LATER));
    ap__fold_give_up(&info, &begun);
    cr_assert_eq(ap__free_list_pop(&list), block(10));
}

Test(fold, a_list_that_was_damaged_is_left_alone)
{
    info.room = COUNT;
    ap__free_list_set_top(&list, words + COUNT + 1);
    cr_assert_null(raise_begun().block);
}
