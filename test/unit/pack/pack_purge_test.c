/* SPDX-License-Identifier: MIT */
/*
 * pack_purge_test.c: the free pages inside packed spans go back to the kernel.
 * Goal: all of them and no others, once, in every pool; not those of spans that are too young; what is being purged is
 * left alone meanwhile; a refusal loses nothing. Method: direct calls on a fresh heap; a look at the moment of the
 * system call.
 */
#include <string.h>
#include <sys/mman.h>

#include "central/central_free_list.h"
#include "heap/huge_pages.h"
#include "packed.h"
#include "support/heap_check.h"
#include "support/os_faults.h"

enum {
    SPANS = 5,
    RUNS_AT_ONCE = 32,
    AWAY_AT_ONCE = 64,
    TWO_PAGES = 2 * PAGE,
    PAIRS = SPAN_BYTES / TWO_PAGES, /* of the blocks of thin_out() */
    PAGES_A_BLOCK = LONGEST / PAGE
};

static char *blocks[(AWAY_AT_ONCE + SPANS) * IN_SPAN];
static char *small[PAIRS];
static bool pending;

static size_t purge(unsigned age_least, unsigned age_most)
{
    pending = false;
    return ap__pack_purge(age_least, age_most, &pending);
}

/* Spans of which every second block has come back; the first is live. */
static void thin_out(unsigned spans, unsigned thread)
{
    fill_spans(blocks, spans, thread);
    for (unsigned i = 0; i < spans * IN_SPAN; i++) {
        memset(blocks[i], 7, LONGEST);
    }
    for (unsigned i = 1; i < spans * IN_SPAN; i += 2) {
        give(blocks[i]);
    }
}

#define SPAN_FREE_BYTES ((size_t)IN_SPAN / 2 * LONGEST)

/* A span of blocks of two pages, every second of which has come back: more runs than go at a time. */
static void make_many_runs(void)
{
    for (unsigned i = 0; i < PAIRS; i++) {
        small[i] = take(TWO_PAGES, 0);
        memset(small[i], 7, TWO_PAGES);
        cr_assert_eq(span_of(small[i]), span_of(small[0]));
    }
    for (unsigned i = 1; i < PAIRS; i += 2) {
        give(small[i]);
    }
}

static size_t resident_pages(const char *start, size_t bytes)
{
    unsigned char states[SPAN_BYTES / PAGE];
    size_t count = 0;
    cr_assert_eq(mincore((void *)start, bytes, states), 0);
    for (size_t i = 0; i < bytes / PAGE; i++) {
        count += states[i] & 1;
    }
    return count;
}

Test(pack_purge, a_purge_takes_the_free_pages_between_live_blocks)
{
    init();
    thin_out(SPANS, 0);
    os_faults_reset();
    cr_assert_eq(purge(0, 0), SPANS * SPAN_FREE_BYTES);
    cr_assert(!pending);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), SPANS * IN_SPAN / 2, "a run for each");
    for (unsigned i = 0; i < SPANS * IN_SPAN; i++) {
        cr_assert_eq(resident_pages(blocks[i], LONGEST), i % 2 == 0 ? PAGES_A_BLOCK : 0);
        cr_assert(i % 2 != 0 || (blocks[i][0] == 7 && blocks[i][LONGEST - 1] == 7));
    }
    cr_assert_eq(purge(0, 0), 0, "nothing has come back since");
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), SPANS * IN_SPAN / 2);
    heap_check();
}

Test(pack_purge, a_purge_comes_by_in_all_pools)
{
    init();
    for (unsigned number = 0; number < AP_PACK_POOLS; number++) {
        char *kept = take(LONGEST, number);
        char *given = take(LONGEST, number);
        memset(given, 7, LONGEST);
        give(given);
        cr_assert_eq(pool_named_by(kept), number);
    }
    cr_assert_eq(purge(0, 0), AP_PACK_POOLS * (SPAN_BYTES - (size_t)LONGEST));
    cr_assert_eq(purge(0, 0), 0);
    heap_check();
}

Test(pack_purge, after_a_block_has_come_back_its_run_goes_again)
{
    init();
    thin_out(SPANS, 0);
    (void)purge(0, 0);
    give(blocks[2]);
    cr_assert(!span_of(blocks[0])->packed.is_purged);
    cr_assert_eq(purge(0, 0), SPAN_FREE_BYTES + LONGEST);
    cr_assert(span_of(blocks[0])->packed.is_purged);
    cr_assert_eq(purge(0, 0), 0);
    heap_check();
}

Test(pack_purge, after_a_block_has_become_shorter_its_end_goes)
{
    init();
    thin_out(1, 0);
    (void)purge(0, 0);
    cr_assert(ap__pack_resize(span_of(blocks[2]), blocks[2], LONGEST, 5000));
    cr_assert_eq(purge(0, 0), SPAN_FREE_BYTES + LONGEST - TWO_PAGES, "but for its last page");
    cr_assert_eq(blocks[2][4999], 7);
    cr_assert_eq(resident_pages(blocks[2], LONGEST), 2);
}

Test(pack_purge, only_whole_pages_go)
{
    init();
    char *first = take(5000, 0);
    char *gap = take(9000, 0); /* 5120 to 14208: the page from 8192 on is whole */
    char *last = take(SPAN_BYTES / 32, 0);
    memset(first, 7, 5000);
    memset(gap, 8, 9000);
    memset(last, 9, SPAN_BYTES / 32);
    cr_assert_eq(gap - first, 5120);
    cr_assert_eq(last - first, 14208);
    give(gap);
    size_t behind = SPAN_BYTES - ap__align_up(14208 + SPAN_BYTES / 32, PAGE);
    cr_assert_eq(purge(0, 0), PAGE + behind);
    cr_assert_eq(first[4999], 7);
    cr_assert_eq(last[0], 9);
    cr_assert_eq(last[SPAN_BYTES / 32 - 1], 9);
    cr_assert_eq(resident_pages(first, 16384), 3);
}

Test(pack_purge, where_no_page_is_whole_the_kernel_is_not_asked)
{
    init();
    (void)take(7000, 0);
    char *gap = take(2000, 0); /* 7040 to 9088: on two pages, each of which has others */
    char *last = take(LONGEST, 0);
    cr_assert_eq(last - (char *)span_of(gap)->start, 9088);
    give(gap);
    os_faults_reset();
    (void)purge(0, 0);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 1, "for what lies behind the last");
}

Test(pack_purge, full_spans_are_left_alone)
{
    init();
    fill_spans(blocks, 2, 0);
    os_faults_reset();
    cr_assert_eq(purge(0, 0), 0);
    cr_assert(!pending);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 0);
}

/* ------------------------------------------------------------ ages */

Test(pack_purge, young_spans_wait)
{
    init();
    ap__central_set_epoch(100);
    thin_out(SPANS, 0);
    for (unsigned age = 0; age < 5; age++) {
        ap__central_set_epoch(100 + age);
        cr_assert_eq(purge(5, 5), 0);
        cr_assert(pending);
    }
    ap__central_set_epoch(104);
    cr_assert_eq(take(LONGEST, 0), blocks[(SPANS - 1) * IN_SPAN + 1], "it becomes young again");
    ap__central_set_epoch(105);
    cr_assert_eq(purge(5, 5), (SPANS - 1) * SPAN_FREE_BYTES);
    cr_assert(pending);
    ap__central_set_epoch(109);
    cr_assert_eq(purge(5, 5), SPAN_FREE_BYTES - LONGEST);
    cr_assert(!pending);
    heap_check();
}

Test(pack_purge, a_block_that_grows_makes_its_span_young)
{
    init();
    ap__central_set_epoch(100);
    thin_out(1, 0);
    give(blocks[2]);
    char *p = take(2000, 0);
    ap__central_set_epoch(105);
    cr_assert(ap__pack_resize(span_of(p), p, usable(p), 3000));
    cr_assert_eq(purge(5, 5), 0);
    cr_assert(pending);
    cr_assert(ap__pack_resize(span_of(p), p, usable(p), 2000));
    ap__central_set_epoch(110);
    cr_assert_gt(purge(5, 5), 0);
}

Test(pack_purge, epochs_wrap)
{
    init();
    ap__central_set_epoch(254);
    thin_out(1, 0);
    ap__central_set_epoch(258);
    cr_assert_eq(purge(5, 5), 0);
    ap__central_set_epoch(259);
    cr_assert_eq(purge(5, 5), SPAN_FREE_BYTES);
}

Test(pack_purge, not_all_spans_go_at_one_moment)
{
    size_t purged = 0;
    unsigned moments = 0;
    init();
    ap__central_set_epoch(0);
    thin_out(SPANS, 0);
    for (unsigned epoch = 0; epoch <= 9; epoch++) {
        ap__central_set_epoch(epoch);
        size_t bytes = purge(5, 9);
        cr_assert(epoch >= 5 || bytes == 0);
        moments += bytes != 0;
        purged += bytes;
        cr_assert_eq(pending, purged != SPANS * SPAN_FREE_BYTES);
    }
    cr_assert_eq(moments, SPANS, "their records follow each other");
    cr_assert(!pending, "by then all");
}

/* ------------------------------------------------------------ much */

Test(pack_purge, a_span_may_have_more_runs_than_go_at_a_time)
{
    init();
    make_many_runs();
    cr_assert_gt(PAIRS / 2, 2 * RUNS_AT_ONCE - 1);
    os_faults_reset();
    cr_assert_eq(purge(0, 0), PAIRS / 2 * (size_t)TWO_PAGES);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), PAIRS / 2);
    for (unsigned i = 0; i < PAIRS; i++) {
        cr_assert_eq(resident_pages(small[i], TWO_PAGES), i % 2 == 0 ? 2 : 0);
    }
    cr_assert_eq(purge(0, 0), 0);
    heap_check();
}

static unsigned seen;

static bool first_look(void)
{
    return seen++ == 0;
}

static void look_at_many(void)
{
    unsigned away = 0;
    if (first_look()) {
        for (unsigned i = 0; i < AWAY_AT_ONCE + SPANS; i++) {
            away += span_of(blocks[i * IN_SPAN])->packed.bucket == AP_PACK_AWAY;
        }
        cr_assert_eq(away, AWAY_AT_ONCE);
    }
}

Test(pack_purge, more_spans_than_may_be_away_go_one_after_the_other)
{
    init();
    thin_out(AWAY_AT_ONCE + SPANS, 0);
    os_faults_watch(OS_FAULTS_MADVISE, look_at_many);
    cr_assert_eq(purge(0, 0), (AWAY_AT_ONCE + SPANS) * SPAN_FREE_BYTES);
    os_faults_reset();
    cr_assert(!pending);
    cr_assert_gt(seen, 1);
    cr_assert_eq(purge(0, 0), 0);
    heap_check();
}

Test(pack_purge, memory_that_was_given_back_is_not_to_become_huge_pages_again)
{
    static const size_t unit_bytes = (size_t)2 << 20;
    init();
    ap__huge_pages_init(AP__WHEN_AUTO, UINT64_MAX);
    fill_spans(blocks, SPANS, 0);
    uintptr_t unit = ap__align_up((uintptr_t)blocks[0], unit_bytes);
    size_t at = (unit - (uintptr_t)blocks[0]) / LONGEST;
    cr_assert_eq((uintptr_t)blocks[at], unit);
    ap__huge_pages_advise_chunk(unit, unit_bytes, true, (size_t)100 << 20);
    if (!ap__huge_pages_expected(unit)) {
        cr_skip_test("the system does not leave huge pages to programs");
    }
    give(blocks[at]);
    cr_assert_eq(purge(0, 0), LONGEST);
    cr_assert(!ap__huge_pages_expected(unit));
}

/* ------------------------------------------------------------ refused */

Test(pack_purge, what_the_kernel_refuses_is_tried_again_next_time)
{
    init();
    thin_out(SPANS, 0);
    os_faults_fail_always(OS_FAULTS_MADVISE);
    cr_assert_eq(purge(0, 0), 0);
    cr_assert(!pending, "later would not help");
    os_faults_reset();
    heap_check();
    give(take(LONGEST, 0));
    cr_assert_eq(stats().spans, SPANS, "they are on their lists");
    cr_assert_eq(purge(0, 0), SPANS * SPAN_FREE_BYTES);
}

Test(pack_purge, spans_with_the_longest_runs_go_first)
{
    init();
    fill_spans(blocks, 2, 0);
    cr_assert(ap__pack_resize(span_of(blocks[0]), blocks[0], LONGEST, LONGEST / 2));
    give(blocks[IN_SPAN]);
    os_faults_fail_nth(OS_FAULTS_MADVISE, 1);
    cr_assert_eq(purge(0, 0), LONGEST / 2, "that of a whole block is refused");
    os_faults_reset();
}

Test(pack_purge, after_a_refusal_the_other_pools_are_left_alone)
{
    init();
    for (unsigned number = 0; number < AP_PACK_POOLS; number++) {
        (void)take(LONGEST, number);
        give(take(LONGEST, number));
    }
    for (unsigned number = 0; number < AP_PACK_POOLS; number++) {
        struct ap__pack_lists *lists = &ap__pack_pools[number].lists;
        cr_assert(!lists->buckets[AP_PACK_BUCKETS - 1]->packed.is_purged);
    }
    os_faults_fail_always(OS_FAULTS_MADVISE);
    cr_assert_eq(purge(0, 0), 0);
    unsigned long calls = os_faults_count(OS_FAULTS_MADVISE);
    cr_assert(calls >= 1 && calls < AP_PACK_POOLS, "%lu", calls);
    os_faults_reset();
    cr_assert_gt(purge(0, 0), 0);
    heap_check();
}

Test(pack_purge, after_a_refusal_no_more_spans_are_tried)
{
    init();
    thin_out(AWAY_AT_ONCE + SPANS, 0);
    os_faults_fail_always(OS_FAULTS_MADVISE);
    cr_assert_eq(purge(0, 0), 0);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), AWAY_AT_ONCE * IN_SPAN / 2,
                 "those that were away");
    os_faults_reset();
    heap_check();
}

Test(pack_purge, after_a_refusal_young_spans_are_no_reason_to_come_again)
{
    init();
    ap__central_set_epoch(100);
    thin_out(2, 0);
    ap__central_set_epoch(105);
    (void)take(LONGEST, 0);
    cr_assert_gt(purge(5, 5), 0);
    cr_assert(pending, "one of them is young");
    ap__central_set_epoch(110);
    (void)take(LONGEST, 0);
    for (unsigned i = 0; i < 2; i++) {
        give(blocks[i * IN_SPAN]);
        cr_assert(!span_of(blocks[i * IN_SPAN + 2])->packed.is_purged);
    }
    os_faults_fail_always(OS_FAULTS_MADVISE);
    cr_assert_eq(purge(5, 5), 0);
    cr_assert(!pending);
    os_faults_reset();
    cr_assert_gt(purge(5, 5), 0);
    cr_assert(pending);
}

Test(pack_purge, one_refusal_of_many_does_not_hide_what_was_given_back)
{
    init();
    thin_out(SPANS, 0);
    os_faults_fail_nth(OS_FAULTS_MADVISE, 3);
    cr_assert_eq(purge(0, 0), SPANS * SPAN_FREE_BYTES - LONGEST);
    os_faults_reset();
    cr_assert_geq(purge(0, 0), LONGEST, "its span is tried again");
    cr_assert_eq(purge(0, 0), 0);
    for (unsigned i = 1; i < SPANS * IN_SPAN; i += 2) {
        cr_assert_eq(resident_pages(blocks[i], LONGEST), 0);
    }
}

/* ------------------------------------------------------------ while spans are away */

static char *outside; /* from another span */

static void look_at_claims(void)
{
    if (first_look()) {
        refuse_memory(true);
        cr_assert_eq(span_of(blocks[0])->packed.bucket, AP_PACK_AWAY);
        cr_assert_null(ap__pack_take(2000, 0), "not claimed from");
        cr_assert_null(ap__pack_take(2000, 1), "not taken over");
        refuse_memory(false);
        outside = take(2000, 0);
    }
}

Test(pack_purge, spans_that_are_being_purged_are_not_claimed_from)
{
    init();
    thin_out(SPANS, 0);
    os_faults_watch(OS_FAULTS_MADVISE, look_at_claims);
    (void)purge(0, 0);
    os_faults_reset();
    cr_assert_gt(seen, 1);
    cr_assert_eq(stats().spans, SPANS + 1);
    for (unsigned i = 0; i < SPANS; i++) {
        cr_assert_neq(span_of(outside), span_of(blocks[i * IN_SPAN]));
    }
    heap_check();
    cr_assert_eq(take(LONGEST, 0) - (char *)span_of(outside)->start, 2048, "not from a purged one");
}

static void look_at_growth(void)
{
    if (first_look()) {
        struct ap__span *span = span_of(blocks[0]);
        cr_assert(ap__pack_resize(span, blocks[2], LONGEST, 9000), "it may become shorter");
        cr_assert(!ap__pack_resize(span, blocks[2], usable(blocks[2]), 10000));
        cr_assert(!ap__pack_resize(span, blocks[2], usable(blocks[2]), LONGEST));
        cr_assert(ap__pack_resize(span, blocks[2], usable(blocks[2]), 9001), "the same length");
        cr_assert_eq(usable(blocks[2]), 9088);
    }
}

Test(pack_purge, blocks_do_not_grow_while_their_span_is_away)
{
    init();
    thin_out(1, 0);
    os_faults_watch(OS_FAULTS_MADVISE, look_at_growth);
    cr_assert_geq(purge(0, 0), SPAN_FREE_BYTES);
    os_faults_reset();
    cr_assert_gt(seen, 1);
    cr_assert_eq(blocks[2][8999], 7);
    cr_assert(!span_of(blocks[2])->packed.is_purged, "something came back");
    cr_assert(ap__pack_resize(span_of(blocks[2]), blocks[2], 9088, LONGEST));
    heap_check();
}

static void look_at_comers(void)
{
    if (first_look()) {
        for (unsigned i = 2; i < IN_SPAN; i += 2) {
            give(blocks[i]);
        }
        cr_assert_eq(span_of(blocks[0])->packed.bucket, AP_PACK_AWAY);
    }
}

Test(pack_purge, blocks_come_back_while_their_span_is_away)
{
    init();
    thin_out(1, 0);
    os_faults_watch(OS_FAULTS_MADVISE, look_at_comers);
    (void)purge(0, 0);
    os_faults_reset();
    cr_assert_eq(blocks[0][LONGEST - 1], 7);
    cr_assert(!span_of(blocks[0])->packed.is_purged);
    heap_check();
    cr_assert_eq(purge(0, 0), SPAN_BYTES - LONGEST, "what came back meanwhile goes");
}

static void look_at_the_last(void)
{
    if (first_look()) {
        for (unsigned i = 0; i < IN_SPAN; i += 2) {
            give(blocks[i]);
        }
        cr_assert_eq(stats().spans, 2, "the purge has it still");
    }
}

Test(pack_purge, a_span_that_drains_while_it_is_away_goes_afterwards)
{
    init();
    thin_out(2, 0);
    struct ap__span *span = span_of(blocks[0]);
    os_faults_watch(OS_FAULTS_MADVISE, look_at_the_last);
    (void)purge(0, 0);
    os_faults_reset();
    cr_assert_eq(stats().spans, 1);
    cr_assert_eq(atomic_load(&span->shard), 0);
    cr_assert_null(ap__pack_span_of(blocks[0]));
    heap_check();
}

static void give_late(void)
{
    /* Behind and in front of the runs that go just now. */
    if (seen++ == 1) {
        give(small[0]);
        give(small[PAIRS - 2]);
    }
}

Test(pack_purge, of_many_runs_those_behind_are_seen_as_they_are_then)
{
    init();
    make_many_runs();
    os_faults_watch(OS_FAULTS_MADVISE, give_late);
    cr_assert_eq(purge(0, 0), (PAIRS / 2 + 1) * (size_t)TWO_PAGES, "the one behind goes as well");
    os_faults_reset();
    cr_assert_eq(resident_pages(small[PAIRS - 2], TWO_PAGES), 0);
    cr_assert_eq(resident_pages(small[0], TWO_PAGES), 2, "that in front not yet");
    cr_assert_eq(purge(0, 0), (PAIRS / 2 + 2) * (size_t)TWO_PAGES);
    cr_assert_eq(resident_pages(small[0], TWO_PAGES), 0);
    heap_check();
}
