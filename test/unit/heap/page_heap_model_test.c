/* SPDX-License-Identifier: MIT */
/*
 * page_heap_model_test.c: the page heap through random use, beside a model.
 * Goal: each span is the one that best fit and coalescing lead to, nobody else has it, and what is known to be zero is.
 * Method: the model is an array of granules that is searched from end to end; page_heap_check() walks the whole heap in
 * between. The seed is printed.
 */
#include "heap/page_heap.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "support/heap_check.h"
#include "take_spans.h"

/* MOST: granules of the model; held spans never come near it. */
enum { HELD_MAX = 100, ROUNDS = 8000, CHECK_EVERY = 37, MOST = 1 << 16 };

static struct ap__span *held[HELD_MAX];

/* By granule of the region: who has it, 0 for nobody; and whether it is known to be zero. */
static struct {
    uint8_t owner[MOST];
    bool clean[MOST];
    size_t first, limit;
} model;

static size_t random_below(size_t n)
{
    return (size_t)rand() % n;
}

/* What the heap made usable since the last look. */
static void model_growth(void)
{
    size_t limit = ap__region_limit_granules();
    cr_assert_lt(limit, MOST);
    memset(model.clean + model.limit, true, limit - model.limit);
    model.limit = limit;
}

/* Start of the shortest run of at least `granules` free ones, the lowest of several; 0: none. */
static size_t model_best_fit(size_t granules)
{
    size_t best = 0;
    size_t best_length = SIZE_MAX;
    for (size_t at = model.first; at < model.limit;) {
        size_t length = 0;
        while (at + length < model.limit && model.owner[at + length] == 0) {
            length++;
        }
        if (length >= granules && length < best_length) {
            best = at;
            best_length = length;
        }
        at += length + 1;
    }
    return best;
}

/* A byte at each end of a granule, as a sign of who has it; clean ones must be zero before. */
static void stamp(size_t granule, uint8_t owner)
{
    volatile uint8_t *p = (void *)ap__region_address_of(granule);
    if (ap__region_is_clean(granule)) {
        cr_assert_eq(p[0] + p[AP_GRANULE / 2] + p[AP_GRANULE - 1], 0);
    }
    p[0] = p[AP_GRANULE - 1] = owner;
}

static void own(size_t first, size_t granules, uint8_t owner)
{
    for (size_t i = first; i < first + granules; i++) {
        cr_assert_eq(model.owner[i], 0, "nobody else has it");
        cr_assert_eq(ap__region_is_clean(i), model.clean[i]);
        model.owner[i] = owner;
        stamp(i, owner);
    }
}

static void disown(size_t first, size_t granules, uint8_t owner)
{
    for (size_t i = first; i < first + granules; i++) {
        const volatile uint8_t *p = (void *)ap__region_address_of(i);
        cr_assert(p[0] == owner && p[AP_GRANULE - 1] == owner, "nobody else wrote there");
        cr_assert_eq(model.owner[i], owner);
        model.owner[i] = 0;
        model.clean[i] = false;
    }
}

static void take_random(size_t slot)
{
    size_t granules = 1 + random_below(random_below(8) == 0 ? 300 : 12);
    size_t alignment = AP_GRANULE << random_below(random_below(4) == 0 ? 7 : 1);
    unsigned size_class = random_below(2) == 0 ? 0 : 1 + (unsigned)random_below(AP_CLASS_COUNT - 1);
    size_t wanted = granules + alignment / AP_GRANULE - 1;
    size_t fit = model_best_fit(wanted);
    struct ap__span *span = ap__page_heap_take(granules, alignment, size_class);
    cr_assert_not_null(span);
    cr_assert_eq(fit == 0, ap__region_limit_granules() != model.limit, "grows if it must, only");
    model_growth();
    fit = model_best_fit(wanted);
    size_t step = alignment / AP_GRANULE;
    size_t base = ap__region_base() / AP_GRANULE; /* granules are aligned as addresses */
    cr_assert_eq(ap__region_granule_of(span->start), (base + fit + step - 1) / step * step - base);
    own(ap__region_granule_of(span->start), granules, (uint8_t)(slot + 1));
    if (size_class == 0) {
        span->large.size_bytes = 1;
    }
    held[slot] = span;
}

static void resize_random(size_t slot)
{
    struct ap__span *span = held[slot];
    size_t old = span->granules;
    size_t granules = 1 + random_below(2 * old);
    size_t end = ap__region_granule_of(span->start) + old;
    if (granules > old) {
        size_t room = 0;
        while (end + room < model.limit && model.owner[end + room] == 0) {
            room++;
        }
        cr_assert_eq(ap__page_heap_extend(span, granules), room >= granules - old);
        if (room >= granules - old) {
            own(end, granules - old, (uint8_t)(slot + 1));
        }
    } else if (granules < old) {
        cr_assert(ap__page_heap_shorten(span, granules));
        disown(end - (old - granules), old - granules, (uint8_t)(slot + 1));
    }
}

static void give(size_t slot)
{
    struct ap__span *span = held[slot];
    disown(ap__region_granule_of(span->start), span->granules, (uint8_t)(slot + 1));
    ap__page_heap_give(span);
    held[slot] = NULL;
}

static void purge(void)
{
    size_t dirty = 0;
    for (size_t i = model.first; i < model.limit; i++) {
        if (model.owner[i] == 0 && !model.clean[i]) {
            dirty++;
            model.clean[i] = true;
        }
    }
    cr_assert_eq(ap__page_heap_purge_all(), dirty * AP_GRANULE);
}

static void compare_with_model(void)
{
    struct consistency_sums sums = page_heap_check();
    size_t unused = 0, dirty = 0, spans = 0;
    for (size_t i = model.first; i < model.limit; i++) {
        unused += model.owner[i] == 0;
        dirty += model.owner[i] == 0 && !model.clean[i];
    }
    for (size_t i = 0; i < HELD_MAX; i++) {
        spans += held[i] != NULL;
    }
    cr_assert_eq(sums.free_granules, unused);
    cr_assert_eq(sums.dirty_granules, dirty);
    cr_assert_eq(sums.large_spans + sums.small_spans, spans);
}

Test(page_heap_model, does_what_the_model_does_through_random_use, .timeout = 100)
{
    unsigned seed = (unsigned)time(NULL);
    printf("# page_heap: seed %u\n", seed);
    srand(seed);
    init(64 * GIB);
    model.first = model.limit = ap__region_first_granule();
    for (int round = 0; round < ROUNDS; round++) {
        size_t slot = random_below(HELD_MAX);
        if (held[slot] == NULL) {
            take_random(slot);
        } else if (held[slot]->state == AP__SPAN_LARGE && random_below(3) == 0) {
            resize_random(slot);
        } else {
            give(slot);
        }
        if (random_below(200) == 0) {
            purge();
        }
        if (round % CHECK_EVERY == 0) {
            compare_with_model();
        }
    }
    for (size_t slot = 0; slot < HELD_MAX; slot++) {
        if (held[slot] != NULL) {
            give(slot);
        }
    }
    cr_assert_eq(page_heap_check().free_spans, 1);
    purge();
    compare_with_model();
}
