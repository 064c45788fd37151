/* SPDX-License-Identifier: MIT */
/*
 * slot_map_test.c: one span's occupancy bitmap.
 * Goal: slots are claimed lowest first, each once, and written downwards, and nothing beside them; a release of a free
 * slot is refused, singly and in runs. Method: all numbers of slots that a class has, claimed in pieces; runs of all
 * lengths at all bits, between guard words; random runs beside a reference. Seeds are printed.
 */
#include "central/slot_map.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t bitmap[AP_SLOTS_MAX / 64];

static struct ap__span filled(unsigned slots)
{
    struct ap__span span = {.start = AP_GRANULE};
    span.slots.bitmap = bitmap;
    ap__slot_map_fill(&span, slots);
    return span;
}

Test(slot_map, claims_every_slot_once_from_the_lowest_up)
{
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        unsigned slots = ap__size_class[c].slots;
        size_t size = ap__size_class[c].size;
        struct ap__span span = filled(slots);
        unsigned next = 0;
        while (next < slots) {
            void *blocks[7];
            unsigned got = ap__slot_map_claim(&span, size, blocks + 7, 7);
            cr_assert_eq(got, slots - next < 7 ? slots - next : 7);
            for (unsigned i = 0; i < got; i++) {
                cr_assert_eq((uintptr_t)blocks[6 - i], span.start + (next + i) * size);
                cr_assert(!ap__slot_map_is_free(&span, next + i));
            }
            next += got;
            cr_assert_eq(span.slots.free_slots, slots - next);
        }
        void *none;
        cr_assert_eq(ap__slot_map_claim(&span, size, &none + 1, 1), 0);
    }
}

static bool release(struct ap__span *span, unsigned slot)
{
    struct ap__slot_release release = ap__slot_map_release_begin(span);
    bool was_claimed = ap__slot_map_release(&release, slot);
    ap__slot_map_release_end(span, &release, was_claimed);
    return was_claimed;
}

Test(slot_map, slots_released_together_count_at_the_end)
{
    struct ap__span span = filled(300);
    void *blocks[300];
    cr_assert_eq(ap__slot_map_claim(&span, 16, blocks + 300, 300), 300);
    struct ap__slot_release release = ap__slot_map_release_begin(&span);
    static const unsigned slots[] = {299, 64, 5, 6, 63};
    for (unsigned i = 0; i < 5; i++) {
        cr_assert(ap__slot_map_release(&release, slots[i]));
        cr_assert(!ap__slot_map_release(&release, slots[i]));
    }
    ap__slot_map_release_end(&span, &release, 5);
    cr_assert_eq(span.slots.free_slots, 5);
    cr_assert_eq(ap__slot_map_claim(&span, 16, blocks + 300, 300), 5);
    cr_assert_eq((uintptr_t)blocks[299], span.start + 5 * 16);
    cr_assert_eq((uintptr_t)blocks[295], span.start + 299 * 16);
}

Test(slot_map, a_released_slot_is_claimed_before_higher_ones)
{
    struct ap__span span = filled(300);
    void *blocks[300];
    cr_assert_eq(ap__slot_map_claim(&span, 16, blocks + 250, 250), 250);
    cr_assert(release(&span, 130));
    cr_assert(release(&span, 3));
    cr_assert_eq(span.slots.free_slots, 52);
    cr_assert_eq(ap__slot_map_claim(&span, 16, blocks + 3, 3), 3);
    cr_assert_eq((uintptr_t)blocks[2], span.start + 3 * 16);
    cr_assert_eq((uintptr_t)blocks[1], span.start + 130 * 16);
    cr_assert_eq((uintptr_t)blocks[0], span.start + 250 * 16);
}

Test(slot_map, releasing_a_free_slot_is_refused_and_changes_nothing)
{
    struct ap__span span = filled(100);
    cr_assert(!release(&span, 99));
    cr_assert_eq(span.slots.free_slots, 100);
    void *block;
    cr_assert_eq(ap__slot_map_claim(&span, 16, &block + 1, 1), 1);
    cr_assert(release(&span, 0));
    cr_assert(!release(&span, 0));
    cr_assert_eq(span.slots.free_slots, 100);
}

enum { RUN_SLOTS = 192, GUARDS = 4, PLACES = GUARDS + AP_SLOT_WORD_BITS + GUARDS };

/* A span of which only a run is free, and one more slot. */
static struct ap__span with_free_run(unsigned first, unsigned length, unsigned other)
{
    void *blocks[RUN_SLOTS];
    struct ap__span span = filled(RUN_SLOTS);
    cr_assert_eq(ap__slot_map_claim(&span, 48, blocks + RUN_SLOTS, RUN_SLOTS), RUN_SLOTS);
    for (unsigned i = 0; i < length; i++) {
        cr_assert(release(&span, first + i));
    }
    cr_assert(release(&span, other));
    return span;
}

static void expect_run(unsigned first, unsigned length, unsigned other)
{
    void *blocks[PLACES], *expected[PLACES];
    void **end = expected + PLACES - GUARDS;
    struct ap__span span = with_free_run(first, length, other);
    memset(blocks, 0xa5, sizeof blocks);
    memset(expected, 0xa5, sizeof expected);
    for (unsigned i = 0; i < length; i++) {
        *--end = (void *)(span.start + (first + i) * 48);
    }
    cr_assert_eq(ap__slot_map_claim(&span, 48, blocks + PLACES - GUARDS, length), length);
    cr_assert_eq(memcmp(blocks, expected, sizeof blocks), 0, "%u from %u, %u", length, first,
                 other);
    cr_assert_eq(span.slots.free_slots, 1);
    for (unsigned slot = 0; slot < RUN_SLOTS; slot++) {
        cr_assert_eq(ap__slot_map_is_free(&span, slot), slot == other);
    }
}

Test(slot_map, a_run_of_any_length_at_any_bit_is_written_downwards_and_nothing_beside_it)
{
    for (unsigned first = 0; first < AP_SLOT_WORD_BITS; first++) {
        for (unsigned length = 1; length <= AP_SLOT_WORD_BITS; length++) {
            expect_run(first, length, first + length);     /* the run goes on */
            expect_run(first, length, first + length + 1); /* goes on after a gap */
            expect_run(first, length, RUN_SLOTS - 1);      /* is alone in its word, or two */
        }
    }
}

/* What the functions must do, a slot at a time. */
struct reference {
    bool is_free[AP_SLOTS_MAX];
    unsigned free_slots;
};

static void check_against(const struct reference *reference, const struct ap__span *span,
                          unsigned slots)
{
    unsigned lowest = slots;
    for (unsigned slot = slots; slot-- > 0;) {
        cr_assert_eq(ap__slot_map_is_free(span, slot), reference->is_free[slot], "slot %u", slot);
        lowest = reference->is_free[slot] ? slot : lowest;
    }
    cr_assert_eq(span->slots.free_slots, reference->free_slots);
    cr_assert(lowest == slots || span->slots.first_word <= lowest / AP_SLOT_WORD_BITS);
}

static void release_some(struct reference *reference, struct ap__span *span, unsigned slots,
                         unsigned *seed)
{
    unsigned first = (unsigned)rand_r(seed) % slots;
    unsigned most = slots - first < AP_SLOT_WORD_BITS ? slots - first : AP_SLOT_WORD_BITS;
    unsigned count = 1 + (unsigned)rand_r(seed) % most;
    bool all_claimed = true;
    for (unsigned i = 0; i < count; i++) {
        all_claimed &= !reference->is_free[first + i];
    }
    struct ap__slot_release release = ap__slot_map_release_begin(span);
    cr_assert_eq(ap__slot_map_release_run(&release, first, count), all_claimed, "%u, %u", first,
                 count);
    ap__slot_map_release_end(span, &release, all_claimed ? count : 0);
    for (unsigned i = 0; all_claimed && i < count; i++) {
        reference->is_free[first + i] = true;
        reference->free_slots++;
    }
}

static void claim_some(struct reference *reference, struct ap__span *span, unsigned slots,
                       unsigned *seed)
{
    void *blocks[AP_BATCH_MAX];
    unsigned wanted = 1 + (unsigned)rand_r(seed) % AP_BATCH_MAX;
    unsigned got = ap__slot_map_claim(span, 48, blocks + AP_BATCH_MAX, wanted);
    unsigned found = 0;
    for (unsigned slot = 0; slot < slots && found < wanted; slot++) {
        if (reference->is_free[slot]) {
            cr_assert_eq((uintptr_t)blocks[AP_BATCH_MAX - 1 - found], span->start + slot * 48);
            reference->is_free[slot] = false;
            reference->free_slots--;
            found++;
        }
    }
    cr_assert_eq(got, found);
}

Test(slot_map, runs_are_claimed_and_released_as_their_slots_would_be)
{
    static struct reference reference;
    unsigned seed = (unsigned)time(NULL);
    fprintf(stderr, "# slot_map: seed %u\n", seed);
    static const unsigned sizes[] = {1, 2, 63, 64, 65, 128, 300, 1365, AP_SLOTS_MAX};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned slots = sizes[i];
        struct ap__span span = filled(slots);
        memset(&reference, true, sizeof reference);
        reference.free_slots = slots;
        for (int round = 0; round < 2000; round++) {
            if (rand_r(&seed) & 64) {
                claim_some(&reference, &span, slots, &seed);
            } else {
                release_some(&reference, &span, slots, &seed);
            }
            if (round % 16 == 0) {
                check_against(&reference, &span, slots);
            }
        }
        check_against(&reference, &span, slots);
    }
}
