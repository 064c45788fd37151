/* SPDX-License-Identifier: MIT */
/*
 * pack_addresses_test.c: which addresses are packed blocks.
 * Goal: addresses in packed spans are found, and no others; what is no block has no size and is reported, by a report
 * that holds no lock; a live block has its size meanwhile. Method: direct calls on a fresh heap; fatal ones in a child.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

#include "central/central_free_list.h"
#include "packed.h"
#include "support/child.h"
#include "support/heap_check.h"

enum { LOOKS = 10000000 };

Test(pack_addresses, only_packed_spans_are_found)
{
    init();
    char *p = take(2000, 0);
    struct ap__span *span = span_of(p);
    char *start = (char *)span->start;
    cr_assert_eq(ap__pack_span_of(start + SPAN_BYTES - 1), span);
    cr_assert_neq(ap__pack_span_of(start + SPAN_BYTES), span);
    cr_assert_neq(ap__pack_span_of(start - 1), span);
    cr_assert_null(ap__pack_span_of(NULL));
    cr_assert_null(ap__pack_span_of(&span));
    cr_assert_null(ap__pack_span_of((char *)ap__region_base()));
    void *small = NULL;
    cr_assert_eq(ap__central_take(4, &small, 1), 1);
    cr_assert_null(ap__pack_span_of(small));
}

Test(pack_addresses, a_span_that_was_there_before_is_not_found)
{
    enum { COUNT = AP_PACK_POOLS, GRANULES = COUNT * AP__PACK_SPAN_GRANULES };
    static char *blocks[COUNT];
    unsigned stale = 0;
    init();
    for (unsigned i = 0; i < COUNT; i++) {
        blocks[i] = take(LONGEST, i);
        cr_assert_eq(blocks[i] - blocks[0], (ptrdiff_t)i * SPAN_BYTES);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        give(blocks[i]);
    }
    /* One span now; the records of those before are used elsewhere, and granules in its middle lead to them still. */
    struct ap__span *large = ap__page_heap_take(GRANULES, AP_GRANULE, 0);
    cr_assert_not_null(large);
    large->large.size_bytes = 1;
    cr_assert_eq(large->start, (uintptr_t)blocks[0]);
    for (unsigned i = 0; i < COUNT; i++) {
        (void)take(LONGEST, i);
    }
    for (unsigned i = 0; i < GRANULES; i++) {
        size_t granule = ap__region_granule_of(large->start) + i;
        stale += ap__region_span_of(granule)->state == AP__SPAN_PACKED;
        cr_assert_null(ap__pack_span_of((void *)ap__region_address_of(granule)));
    }
    cr_assert_gt(stale, 0);
}

struct misuse {
    struct ap__span *span;
    char *p;
};

static void give_wrong(void *argument)
{
    struct misuse *wrong = argument;
    (void)ap__pack_give(wrong->span, wrong->p, "realloc");
}

static void expect_report(struct ap__span *span, char *p, const char *cause)
{
    struct misuse wrong = {span, p};
    struct child_result result;
    child_run(&result, give_wrong, &wrong);
    char expected[200];
    snprintf(expected, sizeof expected, "apmalloc: realloc(%p): %s\n", (void *)p, cause);
    cr_assert_eq(result.signal, SIGABRT);
    cr_assert_str_eq(result.text, expected);
}

static const char NOT_LIVE[] = "double free, or a pointer that was never allocated";
static const char INTERIOR[] = "pointer into the middle of a block";

Test(pack_addresses, what_is_no_block_is_reported)
{
    init();
    char *p = take(3000, 0);
    char *next = take(3000, 0);
    char *last = take(3000, 0);
    struct ap__span *span = span_of(p);
    expect_report(span, next + 1, INTERIOR);
    expect_report(span, next + 16, INTERIOR);
    expect_report(span, next + AP_UNIT_BYTES, INTERIOR);
    expect_report(span, next + 3072 - AP_UNIT_BYTES, INTERIOR);
    expect_report(span, last + 3072, NOT_LIVE);
    expect_report(span, last + 3072 + 16, NOT_LIVE);
    expect_report(span, (char *)span->start + SPAN_BYTES - AP_UNIT_BYTES, NOT_LIVE);
    give(next);
    expect_report(span, next, NOT_LIVE);
    expect_report(span, next + AP_UNIT_BYTES, NOT_LIVE);
    cr_assert_eq(usable(p), 3072);
    cr_assert_eq(usable(last), 3072);
    heap_check();
}

Test(pack_addresses, a_double_free_that_comes_after_its_span_has_gone_is_reported)
{
    init();
    char *p = take(3000, 0);
    struct ap__span *span = span_of(p);
    give(p);
    cr_assert_neq(span->state, AP__SPAN_PACKED);
    expect_report(span, p, NOT_LIVE);
}

static void on_abort(int signal)
{
    (void)signal;
    char *p = ap__pack_take(3000, 0);
    give(p);
    _Exit(p != NULL ? 7 : 1);
}

static void give_twice(void *argument)
{
    struct misuse *wrong = argument;
    (void)signal(SIGABRT, on_abort);
    (void)ap__pack_give(wrong->span, wrong->p, "free");
}

Test(pack_addresses, a_report_holds_no_lock)
{
    init();
    char *p = take(3000, 0);
    (void)take(3000, 0);
    struct misuse wrong = {span_of(p), p};
    give(p);
    struct child_result result;
    child_run(&result, give_twice, &wrong);
    cr_assert_eq(result.status, 7);
}

Test(pack_addresses, what_is_no_block_has_no_usable_size)
{
    init();
    char *p = take(3000, 0);
    char *q = take(3000, 0);
    struct ap__span *span = span_of(p);
    cr_assert_eq(ap__pack_usable_size(span, p), 3072);
    cr_assert_eq(ap__pack_usable_size(span, p + 1), 0);
    cr_assert_eq(ap__pack_usable_size(span, p + AP_UNIT_BYTES), 0);
    cr_assert_eq(ap__pack_usable_size(span, q + 3072), 0);
    cr_assert_eq(ap__pack_why_no_block(span, p + AP_UNIT_BYTES), AP__MISUSE_INTERIOR);
    cr_assert_eq(ap__pack_why_no_block(span, q + 3072), AP__MISUSE_NOT_LIVE);
    give(q);
    cr_assert_eq(ap__pack_usable_size(span, q), 0);
    cr_assert_eq(ap__pack_usable_size(span, p), 3072);
}

static atomic_bool is_over;

/* Blocks that touch the one at `next` come and go in front of it. */
static void *change_in_front(void *next)
{
    while (!atomic_load(&is_over)) {
        char *p = take(2000, 0);
        cr_assert_eq(p + 2048, next);
        give(p);
    }
    return NULL;
}

Test(pack_addresses, a_live_block_has_its_size_whatever_happens_in_front_of_it)
{
    pthread_t thread;
    init();
    char *front = take(2000, 0);
    char *p = take(2000, 0);
    struct ap__span *span = span_of(p);
    give(front);
    cr_assert_eq(pthread_create(&thread, NULL, change_in_front, p), 0);
    for (unsigned i = 0; i < LOOKS; i++) {
        cr_assert_eq(ap__pack_usable_size(span, p), 2048);
    }
    atomic_store(&is_over, true);
    pthread_join(thread, NULL);
}
