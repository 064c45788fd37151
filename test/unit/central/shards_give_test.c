/* SPDX-License-Identifier: MIT */
/*
 * shards_give_test.c: blocks come back to a class that is divided.
 * Goal: each goes to the shard that its span names, whoever gives it, and drained spans go from there; misuse is told
 * apart in every shard. Method: direct calls on a fresh heap by one thread, which changes its number;
 * fatal ones in a child.
 */
#include "central/central_free_list.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "spread_class.h"
#include "support/child.h"
#include "support/heap_check.h"

Test(shards_give, blocks_go_back_to_the_shard_that_their_span_names)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    spread_to_both(blocks);
    for (unsigned number = 0; number < 2; number++) {
        ap__central_set_thread(number);
        void *mixed[SLOTS];
        for (unsigned i = 0; i < SLOTS; i++) { /* of one and of the other in turn, then in pairs */
            unsigned of_second = (i < SLOTS / 2 ? i : i / 2) % 2;
            unsigned span = of_second != 0 ? SPANS + number : 2 + number;
            mixed[i] = blocks[span * SLOTS + i];
        }
        give(mixed, SLOTS);
        for (unsigned i = 0; i < SLOTS; i++) {
            cr_assert(ap__central_is_free(CLASS, mixed[i]));
        }
        size_t given = (number + 1) * SLOTS / 2;
        expect_claimed(BLOCKS - given, MORE * SLOTS - given);
        heap_check();
    }
    cr_assert_eq(stats(CLASS).spans, SPANS + MORE);
    cr_assert_eq(stats(CLASS).slots, (SPANS + MORE) * SLOTS);
    cr_assert_eq(shard_at(0)->lists.members, SPANS);
    cr_assert_eq(shard_at(1)->lists.members, MORE);
    cr_assert(!ap__central_is_free(CLASS, blocks[SLOTS]));
}

Test(shards_give, drained_spans_of_any_go_back_to_the_page_heap_and_name_none)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    spread_to_both(blocks);
    unsigned in_second = BLOCKS + SLOTS;
    for (unsigned number = 0; number < 2; number++) {
        ap__central_set_thread(number);
        unsigned ours[] = {number * SLOTS, in_second + number * SLOTS};
        for (unsigned i = 0; i < 2; i++) {
            struct ap__span *span = span_of(blocks[ours[i]]);
            give(blocks + ours[i], SLOTS - 1);
            cr_assert_eq(atomic_load(&span->shard), ap__shard_name(i, CLASS));
            give(blocks + ours[i] + SLOTS - 1, 1);
            cr_assert_eq(atomic_load(&span->shard), 0);
            cr_assert_neq(span->state, AP__SPAN_SMALL);
            cr_assert(!ap__central_is_slot(CLASS, blocks[ours[i]]));
            cr_assert(!ap__central_is_free(CLASS, blocks[ours[i]]));
        }
        cr_assert_eq(heap_check().small_spans, SPANS + MORE - 2 * (number + 1));
    }
    expect_claimed(BLOCKS - 2 * SLOTS, (MORE - 2) * SLOTS);
}

/* ------------------------------------------------------------ misuse */

struct misuse {
    void *pointers[SLOTS];
    unsigned count;
};

/* Fatal findings are reported without a lock: this thread could allocate here. */
static void on_abort(int signal)
{
    (void)signal;
    _exit(ap__lock_is_at_work() ? 3 : 4);
}

static void give_wrong(void *misuse)
{
    const struct misuse *wrong = misuse;
    (void)signal(SIGABRT, on_abort);
    give(wrong->pointers, wrong->count);
}

static void expect_report_of(struct misuse wrong, const char *cause)
{
    char expected[200];
    struct child_result result;
    snprintf(expected, sizeof expected, "apmalloc: free(%p): %s\n", wrong.pointers[wrong.count - 1],
             cause);
    child_run(&result, give_wrong, &wrong);
    cr_assert_str_eq(result.text, expected);
    cr_assert_eq(result.status, 4, "of %u blocks: %d", wrong.count, result.status);
}

/* Alone, and behind blocks of either shard. */
static void expect_report(void *p, const char *cause, void *const *before)
{
    struct misuse wrong = {.count = 0};
    for (unsigned count = 0; count <= 4; count++) {
        wrong.pointers[count] = p;
        wrong.count = count + 1;
        expect_report_of(wrong, cause);
        wrong.pointers[count] = before[count % 4];
    }
}

Test(shards_give, misuse_is_told_apart_in_each)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    spread_to_both(blocks);
    unsigned in_second = BLOCKS + SLOTS;
    unsigned firsts[] = {2 * SLOTS, in_second};
    void *before[] = {blocks[7 * SLOTS], blocks[BLOCKS], blocks[BLOCKS + 2], blocks[7 * SLOTS + 7]};
    void *gone = blocks[BLOCKS + 2 * SLOTS];
    void *other;
    cr_assert_eq(ap__central_take(CLASS - 1, &other, 1), 1);
    give(blocks + BLOCKS + 2 * SLOTS, SLOTS);
    for (unsigned i = 0; i < 2; i++) {
        void **ours = blocks + firsts[i];
        give(ours + 5, 1);
        expect_report(ours[5], "double free", before);
        expect_report((char *)ours[6] + 16, "pointer into the middle of a block", before);
        expect_report((char *)ours[5] + SIZE / 2, "pointer into the middle of a block", before);
        cr_assert(ap__central_is_slot(CLASS, ours[6]) && !ap__central_is_free(CLASS, ours[6]));
    }
    expect_report(gone, "double free, or a pointer that was never allocated", before);
    expect_report(other, "double free, or a pointer that was never allocated", before);
    expect_report_of((struct misuse){{before[0], before[1], before[0]}, 3}, "double free");
    heap_check();
}

/* As a span is seen whose block was freed twice: its record has just become that of another class' span, or of none. */
Test(shards_give, a_record_of_another_class_is_no_span_of_this_one)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    spread_to_both(blocks);
    void *before[] = {blocks[7 * SLOTS], blocks[BLOCKS], blocks[BLOCKS + 2], blocks[7 * SLOTS + 7]};
    void *p = blocks[2 * SLOTS];
    const uint16_t names[] = {0, ap__shard_name(0, CLASS - 1), ap__shard_name(1, CLASS + 1),
                              ap__shard_name(AP_CENTRAL_SHARDS_MAX - 1, AP_CLASS_COUNT - 1)};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        atomic_store(&span_of(p)->shard, names[i]);
        cr_assert(!ap__central_is_free(CLASS, p));
        expect_report(p, "double free, or a pointer that was never allocated", before);
    }
    atomic_store(&span_of(p)->shard, ap__shard_name(0, CLASS));
    give(&p, 1);
    cr_assert(ap__central_is_free(CLASS, p));
    heap_check();
}
