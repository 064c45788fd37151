/* SPDX-License-Identifier: MIT */
/*
 * own_lines_test.c: slots that share their cache lines with nobody.
 * Goal: what is claimed fills whole lines, lowest last, was free, and is all that changes; where such a run exists, one
 * is found. Method: random bitmaps of every class, against a search slot by slot. Seeds are printed.
 */
#include "central/own_lines.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 40, COUNT = 9, LINE = 64 };

static uint64_t bitmap[AP_SLOTS_MAX / 64], before[AP_SLOTS_MAX / 64];
static struct ap__span span;

static void fill(const struct ap__size_class *info, unsigned *seed, unsigned sparsity)
{
    memset(&span, 0, sizeof span);
    span.start = (uintptr_t)1 << 40;
    span.slots.bitmap = bitmap;
    ap__slot_map_fill(&span, info->slots);
    for (unsigned slot = 0; slot < info->slots; slot++) {
        if (((unsigned)rand_r(seed) >> 3) % (1u << sparsity) == 0) {
            bitmap[slot / 64] &= ~(UINT64_C(1) << slot % 64);
            span.slots.free_slots--;
        }
    }
    memcpy(before, bitmap, sizeof before);
}

static bool was_free(unsigned slot)
{
    return before[slot / 64] >> slot % 64 & 1;
}

/* Whether there are `group` free slots from one that starts a line. */
static bool exists(const struct ap__size_class *info, unsigned group)
{
    for (unsigned first = 0; first + group <= info->slots; first++) {
        unsigned free = 0;
        while (free < group && was_free(first + free)) {
            free++;
        }
        if (free == group && (size_t)first * info->size % LINE == 0) {
            return true;
        }
    }
    return false;
}

static void expect_whole_lines(const struct ap__size_class *info, void **blocks, unsigned got)
{
    uintptr_t start = (uintptr_t)blocks[got - 1];
    cr_assert_eq(start % LINE, 0);
    cr_assert_eq((start + (uintptr_t)got * info->size) % LINE, 0);
    for (unsigned i = 0; i < got; i++) {
        cr_assert_eq((uintptr_t)blocks[got - 1 - i], start + (uintptr_t)i * info->size,
                     "side by side");
        unsigned slot = ap__slot_of_offset(info, (uintptr_t)blocks[i] - span.start);
        cr_assert(was_free(slot) && !ap__slot_map_is_free(&span, slot));
        before[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    }
}

Test(own_lines, fill_whole_lines_and_are_found_where_there_are_any, .timeout = 120)
{
    unsigned seed = (unsigned)time(NULL);
    fprintf(stderr, "seed %u\n", seed);
    for (int round = 0; round < ROUNDS; round++) {
        for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
            const struct ap__size_class *info = &ap__size_class[c];
            unsigned group = ap__slots_per_lines(info->size);
            void *blocks[COUNT];
            fill(info, &seed, (unsigned)round % 8);
            unsigned free = span.slots.free_slots;
            bool findable = exists(info, group);
            unsigned got = ap__slot_map_claim_lines(&span, info, blocks, COUNT);
            cr_assert_eq(got != 0, findable, "class %u, round %d", c, round);
            cr_assert_leq(got, (unsigned)COUNT);
            if (got != 0) {
                expect_whole_lines(info, blocks, got);
            }
            cr_assert_eq(span.slots.free_slots, free - got);
            cr_assert_eq(memcmp(before, bitmap, info->slots / 64 * 8), 0, "nothing else changed");
        }
    }
}

Test(own_lines, fewer_blocks_than_a_line_holds_are_not_worth_one)
{
    void *blocks[COUNT];
    unsigned seed = 1;
    fill(&ap__size_class[1], &seed, 20);
    cr_assert_eq(ap__slots_per_lines(16), 4);
    cr_assert_eq(ap__slots_per_lines(48), 4);
    cr_assert_eq(ap__slots_per_lines(32), 2);
    cr_assert_eq(ap__slots_per_lines(64), 1);
    cr_assert_eq(ap__slots_per_lines(4096), 1);
    cr_assert_eq(ap__slot_map_claim_lines(&span, &ap__size_class[1], blocks, 3), 0);
}
