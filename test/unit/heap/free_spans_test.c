/* SPDX-License-Identifier: MIT */
/*
 * free_spans_test.c: the treap of free spans.
 * Goal: best fit, lowest address among equals. Method: random insertions and removals beside a plain
 * array that is searched from end to end. The seed is printed.
 */
#include "heap/free_spans.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SPANS = 400, ROUNDS = 20000, LENGTHS = 40 };

static struct ap__span spans[SPANS];
static bool present[SPANS];

static const struct ap__span *naive_best_fit(size_t granules)
{
    const struct ap__span *best = NULL;
    for (size_t i = 0; i < SPANS; i++) {
        const struct ap__span *span = &spans[i];
        if (present[i] && span->granules >= granules &&
            (best == NULL || span->granules < best->granules ||
             (span->granules == best->granules && span->start < best->start))) {
            best = span;
        }
    }
    return best;
}

Test(free_spans, empty_set_fits_nothing)
{
    struct ap__free_spans set = {NULL, 0};
    cr_assert_null(ap__free_spans_best_fit(&set, 1));
}

Test(free_spans, agrees_with_a_linear_search)
{
    unsigned seed = (unsigned)time(NULL);
    cr_log_info("seed %u", seed);
    printf("# free_spans: seed %u\n", seed);
    srand(seed);
    struct ap__free_spans set = {NULL, 0};
    size_t count = 0;
    for (size_t i = 0; i < SPANS; i++) {
        spans[i].start = (i + 1) * LENGTHS * AP_GRANULE;
    }
    for (int round = 0; round < ROUNDS; round++) {
        size_t i = (size_t)rand() % SPANS;
        if (present[i]) {
            ap__free_spans_remove(&set, &spans[i]);
            count--;
        } else {
            spans[i].granules = 1 + (size_t)rand() % LENGTHS;
            ap__free_spans_insert(&set, &spans[i]);
            count++;
        }
        present[i] = !present[i];
        cr_assert_eq(set.count, count);
        size_t wanted = 1 + (size_t)rand() % (LENGTHS + 2);
        cr_assert_eq(ap__free_spans_best_fit(&set, wanted), naive_best_fit(wanted));
    }
}

Test(free_spans, removing_what_is_not_there_stops_the_process, .signal = SIGABRT)
{
    struct ap__free_spans set = {NULL, 0};
    spans[0].granules = 1;
    ap__free_spans_remove(&set, &spans[0]);
}
