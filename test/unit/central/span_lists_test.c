/* SPDX-License-Identifier: MIT */
/*
 * span_lists_test.c: spans of one class in lists by how full they are.
 * Goal: each number of free slots has its bucket, a span moves only when that changes, first() is of the fullest and
 * purged spans come last, second() and has_spare see what there is beside the first. Method: records made by hand,
 * with no memory behind them; every number of every class; random operations against lists that are plain arrays.
 * The seed is printed.
 */
#include "central/span_lists.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CLASS_64 = 4, SLOTS_64 = 1024, SPANS = 24, LISTS = 2, MEMBERS = 77, ROUNDS = 200000 };

static struct ap__span spans[SPANS];

/* What the lists should be: each an array, the head first. */
static struct model {
    struct ap__span_lists lists;
    unsigned counts[AP_SPAN_BUCKETS];
    struct ap__span *buckets[AP_SPAN_BUCKETS][SPANS];
} models[LISTS];

/* The sixth of its slots that the free ones reach into. */
static unsigned bucket_of(const struct ap__span *span)
{
    unsigned slots = ap__size_class[span->size_class].slots;
    unsigned bucket = 0;
    if (span->slots.free_slots == 0) {
        return AP_SPAN_NO_BUCKET;
    }
    while (AP_SPAN_BUCKETS * (span->slots.free_slots - 1u) >= (bucket + 1) * slots) {
        bucket++;
    }
    return bucket;
}

static void make(struct ap__span *span, unsigned size_class, unsigned free_slots)
{
    *span = (struct ap__span){.start = (uintptr_t)1 << 40,
                              .granules = ap__size_class[size_class].span_granules,
                              .size_class = (uint8_t)size_class};
    span->slots.free_slots = (uint16_t)free_slots;
    span->slots.bucket = AP_SPAN_NO_BUCKET;
}

/* ------------------------------------------------------------ the model */

static void model_place(struct model *model, struct ap__span *span)
{
    unsigned bucket = bucket_of(span);
    if (bucket == AP_SPAN_NO_BUCKET) {
        return;
    }
    struct ap__span **list = model->buckets[bucket];
    unsigned at = span->slots.is_purged ? model->counts[bucket] : 0;
    memmove(list + at + 1, list + at, (model->counts[bucket] - at) * sizeof *list);
    list[at] = span;
    model->counts[bucket]++;
}

/* The bucket whose list a span is on, AP_SPAN_NO_BUCKET for none. */
static unsigned model_find(const struct model *model, const struct ap__span *span, unsigned *at)
{
    for (unsigned bucket = 0; bucket < AP_SPAN_BUCKETS; bucket++) {
        for (*at = 0; *at < model->counts[bucket]; ++*at) {
            if (model->buckets[bucket][*at] == span) {
                return bucket;
            }
        }
    }
    return AP_SPAN_NO_BUCKET;
}

static void model_remove(struct model *model, const struct ap__span *span)
{
    unsigned at;
    unsigned bucket = model_find(model, span, &at);
    if (bucket != AP_SPAN_NO_BUCKET) {
        struct ap__span **list = model->buckets[bucket];
        model->counts[bucket]--;
        memmove(list + at, list + at + 1, (model->counts[bucket] - at) * sizeof *list);
    }
}

static void model_relist(struct model *model, struct ap__span *span)
{
    unsigned at;
    if (model_find(model, span, &at) != bucket_of(span)) {
        model_remove(model, span);
        model_place(model, span);
    }
}

/* The n-th of all, the fullest first. */
static struct ap__span *model_at(const struct model *model, unsigned n)
{
    for (unsigned bucket = 0; bucket < AP_SPAN_BUCKETS; bucket++) {
        if (n < model->counts[bucket]) {
            return model->buckets[bucket][n];
        }
        n -= model->counts[bucket];
    }
    return NULL;
}

static void check_bucket(const struct model *model, unsigned bucket)
{
    const struct ap__span *head = model->lists.buckets[bucket];
    const struct ap__span *span = head;
    unsigned count = model->counts[bucket];
    cr_assert_eq(model->lists.occupied >> bucket & 1, count != 0);
    cr_assert_eq(head != NULL, count != 0);
    for (unsigned i = 0; i < count; i++, span = span->link.next) {
        cr_assert_eq(span, model->buckets[bucket][i], "bucket %u, %u of %u", bucket, i, count);
        cr_assert_eq(span->link.next->link.previous, span);
        cr_assert_eq(span->slots.bucket, bucket);
    }
    cr_assert_eq(span, head, "it is a ring");
}

static void check(const struct model *model)
{
    for (unsigned bucket = 0; bucket < AP_SPAN_BUCKETS; bucket++) {
        check_bucket(model, bucket);
    }
    cr_assert_eq(model->lists.occupied >> AP_SPAN_BUCKETS, 0);
    cr_assert_eq(ap__span_lists_first(&model->lists), model_at(model, 0));
    cr_assert_eq(ap__span_lists_second(&model->lists), model_at(model, 1));
    cr_assert_eq(atomic_load(&model->lists.has_spare), model_at(model, 1) != NULL);
    cr_assert_eq(model->lists.members, MEMBERS, "the caller's");
}

/* ------------------------------------------------------------ both at once, each step checked */

static void init(void)
{
    for (unsigned i = 0; i < LISTS; i++) {
        models[i].lists.members = MEMBERS;
    }
}

static void insert(struct model *model, struct ap__span *span)
{
    ap__span_lists_insert(&model->lists, span);
    model_place(model, span);
    check(model);
}

static void take_off(struct model *model, struct ap__span *span, unsigned why)
{
    ap__span_lists_remove(&model->lists, span);
    ap__span_lists_say_off(span, why);
    model_remove(model, span);
    check(model);
    cr_assert_eq(span->slots.bucket, why);
}

static void relist(struct model *model, struct ap__span *span)
{
    ap__span_lists_relist(&model->lists, span);
    model_relist(model, span);
    check(model);
}

static struct ap__span *insert_new(unsigned number, unsigned free_slots, bool is_purged)
{
    struct ap__span *span = &spans[number];
    make(span, CLASS_64, free_slots);
    span->slots.is_purged = is_purged;
    insert(&models[0], span);
    return span;
}

static void expect_order(const unsigned *numbers, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct ap__span *first = ap__span_lists_first(&models[0].lists);
        cr_assert_eq(first, &spans[numbers[i]], "span %u comes as number %u", numbers[i], i);
        take_off(&models[0], first, AP_SPAN_NO_BUCKET);
    }
    cr_assert_null(ap__span_lists_first(&models[0].lists));
}

Test(span_lists, the_number_of_free_slots_decides_the_bucket)
{
    init();
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        unsigned slots = ap__size_class[c].slots;
        for (unsigned free_slots = 0; free_slots <= slots; free_slots++) {
            make(&spans[0], c, free_slots);
            insert(&models[0], &spans[0]);
            cr_assert_eq(spans[0].slots.bucket, bucket_of(&spans[0]), "%u: %u of %u", c, free_slots,
                         slots);
            if (free_slots != 0) {
                take_off(&models[0], &spans[0], AP_SPAN_NO_BUCKET);
            }
        }
        cr_assert(slots < AP_SPAN_BUCKETS || bucket_of(&spans[0]) == AP_SPAN_BUCKETS - 1);
    }
}

/* Of two spans in each bucket, the one that walks stays where it is until its bucket changes, and then comes first. */
static void walk(unsigned size_class, unsigned step)
{
    unsigned slots = ap__size_class[size_class].slots;
    struct ap__span *walker = &spans[AP_SPAN_BUCKETS];
    unsigned bucket = AP_SPAN_NO_BUCKET;
    for (unsigned i = 0; i <= 2 * slots; i++) {
        unsigned turn = i * step % (2 * slots);
        walker->slots.free_slots = (uint16_t)(turn <= slots ? turn : 2 * slots - turn);
        bool moves = bucket != bucket_of(walker);
        bucket = bucket_of(walker);
        relist(&models[0], walker);
        if (moves && bucket != AP_SPAN_NO_BUCKET) {
            struct ap__span *other = models[0].buckets[bucket][1];
            take_off(&models[0], other, AP_SPAN_NO_BUCKET);
            insert(&models[0], other);
        }
    }
}

static void walk_from(unsigned size_class, unsigned step)
{
    for (unsigned i = 0; i < AP_SPAN_BUCKETS; i++) {
        unsigned slots = ap__size_class[size_class].slots;
        make(&spans[i], size_class, 1 + (i * slots + AP_SPAN_BUCKETS - 1) / AP_SPAN_BUCKETS);
        insert(&models[0], &spans[i]);
    }
    make(&spans[AP_SPAN_BUCKETS], size_class, 0);
    insert(&models[0], &spans[AP_SPAN_BUCKETS]);
    walk(size_class, step);
    memset(models, 0, sizeof models);
    init();
}

Test(span_lists, a_span_moves_only_when_its_bucket_changes)
{
    init();
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        if (ap__size_class[c].slots > AP_SPAN_BUCKETS) {
            walk_from(c, 1);
            walk_from(c, 61); /* jumps, as batches make them */
        }
    }
}

Test(span_lists, the_fullest_come_first)
{
    static const unsigned order[] = {3, 1, 4, 2, 0};
    init();
    insert_new(0, SLOTS_64, false);
    insert_new(1, 200, false);
    insert_new(2, 900, false);
    insert_new(3, 1, false);
    insert_new(4, 500, false);
    expect_order(order, 5);
}

Test(span_lists, the_latest_comes_first_and_purged_ones_last)
{
    static const unsigned order[] = {5, 2, 0, 1, 3, 4};
    init();
    insert_new(0, 10, false);
    insert_new(1, 11, true);
    insert_new(2, 12, false);
    insert_new(3, 13, true);
    insert_new(4, 900, true);
    insert_new(5, 9, false);
    expect_order(order, 6);
}

Test(span_lists, a_purged_one_alone_is_first_until_another_comes)
{
    init();
    insert_new(0, 10, true);
    insert_new(1, 10, true);
    cr_assert_eq(ap__span_lists_first(&models[0].lists), &spans[0]);
    insert_new(2, 10, false);
    cr_assert_eq(ap__span_lists_first(&models[0].lists), &spans[2]);
    spans[2].slots.is_purged = true;
    spans[2].slots.free_slots = 1000;
    relist(&models[0], &spans[2]);
    spans[2].slots.free_slots = 10;
    relist(&models[0], &spans[2]);
    cr_assert_eq(models[0].lists.buckets[0]->link.previous, &spans[2], "moved behind all");
}

Test(span_lists, the_second_is_of_the_same_list_or_of_the_next)
{
    const struct ap__span_lists *lists = &models[0].lists;
    init();
    check(&models[0]);
    cr_assert_null(ap__span_lists_second(lists));
    insert_new(0, 700, false);
    cr_assert_null(ap__span_lists_second(lists));
    insert_new(1, 1000, false);
    cr_assert_eq(ap__span_lists_second(lists), &spans[1], "of the next list that has one");
    insert_new(2, 700, true);
    cr_assert_eq(ap__span_lists_second(lists), &spans[2], "behind the first");
    insert_new(3, 20, false);
    cr_assert_eq(ap__span_lists_second(lists), &spans[0]);
}

Test(span_lists, a_spare_is_there_from_the_second_span_on)
{
    init();
    const _Atomic(bool) *has_spare = &models[0].lists.has_spare;
    struct ap__span *a = insert_new(0, 100, false);
    cr_assert(!atomic_load(has_spare));
    struct ap__span *b = insert_new(1, 100, false);
    cr_assert(atomic_load(has_spare), "in one list");
    b->slots.free_slots = 600;
    relist(&models[0], b);
    cr_assert(atomic_load(has_spare), "in two");
    a->slots.free_slots = 0;
    relist(&models[0], a);
    cr_assert(!atomic_load(has_spare), "one is used up");
    a->slots.free_slots = 1;
    relist(&models[0], a);
    cr_assert(atomic_load(has_spare));
    take_off(&models[0], b, AP_SPAN_AWAY);
    cr_assert(!atomic_load(has_spare));
}

Test(span_lists, a_span_without_a_free_slot_is_on_no_list)
{
    init();
    struct ap__span *full = insert_new(0, 0, false);
    cr_assert_eq(full->slots.bucket, AP_SPAN_NO_BUCKET);
    cr_assert_null(ap__span_lists_first(&models[0].lists));
    relist(&models[0], full);
    full->slots.free_slots = SLOTS_64;
    relist(&models[0], full);
    cr_assert_eq(ap__span_lists_first(&models[0].lists), full);
    full->slots.free_slots = 0;
    relist(&models[0], full);
    cr_assert_eq(full->slots.bucket, AP_SPAN_NO_BUCKET);
    cr_assert_null(ap__span_lists_first(&models[0].lists));
}

Test(span_lists, a_span_that_is_away_is_not_listed_whatever_comes_back)
{
    init();
    struct ap__span *away = insert_new(0, 5, false);
    take_off(&models[0], away, AP_SPAN_AWAY);
    for (unsigned free_slots = 0; free_slots <= SLOTS_64; free_slots++) {
        away->slots.free_slots = (uint16_t)free_slots;
        ap__span_lists_relist(&models[0].lists, away);
        check(&models[0]);
        cr_assert_eq(away->slots.bucket, AP_SPAN_AWAY);
    }
    ap__span_lists_say_off(away, AP_SPAN_NO_BUCKET);
    relist(&models[0], away);
    cr_assert_eq(away->slots.bucket, AP_SPAN_BUCKETS - 1);
}

/* ------------------------------------------------------------ at random */

/* Mostly a few slots more or less, as blocks come and go. */
static void change_free_slots(struct ap__span *span, unsigned *seed)
{
    unsigned slots = ap__size_class[span->size_class].slots;
    unsigned change = (unsigned)rand_r(seed) >> 4;
    unsigned now = span->slots.free_slots;
    unsigned next = change % 8 == 0   ? change / 8 % (slots + 1)
                    : change % 2 == 0 ? now + change / 8 % 64
                                      : now - change / 8 % 64;
    span->slots.free_slots = (uint16_t)(next <= slots ? next : change % 2 == 0 ? slots : 0);
}

/* A block has come back: the span's pages are there again. */
static void become_unpurged(struct model *model, struct ap__span *span)
{
    if (span->slots.is_purged) {
        span->slots.is_purged = false;
        if (span->slots.bucket < AP_SPAN_BUCKETS) {
            take_off(model, span, AP_SPAN_NO_BUCKET);
        }
        relist(model, span);
    }
}

static void come_back(struct model *model, struct ap__span *span, bool is_purged)
{
    span->slots.is_purged = is_purged;
    ap__span_lists_say_off(span, AP_SPAN_NO_BUCKET);
    relist(model, span);
}

static void step(unsigned *owner, struct ap__span *span, unsigned *seed)
{
    struct model *model = &models[*owner];
    unsigned draw = (unsigned)rand_r(seed) >> 4;
    if (span->slots.bucket == AP_SPAN_AWAY) {
        change_free_slots(span, seed);
        ap__span_lists_relist(&model->lists, span);
        check(model);
        if (draw % 4 == 0) {
            come_back(model, span, draw % 3 != 0);
        }
    } else if (draw % 8 == 0 && span->slots.bucket < AP_SPAN_BUCKETS) {
        take_off(model, span, AP_SPAN_AWAY);
    } else if (draw % 8 == 1 && span->slots.bucket < AP_SPAN_BUCKETS) {
        take_off(model, span, AP_SPAN_NO_BUCKET);
        *owner = (*owner + 1) % LISTS;
        insert(&models[*owner], span);
    } else if (draw % 8 == 2) {
        become_unpurged(model, span);
    } else {
        change_free_slots(span, seed);
        relist(model, span);
    }
}

Test(span_lists, at_random_are_what_arrays_are, .timeout = 100)
{
    unsigned seed = (unsigned)time(NULL);
    unsigned owners[SPANS];
    fprintf(stderr, "# span_lists: seed %u\n", seed);
    init();
    unsigned size_class = ap__class_of_size(16u << (unsigned)rand_r(&seed) % 8);
    for (unsigned i = 0; i < SPANS; i++) {
        make(&spans[i], size_class, i % (ap__size_class[size_class].slots + 1u));
        owners[i] = i % LISTS;
        insert(&models[owners[i]], &spans[i]);
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned i = (unsigned)rand_r(&seed) % (round / 1000 % SPANS + 1); /* few, then many */
        step(&owners[i], &spans[i], &seed);
    }
}
