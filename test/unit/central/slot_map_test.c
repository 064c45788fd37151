/* SPDX-License-Identifier: MIT */
/*
 * slot_map_test.c: one span's occupancy bitmap.
 * Goal: slots are claimed lowest first, each once, and a release of a free slot is refused. Method: all
 * numbers of slots that a class has, claimed in pieces.
 */
#include "central/slot_map.h"

#include <criterion/criterion.h>

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
            unsigned got = ap__slot_map_claim(&span, size, blocks, 7);
            cr_assert_eq(got, slots - next < 7 ? slots - next : 7);
            for (unsigned i = 0; i < got; i++) {
                cr_assert_eq((uintptr_t)blocks[i], span.start + (next + i) * size);
                cr_assert(!ap__slot_map_is_free(&span, next + i));
            }
            next += got;
            cr_assert_eq(span.slots.free_slots, slots - next);
        }
        void *none;
        cr_assert_eq(ap__slot_map_claim(&span, size, &none, 1), 0);
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
    cr_assert_eq(ap__slot_map_claim(&span, 16, blocks, 300), 300);
    struct ap__slot_release release = ap__slot_map_release_begin(&span);
    static const unsigned slots[] = {299, 64, 5, 6, 63};
    for (unsigned i = 0; i < 5; i++) {
        cr_assert(ap__slot_map_release(&release, slots[i]));
        cr_assert(!ap__slot_map_release(&release, slots[i]));
    }
    ap__slot_map_release_end(&span, &release, 5);
    cr_assert_eq(span.slots.free_slots, 5);
    cr_assert_eq(ap__slot_map_claim(&span, 16, blocks, 300), 5);
    cr_assert_eq((uintptr_t)blocks[0], span.start + 5 * 16);
    cr_assert_eq((uintptr_t)blocks[4], span.start + 299 * 16);
}

Test(slot_map, a_released_slot_is_claimed_before_higher_ones)
{
    struct ap__span span = filled(300);
    void *blocks[300];
    cr_assert_eq(ap__slot_map_claim(&span, 16, blocks, 250), 250);
    cr_assert(release(&span, 130));
    cr_assert(release(&span, 3));
    cr_assert_eq(span.slots.free_slots, 52);
    cr_assert_eq(ap__slot_map_claim(&span, 16, blocks, 3), 3);
    cr_assert_eq((uintptr_t)blocks[0], span.start + 3 * 16);
    cr_assert_eq((uintptr_t)blocks[1], span.start + 130 * 16);
    cr_assert_eq((uintptr_t)blocks[2], span.start + 250 * 16);
}

Test(slot_map, releasing_a_free_slot_is_refused_and_changes_nothing)
{
    struct ap__span span = filled(100);
    cr_assert(!release(&span, 99));
    cr_assert_eq(span.slots.free_slots, 100);
    void *block;
    cr_assert_eq(ap__slot_map_claim(&span, 16, &block, 1), 1);
    cr_assert(release(&span, 0));
    cr_assert(!release(&span, 0));
    cr_assert_eq(span.slots.free_slots, 100);
}
