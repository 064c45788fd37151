/* SPDX-License-Identifier: MIT */
/*
 * span_pages_test.c: which pages of a partly used span are free.
 * Goal: exactly the pages that no used block touches, in no more runs than promised. Method: random bitmaps, sparse and
 * dense, of every class, against a look at each byte's owner. Seeds are printed.
 */
#include "central/span_pages.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PAGE = 4096, PAGES_MAX = 16 * 16, ROUNDS = 60 };

static uint64_t bitmap[AP_SLOTS_MAX / 64];
static struct ap__span span;

/* Each slot is used with a probability of 2^-sparsity. */
static void fill(unsigned c, unsigned *seed, unsigned sparsity)
{
    const struct ap__size_class *info = &ap__size_class[c];
    memset(&span, 0, sizeof span);
    span.start = (uintptr_t)1 << 40;
    span.granules = info->span_granules;
    span.size_class = (uint8_t)c;
    span.slots.bitmap = bitmap;
    ap__slot_map_fill(&span, info->slots);
    for (unsigned slot = 0; slot < info->slots; slot++) {
        if (((unsigned)rand_r(seed) >> 3) % (1u << sparsity) == 0) {
            bitmap[slot / 64] &= ~(UINT64_C(1) << slot % 64);
        }
    }
}

static void expect(const struct ap__size_class *info, bool *free_pages)
{
    memset(free_pages, true, PAGES_MAX);
    for (unsigned slot = 0; slot < info->slots; slot++) {
        size_t first = (size_t)slot * info->size / PAGE;
        size_t last = ((size_t)(slot + 1) * info->size - 1) / PAGE;
        for (size_t page = first; page <= last && !ap__slot_map_is_free(&span, slot); page++) {
            free_pages[page] = false;
        }
    }
}

Test(span_pages, are_those_that_no_used_block_touches, .timeout = 120)
{
    unsigned seed = (unsigned)time(NULL);
    fprintf(stderr, "# span_pages: seed %u\n", seed);
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        const struct ap__size_class *info = &ap__size_class[c];
        size_t pages = info->span_granules * AP_GRANULE / PAGE;
        cr_assert_leq(pages, PAGES_MAX);
        for (unsigned round = 0; round < ROUNDS; round++) {
            bool expected[PAGES_MAX];
            bool found[PAGES_MAX] = {false};
            fill(c, &seed, round % 10);
            expect(info, expected);
            unsigned slot = 0;
            struct ap__page_run run;
            while ((run = ap__span_free_pages(&span, info, PAGE, &slot)).bytes != 0) {
                cr_assert(run.start % PAGE == 0 && run.bytes % PAGE == 0);
                for (size_t at = run.start - span.start; at < run.start - span.start + run.bytes;
                     at += PAGE) {
                    cr_assert(!found[at / PAGE], "class %u: page %zu twice", c, at / PAGE);
                    found[at / PAGE] = true;
                }
            }
            cr_assert_arr_eq(found, expected, pages * sizeof(bool), "class %u, round %u", c, round);
        }
    }
}

/* Between two runs lies a used block, and a page that it touches. */
Test(span_pages, are_no_more_runs_than_a_purge_has_room_for)
{
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        const struct ap__size_class *info = &ap__size_class[c];
        size_t pages = info->span_granules * AP_GRANULE / PAGE;
        size_t pieces = info->slots + 1u; /* and what lies behind the last block */
        size_t fewer = pages < pieces ? pages : pieces;
        cr_assert_leq((fewer + 1) / 2, AP_SPAN_RUNS_MAX, "class %u", c);
    }
}
