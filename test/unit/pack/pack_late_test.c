/* SPDX-License-Identifier: MIT */
/*
 * pack_late_test.c: a wrong pointer is looked up while its span goes.
 * Goal: whatever the record of a packed span has become between the two halves of a look, the second one finds no block,
 * and reads nothing but bitmaps. Method: the first half, the change, the second half; both at once in two threads.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

#include "central/central_free_list.h"
#include "packed.h"
#include "support/child.h"
#include "support/heap_check.h"

enum { FOUND_LEAST = 5000, SIZE = 3072 };
/* No address of anything. */
#define WILD ((size_t)0x1234567890)

struct look {
    struct ap__span *span;
    char *p;
};

/* The first half of a look at a block; then it is freed, and its span drains. */
static struct look look_and_free(void)
{
    char *p = take(SIZE, 0);
    struct look look = {span_of(p), p};
    give(p);
    cr_assert_neq(look.span->state, AP__SPAN_PACKED);
    return look;
}

static void give_again(void *argument)
{
    struct look *look = argument;
    (void)ap__pack_give(look->span, look->p, "free");
}

static void expect_no_block(struct look look)
{
    struct child_result result;
    char expected[200];
    cr_assert_eq(ap__pack_usable_size(look.span, look.p), 0);
    cr_assert_eq(ap__pack_why_no_block(look.span, look.p), AP__MISUSE_NOT_LIVE);
    cr_assert(!ap__pack_resize(look.span, look.p, SIZE, SIZE / 2));
    cr_assert(!ap__pack_resize(look.span, look.p, SIZE, 2 * SIZE));
    child_run(&result, give_again, &look);
    snprintf(expected, sizeof expected,
             "apmalloc: free(%p): double free, or a pointer that was never allocated\n",
             (void *)look.p);
    cr_assert_eq(result.signal, SIGABRT);
    cr_assert_str_eq(result.text, expected);
}

Test(pack_late, a_span_that_is_free_has_no_blocks)
{
    init();
    struct look look = look_and_free();
    cr_assert_eq(look.span->state, AP__SPAN_FREE);
    expect_no_block(look);
}

Test(pack_late, a_span_that_is_a_large_object_has_none)
{
    init();
    struct look look = look_and_free();
    struct ap__span *large = ap__page_heap_take(AP__PACK_SPAN_GRANULES, AP_GRANULE, 0);
    cr_assert_eq(large, look.span);
    /* Wherever the record may have had the address of its bitmaps. */
    large->large.size_bytes = WILD;
    large->large.alignment = WILD;
    cr_assert_eq(ap__pack_usable_size(look.span, look.p), 0);
    cr_assert_eq(ap__pack_why_no_block(look.span, look.p), AP__MISUSE_NOT_LIVE);
    large->large.size_bytes = AP_GRANULE;
    expect_no_block(look);
}

Test(pack_late, a_span_of_a_size_class_has_none)
{
    init();
    struct look look = look_and_free();
    void *small;
    cr_assert_eq(ap__central_take(ap__class_of_size(4096), &small, 1), 1);
    cr_assert_eq(ap__page_heap_span_of((uintptr_t)small), look.span);
    expect_no_block(look);
    heap_check();
}

/* The record is that of a packed span again, of another place. */
Test(pack_late, a_span_that_lies_elsewhere_has_not_this_one)
{
    init();
    char *p = take(LONGEST, 0);
    char *q = take(LONGEST, 1);
    struct look in_front = {span_of(q), p};
    struct look behind = {span_of(p), q};
    cr_assert_neq(in_front.span, behind.span);
    expect_no_block(in_front);
    expect_no_block(behind);
    cr_assert_eq(usable(p), LONGEST);
    heap_check();
}

Test(pack_late, without_bitmaps_there_are_no_blocks)
{
    init();
    struct look look = {span_of(take(SIZE, 0)), NULL};
    struct ap__span begun = {
        .start = look.span->start, .granules = AP__PACK_SPAN_GRANULES, .state = AP__SPAN_PACKED};
    look = (struct look){&begun, (char *)begun.start};
    expect_no_block(look);
}

/* The start of one span, with the bitmaps of another: what that makes of a block must not lead out of the heap. */
Test(pack_late, a_block_of_two_lives_ends_in_the_heap)
{
    init();
    char *longest = take(LONGEST, 0);
    uintptr_t end = ap__region_address_of(ap__region_limit_granules());
    for (size_t beyond = AP_UNIT_BYTES; beyond <= LONGEST; beyond += AP_UNIT_BYTES) {
        struct ap__span view = *span_of(longest);
        view.start = end - LONGEST + beyond;
        size_t bytes = ap__pack_usable_size(&view, (char *)view.start);
        cr_assert_eq(bytes, 0, "%zu bytes beyond the end", beyond);
    }
    struct ap__span view = *span_of(longest);
    view.start = end - LONGEST;
    cr_assert_eq(ap__pack_usable_size(&view, (char *)view.start), LONGEST);
}

static atomic_bool is_over;

/* A packed span and a large object take turns at one place. */
static void *come_and_go(void *place)
{
    for (unsigned turn = 0; !atomic_load(&is_over); turn++) {
        char *p = take(SIZE, turn);
        cr_assert_eq(p, place);
        give(p);
        struct ap__span *large = ap__page_heap_take(AP__PACK_SPAN_GRANULES, AP_GRANULE, 0);
        cr_assert_eq(large->start, (uintptr_t)place);
        large->large.size_bytes = 1;
        large->large.alignment = WILD;
        ap__page_heap_give(large);
    }
    return NULL;
}

Test(pack_late, looks_go_on_while_a_span_comes_and_goes)
{
    pthread_t thread;
    size_t found = 0;
    init();
    char *p = take(SIZE, 0);
    struct ap__span *span = span_of(p);
    give(p);
    cr_assert_eq(pthread_create(&thread, NULL, come_and_go, p), 0);
    while (found < FOUND_LEAST) {
        size_t bytes = ap__pack_usable_size(span, p);
        cr_assert(bytes <= SPAN_BYTES, "%zu", bytes);
        found += bytes == SIZE;
        (void)ap__pack_why_no_block(span, p + AP_UNIT_BYTES);
        (void)ap__pack_resize(span, p + AP_UNIT_BYTES, SIZE, SIZE / 2);
    }
    atomic_store(&is_over, true);
    pthread_join(thread, NULL);
    heap_check();
}
