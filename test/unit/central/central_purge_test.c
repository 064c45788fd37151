/* SPDX-License-Identifier: MIT */
/*
 * central_purge_test.c: the free pages inside partly used spans go back to the kernel.
 * Goal: all of them and no others, once, in every shard, of the emptiest spans first; not those of spans that are too
 * young; what is being purged is left alone meanwhile; a refusal loses nothing, and ends the purge. Method: direct
 * calls on a fresh heap, of a class that is not divided and of one that is; a look at the moment of the system call.
 */
#include "central/central_free_list.h"

#include <criterion/criterion.h>
#include <string.h>

#include "spread_class.h"
#include "support/heap_check.h"
#include "support/os_faults.h"

enum {
    CLASS_64 = 4,
    SLOTS_64 = 1024,
    PAGE = 4096,
    PAGES_FREE = SLOTS / 2 - 1, /* where one block of a span is live */
    FEW = 5,                    /* spans */
    AWAY_AT_ONCE = 64,
    MANY = AWAY_AT_ONCE + FEW
};

#define FREE_BYTES ((size_t)PAGES_FREE * PAGE)

/* ------------------------------------------------------------ a class that is not divided */

static size_t purge_any_age(unsigned size_class)
{
    bool pending = false;
    return ap__central_purge(size_class, 0, 0, &pending);
}

Test(central_purge, a_purge_takes_the_free_pages_between_live_blocks)
{
    static void *blocks[4 * SLOTS_64];
    enum { PER_PAGE = PAGE / 64, LIVE = 3 * PER_PAGE };
    init(1);
    cr_assert_eq(ap__size_class[CLASS_64].size, 64);
    cr_assert_eq(ap__size_class[CLASS_64].slots, SLOTS_64);
    cr_assert_eq(take(CLASS_64, blocks, 4 * SLOTS_64), 4 * SLOTS_64);
    for (unsigned i = 0; i < 4 * SLOTS_64; i++) {
        memset(blocks[i], 7, 64);
    }
    for (unsigned i = 0; i < 4 * SLOTS_64; i++) {
        if (i % LIVE != 0) {
            ap__central_give(CLASS_64, &blocks[i], 1, "free");
        }
    }
    size_t live = (4 * SLOTS_64 + LIVE - 1) / LIVE; /* each on a page of its own */
    os_faults_fail_always(OS_FAULTS_MADVISE);
    cr_assert_eq(purge_any_age(CLASS_64), 0, "refused: nothing has been given back");
    os_faults_reset();
    cr_assert_eq(purge_any_age(CLASS_64), 4 * AP_GRANULE - live * PAGE);
    cr_assert_eq(purge_any_age(CLASS_64), 0, "nothing has come back since");
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), live, "a run between two live blocks each");
    for (unsigned i = 0; i < 4 * SLOTS_64; i += LIVE) {
        cr_assert_eq(((char *)blocks[i])[63], 7, "live blocks keep their contents");
    }
    cr_assert_eq(stats(CLASS_64).claimed, live);
    cr_assert_eq(stats(CLASS_64).spans, 4);
    /* One more page is free now: the run around it goes again. */
    ap__central_give(CLASS_64, &blocks[LIVE], 1, "free");
    cr_assert_geq(purge_any_age(CLASS_64), 5 * PAGE);
    heap_check();
}

/* ------------------------------------------------------------ one that is */

static size_t purge(unsigned age, bool *pending)
{
    *pending = false;
    return ap__central_purge(CLASS, age, age, pending);
}

/* Writes to all of them, and leaves one block of each span. */
static void thin_out(void **blocks, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        memset(blocks[i], 7, SIZE);
    }
    for (unsigned i = 0; i < count; i += SLOTS) {
        give(blocks + i + 1, SLOTS - 1);
    }
}

Test(central_purge, a_purge_comes_by_in_all)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    bool pending;
    spread_to_both(blocks);
    thin_out(blocks, BLOCKS + MORE * SLOTS);
    cr_assert_eq(purge(0, &pending), (size_t)(SPANS + MORE) * PAGES_FREE * PAGE);
    cr_assert(!pending);
    cr_assert_eq(purge(0, &pending), 0, "nothing has come back since");
    for (unsigned i = 0; i < BLOCKS + MORE * SLOTS; i += SLOTS) {
        cr_assert_eq(named_by(blocks[i]), i < BLOCKS ? 0 : 1);
        cr_assert_eq(((char *)blocks[i])[SIZE - 1], 7, "live blocks keep their contents");
    }
    expect_claimed(SPANS, MORE);
    heap_check();
}

Test(central_purge, a_purge_waits_for_young_spans_of_any)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    bool pending;
    spread_to_both(blocks);
    thin_out(blocks, BLOCKS + MORE * SLOTS);
    for (unsigned young = 0; young < 2; young++) {
        ap__central_set_epoch(10 + 10 * young);
        ap__central_set_thread(young);
        void *block = take_one();
        give(&block, 1);
        size_t others = young == 0 ? SPANS + MORE - 1 : 0; /* the second time: purged already */
        cr_assert_eq(purge(5, &pending), others * PAGES_FREE * PAGE);
        cr_assert(pending);
        ap__central_set_epoch(15 + 10 * young);
        cr_assert_geq(purge(5, &pending), PAGE);
        cr_assert(!pending);
    }
    heap_check();
}

/* ------------------------------------------------------------ ages, and many spans */

static void *many[MANY * SLOTS];

/* Spans of one shard, with a live block each. */
static void make_thin(unsigned spans)
{
    init(1);
    cr_assert_eq(take(CLASS, many, spans * SLOTS), spans * SLOTS);
    thin_out(many, spans * SLOTS);
    cr_assert_eq(stats(CLASS).spans, spans);
}

Test(central_purge, epochs_wrap)
{
    bool pending;
    ap__central_set_epoch(254);
    make_thin(1);
    ap__central_set_epoch(258);
    cr_assert_eq(purge(5, &pending), 0);
    cr_assert(pending);
    ap__central_set_epoch(259);
    cr_assert_eq(purge(5, &pending), FREE_BYTES);
}

Test(central_purge, not_all_spans_go_at_one_moment)
{
    unsigned moments = 0;
    size_t purged = 0;
    ap__central_set_epoch(0);
    make_thin(FEW);
    for (unsigned epoch = 0; epoch <= 9; epoch++) {
        bool pending = false;
        ap__central_set_epoch(epoch);
        size_t bytes = ap__central_purge(CLASS, 5, 9, &pending);
        cr_assert(epoch >= 5 || bytes == 0);
        moments += bytes != 0;
        purged += bytes;
        cr_assert_eq(pending, purged != FEW * FREE_BYTES);
    }
    cr_assert_eq(moments, FEW, "their records follow each other");
    cr_assert_eq(purged, FEW * FREE_BYTES, "by then all");
}

Test(central_purge, what_another_class_has_to_purge_later_is_not_forgotten)
{
    bool pending = true;
    make_thin(1);
    cr_assert_eq(ap__central_purge(CLASS, 0, 0, &pending), FREE_BYTES);
    cr_assert(pending);
}

static unsigned looks;

static bool first_look(void)
{
    return looks++ == 0;
}

static void look_at_many(void)
{
    unsigned away = 0;
    if (first_look()) {
        for (unsigned i = 0; i < MANY; i++) {
            away += span_of(many[i * SLOTS])->slots.bucket == AP_SPAN_AWAY;
        }
        cr_assert_eq(away, AWAY_AT_ONCE);
    }
}

Test(central_purge, more_spans_than_may_be_away_go_one_after_the_other)
{
    bool pending;
    make_thin(MANY);
    os_faults_watch(OS_FAULTS_MADVISE, look_at_many);
    cr_assert_eq(purge(0, &pending), MANY * FREE_BYTES);
    os_faults_reset();
    cr_assert_eq(looks, MANY);
    cr_assert_eq(purge(0, &pending), 0);
    heap_check();
}

/* One span a bucket, the fullest first: of each, as many blocks at its end have come back. */
static const unsigned free_of_bucket[AP_SPAN_BUCKETS] = {2, 8, 12, 18, 24, 30};

static void make_one_a_bucket(void)
{
    init(1);
    cr_assert_eq(take(CLASS, many, AP_SPAN_BUCKETS * SLOTS), AP_SPAN_BUCKETS * SLOTS);
    for (unsigned i = 0; i < AP_SPAN_BUCKETS; i++) {
        give(many + (i + 1) * SLOTS - free_of_bucket[i], free_of_bucket[i]);
        cr_assert_eq(span_of(many[i * SLOTS])->slots.bucket, i);
    }
}

Test(central_purge, spans_go_however_full_they_are)
{
    bool pending;
    size_t free_blocks = 0;
    make_one_a_bucket();
    for (unsigned i = 0; i < AP_SPAN_BUCKETS; i++) {
        free_blocks += free_of_bucket[i];
    }
    cr_assert_eq(purge(0, &pending), free_blocks * SIZE);
    heap_check();
}

/* ------------------------------------------------------------ refused */

Test(central_purge, the_emptiest_spans_go_first)
{
    bool pending;
    size_t others = 0;
    make_one_a_bucket();
    for (unsigned i = 0; i + 1 < AP_SPAN_BUCKETS; i++) {
        others += (size_t)free_of_bucket[i] * SIZE;
    }
    os_faults_fail_nth(OS_FAULTS_MADVISE, 1);
    cr_assert_eq(purge(0, &pending), others, "the first is refused");
    os_faults_reset();
}

Test(central_purge, after_a_refusal_no_more_spans_are_tried)
{
    bool pending;
    make_thin(MANY);
    os_faults_fail_always(OS_FAULTS_MADVISE);
    cr_assert_eq(purge(0, &pending), 0);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), AWAY_AT_ONCE, "those that were away");
    os_faults_reset();
    heap_check();
    cr_assert_eq(purge(0, &pending), MANY * FREE_BYTES);
}

Test(central_purge, after_a_refusal_the_other_shards_are_left_alone)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    bool pending;
    spread_to_both(blocks);
    thin_out(blocks, BLOCKS + MORE * SLOTS);
    os_faults_fail_always(OS_FAULTS_MADVISE);
    cr_assert_eq(purge(0, &pending), 0);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), SPANS, "those of the first");
    os_faults_reset();
    heap_check();
}

Test(central_purge, after_a_refusal_young_spans_are_no_reason_to_come_again)
{
    bool pending;
    ap__central_set_epoch(100);
    make_thin(2);
    ap__central_set_epoch(105);
    void *block = take_one();
    give(&block, 1);
    os_faults_fail_always(OS_FAULTS_MADVISE);
    cr_assert_eq(purge(5, &pending), 0);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 1, "the other is young");
    cr_assert(!pending);
    os_faults_reset();
    cr_assert_eq(purge(5, &pending), FREE_BYTES);
    cr_assert(pending);
}

Test(central_purge, one_refusal_of_many_does_not_hide_what_was_given_back)
{
    bool pending;
    make_thin(FEW);
    os_faults_fail_nth(OS_FAULTS_MADVISE, 3);
    cr_assert_eq(purge(0, &pending), (FEW - 1) * FREE_BYTES);
    os_faults_reset();
    cr_assert_geq(purge(0, &pending), FREE_BYTES, "its span is tried again");
    cr_assert_eq(purge(0, &pending), 0);
}

/* ------------------------------------------------------------ while spans are away */

static void give_one_more(void)
{
    if (first_look()) {
        give(&many[SLOTS / 2], 1);
        cr_assert_eq(span_of(many[0])->slots.bucket, AP_SPAN_AWAY);
    }
}

Test(central_purge, what_comes_back_while_its_span_is_away_goes_next_time)
{
    bool pending;
    init(1);
    cr_assert_eq(take(CLASS, many, SLOTS), SLOTS);
    give(many + 1, SLOTS / 2 - 1);
    give(many + SLOTS / 2 + 1, SLOTS / 2 - 1);
    os_faults_watch(OS_FAULTS_MADVISE, give_one_more);
    cr_assert_eq(purge(0, &pending), FREE_BYTES - PAGE);
    os_faults_reset();
    cr_assert_eq(purge(0, &pending), FREE_BYTES);
    heap_check();
}

static void *away_block;   /* in a span of the first shard */
static unsigned takeable;  /* free slots of the second */
static unsigned got, seen; /* by the look below */

/* While spans of the first shard are away, and memory is refused. */
static void look_at_purge(void)
{
    void *blocks[MORE * SLOTS];
    if (seen++ != 0) {
        return;
    }
    cr_assert_eq(span_of(away_block)->slots.bucket, AP_SPAN_AWAY);
    give(&away_block, 1);
    got = ap__central_take(CLASS, blocks, MORE * SLOTS);
    for (unsigned i = 0; i < got; i++) {
        cr_assert_neq(span_of(blocks[i])->slots.bucket, AP_SPAN_AWAY);
    }
    give(blocks, got);
}

static void expect_away_left_alone(unsigned number)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    bool pending;
    spread_to_both(blocks);
    thin_out(blocks, BLOCKS + MORE * SLOTS);
    ap__central_set_thread(number);
    away_block = blocks[3 * SLOTS];
    struct ap__span *drained = span_of(away_block);
    takeable = MORE * (SLOTS - 1);
    refuse_memory(true);
    os_faults_watch(OS_FAULTS_MADVISE, look_at_purge);
    (void)purge(0, &pending);
    os_faults_reset();
    refuse_memory(false);
    cr_assert_geq(seen, SPANS);
    cr_assert_eq(got, takeable);
    cr_assert_eq(atomic_load(&drained->shard), 0, "drained meanwhile, it goes afterwards");
    cr_assert_eq(stats(CLASS).spans, SPANS - 1 + MORE);
    heap_check();
}

Test(central_purge, spans_that_are_being_purged_are_not_claimed_from)
{
    expect_away_left_alone(0);
}

Test(central_purge, spans_that_are_being_purged_are_not_taken_over)
{
    expect_away_left_alone(1);
}
