/* SPDX-License-Identifier: MIT */
/*
 * pack_lists_test.c: packed spans in lists by their longest free run.
 * Goal: each length has its list, purged spans are behind all others, a search finds the shortest that will do.
 * Method: records made by hand, with no memory behind them; every length; random operations against lists that are plain
 * arrays. The seed is printed.
 */
#include "pack/pack_lists.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SPANS = 40, ROUNDS = 100000, LOOKS = 8 };

static struct ap__span spans[SPANS];
static struct ap__pack_lists lists;

/* What the lists should be: each an array, the head first. */
static struct {
    unsigned counts[AP_PACK_BUCKETS];
    struct ap__span *buckets[AP_PACK_BUCKETS][SPANS];
} model;

/* The shortest run of each list. */
static const unsigned bounds[] = {8,  10, 12,  14,  16,  20,  24,  28,  32,  40,  48,  56, 64,
                                  80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512};
_Static_assert(sizeof bounds / sizeof *bounds == AP_PACK_BUCKETS, "one a list");

static unsigned bucket_of(unsigned units)
{
    unsigned bucket = 0;
    while (bucket < AP_PACK_BUCKETS && bounds[bucket] <= units) {
        bucket++;
    }
    return bucket == 0 ? (unsigned)AP_PACK_NO_BUCKET : bucket - 1;
}

static void make(struct ap__span *span, unsigned units, bool is_purged)
{
    *span = (struct ap__span){.start = (uintptr_t)1 << 40, .granules = 16};
    span->packed.longest_most = (uint16_t)units;
    span->packed.is_purged = is_purged;
    span->packed.bucket = AP_PACK_NO_BUCKET;
}

/* ------------------------------------------------------------ the model */

static void model_place(struct ap__span *span)
{
    unsigned bucket = bucket_of(span->packed.longest_most);
    if (bucket != AP_PACK_NO_BUCKET) {
        struct ap__span **list = model.buckets[bucket];
        unsigned at = span->packed.is_purged ? model.counts[bucket] : 0;
        memmove(list + at + 1, list + at, (model.counts[bucket] - at) * sizeof *list);
        list[at] = span;
        model.counts[bucket]++;
    }
}

static void model_remove(const struct ap__span *span)
{
    for (unsigned bucket = 0; bucket < AP_PACK_BUCKETS; bucket++) {
        struct ap__span **list = model.buckets[bucket];
        for (unsigned at = 0; at < model.counts[bucket]; at++) {
            if (list[at] == span) {
                model.counts[bucket]--;
                memmove(list + at, list + at + 1, (model.counts[bucket] - at) * sizeof *list);
            }
        }
    }
}

static struct ap__span *model_find(unsigned units, unsigned looks)
{
    unsigned bucket = bucket_of(units);
    for (unsigned i = 0; i < model.counts[bucket] && i < looks; i++) {
        if (model.buckets[bucket][i]->packed.longest_most >= units) {
            return model.buckets[bucket][i];
        }
    }
    while (++bucket < AP_PACK_BUCKETS) {
        if (model.counts[bucket] != 0) {
            return model.buckets[bucket][0];
        }
    }
    return NULL;
}

static void check(void)
{
    for (unsigned bucket = 0; bucket < AP_PACK_BUCKETS; bucket++) {
        const struct ap__span *head = lists.buckets[bucket];
        const struct ap__span *span = head;
        unsigned count = model.counts[bucket];
        cr_assert_eq(lists.occupied >> bucket & 1, count != 0);
        cr_assert_eq(head != NULL, count != 0);
        for (unsigned i = 0; i < count; i++, span = span->link.next) {
            cr_assert_eq(span, model.buckets[bucket][i], "list %u, %u of %u", bucket, i, count);
            cr_assert_eq(span->link.next->link.previous, span);
            cr_assert_eq(span->packed.bucket, bucket);
        }
        cr_assert_eq(span, head, "it is a ring");
    }
    cr_assert_eq(lists.occupied >> AP_PACK_BUCKETS, 0);
}

/* ------------------------------------------------------------ both at once, each step checked */

static void insert(struct ap__span *span)
{
    ap__pack_lists_insert(&lists, span);
    model_place(span);
    check();
}

static void take_off(struct ap__span *span, unsigned why)
{
    ap__pack_lists_remove(&lists, span, why);
    model_remove(span);
    check();
    cr_assert_eq(span->packed.bucket, why);
}

static void move(struct ap__span *span)
{
    ap__pack_lists_move(&lists, span);
    model_remove(span);
    model_place(span);
    check();
}

static struct ap__span *insert_new(unsigned number, unsigned units, bool is_purged)
{
    make(&spans[number], units, is_purged);
    insert(&spans[number]);
    return &spans[number];
}

Test(pack_lists, the_longest_run_decides_the_list)
{
    for (unsigned units = 0; units <= AP_PACK_RUN_MAX; units++) {
        make(&spans[0], units, false);
        cr_assert_eq(ap__pack_lists_is_misplaced(&spans[0]), units >= 8, "%u", units);
        insert(&spans[0]);
        cr_assert_eq(spans[0].packed.bucket, bucket_of(units), "%u", units);
        cr_assert(!ap__pack_lists_is_misplaced(&spans[0]));
        take_off(&spans[0], AP_PACK_NO_BUCKET);
    }
    cr_assert_eq(bucket_of(7), AP_PACK_NO_BUCKET);
    cr_assert_eq(bucket_of(8), 0);
    cr_assert_eq(bucket_of(511), AP_PACK_BUCKETS - 2);
    cr_assert_eq(bucket_of(512), AP_PACK_BUCKETS - 1, "runs that hold any block");
}

Test(pack_lists, a_span_is_misplaced_as_soon_as_its_list_is_another)
{
    struct ap__span *span = insert_new(0, 100, false);
    for (unsigned units = 0; units <= AP_PACK_RUN_MAX; units++) {
        span->packed.longest_most = (uint16_t)units;
        cr_assert_eq(ap__pack_lists_is_misplaced(span), units < 96 || units >= 112, "%u", units);
    }
}

Test(pack_lists, a_span_says_why_it_is_on_none)
{
    struct ap__span *span = insert_new(0, 100, false);
    take_off(span, AP_PACK_AWAY);
    cr_assert(ap__pack_lists_is_misplaced(span));
    take_off(span, AP_PACK_NO_BUCKET); /* on no list: only says another thing */
    take_off(span, AP_PACK_AWAY);
    insert_new(1, 100, false);
    insert(span);
    cr_assert_eq(ap__pack_lists_find(&lists, 100), span);
}

Test(pack_lists, purged_spans_are_at_the_tail)
{
    insert_new(0, 100, true);
    insert_new(1, 101, true);
    cr_assert_eq(ap__pack_lists_find(&lists, 96), &spans[0], "alone, purged ones come first");
    insert_new(2, 102, false);
    cr_assert_eq(ap__pack_lists_find(&lists, 96), &spans[2]);
    insert_new(3, 103, true);
    insert_new(4, 104, false);
    cr_assert_eq(ap__pack_lists_find(&lists, 96), &spans[4], "the latest first");
    cr_assert_eq(lists.buckets[bucket_of(100)]->link.previous, &spans[3]);
    spans[4].packed.is_purged = true;
    move(&spans[4]);
    cr_assert_eq(ap__pack_lists_find(&lists, 96), &spans[2]);
    spans[0].packed.is_purged = false;
    move(&spans[0]);
    cr_assert_eq(ap__pack_lists_find(&lists, 96), &spans[0]);
}

Test(pack_lists, the_shortest_that_will_do_is_found)
{
    cr_assert_null(ap__pack_lists_find(&lists, 9));
    insert_new(0, 512, false);
    insert_new(1, 200, false);
    insert_new(2, 33, false);
    insert_new(3, 7, false);
    cr_assert_eq(spans[3].packed.bucket, AP_PACK_NO_BUCKET);
    cr_assert_eq(ap__pack_lists_find(&lists, 9), &spans[2]);
    cr_assert_eq(ap__pack_lists_find(&lists, 33), &spans[2]);
    cr_assert_eq(ap__pack_lists_find(&lists, 34), &spans[1],
                 "its list has one, which is too short");
    cr_assert_eq(ap__pack_lists_find(&lists, 200), &spans[1]);
    cr_assert_eq(ap__pack_lists_find(&lists, 201), &spans[0]);
    cr_assert_eq(ap__pack_lists_find(&lists, 512), &spans[0]);
    take_off(&spans[0], AP_PACK_AWAY);
    cr_assert_null(ap__pack_lists_find(&lists, 201));
}

Test(pack_lists, only_the_first_eight_of_a_list_are_looked_at_unless_all_are_to_be)
{
    cr_assert_null(ap__pack_lists_find_any(&lists, 111));
    insert_new(0, 111, false);
    for (unsigned i = 1; i <= LOOKS; i++) {
        cr_assert_eq(ap__pack_lists_find(&lists, 111), &spans[0], "number %u", i);
        insert_new(i, 100, false);
    }
    cr_assert_null(ap__pack_lists_find(&lists, 111));
    cr_assert_eq(ap__pack_lists_find_any(&lists, 111), &spans[0]);
    cr_assert_null(ap__pack_lists_find_any(&lists, 112));
    insert_new(LOOKS + 1, 512, false);
    cr_assert_eq(ap__pack_lists_find(&lists, 111), &spans[LOOKS + 1]);
}

static void random_step(void)
{
    struct ap__span *span = &spans[rand() % SPANS];
    unsigned most = rand() % 2 == 0 ? 40 : AP_PACK_RUN_MAX;
    bool is_away = span->packed.bucket == AP_PACK_AWAY;
    span->packed.longest_most = (uint16_t)(rand() % (int)(most + 1));
    span->packed.is_purged = rand() % 3 == 0;
    if (rand() % 4 == 0) {
        take_off(span, rand() % 2 == 0 ? AP_PACK_AWAY : AP_PACK_NO_BUCKET);
    } else if (is_away) {
        insert(span);
    } else {
        move(span);
    }
    unsigned units = 8 + (unsigned)rand() % (AP_PACK_RUN_MAX - 7);
    cr_assert_eq(ap__pack_lists_find(&lists, units), model_find(units, LOOKS), "%u", units);
    cr_assert_eq(ap__pack_lists_find_any(&lists, units), model_find(units, SPANS), "%u", units);
}

Test(pack_lists, does_what_arrays_do_through_random_use)
{
    unsigned seed = (unsigned)time(NULL);
    fprintf(stderr, "# pack_lists: seed %u\n", seed);
    srand(seed);
    for (unsigned i = 0; i < SPANS; i++) {
        make(&spans[i], 0, false);
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        random_step();
    }
}
