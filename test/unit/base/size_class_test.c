/* SPDX-License-Identifier: MIT */
/*
 * size_class_test.c: the size-class tables.
 * Goal: every property that size_class.h promises. Method: all sizes, all classes, all offsets.
 */
#include "base/size_class.h"

#include <criterion/criterion.h>

static size_t size_of(unsigned c)
{
    return ap__size_class[c].size;
}

Test(size_class, the_class_of_a_size_is_the_smallest_that_holds_it)
{
    for (size_t size = 0; size <= AP_SMALL_SIZE_MAX; size++) {
        unsigned c = ap__class_of_size(size);
        cr_assert(c > 0 && c < AP_CLASS_COUNT, "size %zu", size);
        cr_assert(size_of(c) >= size, "size %zu", size);
        cr_assert(c == 1 || size_of(c - 1) < size, "size %zu", size);
    }
}

Test(size_class, sizes_rise_are_multiples_of_16_and_waste_an_eighth_at_most)
{
    cr_assert_eq(size_of(1), AP_MIN_ALIGNMENT);
    cr_assert_eq(size_of(AP_CLASS_COUNT - 1), AP_SMALL_SIZE_MAX);
    for (unsigned c = 2; c < AP_CLASS_COUNT; c++) {
        cr_assert_gt(size_of(c), size_of(c - 1));
        cr_assert_eq(size_of(c) % AP_MIN_ALIGNMENT, 0);
        if (size_of(c) > AP_LINEAR_SIZE_MAX) {
            size_t worst_waste = size_of(c) - (size_of(c - 1) + 1);
            cr_assert_lt(worst_waste * 8, size_of(c));
        }
    }
}

static bool wastes_little(size_t granules, size_t size)
{
    return granules * AP_GRANULE % size * 64 <= granules * AP_GRANULE;
}

Test(size_class, spans_hold_their_slots_and_waste_a_64th_where_that_is_possible)
{
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        const struct ap__size_class *info = &ap__size_class[c];
        size_t span_bytes = info->span_granules * AP_GRANULE;
        cr_assert_eq(info->slots, span_bytes / info->size);
        cr_assert_leq(info->slots, AP_SLOTS_MAX);
        size_t slots_min = info->size > 32 << 10 ? 4 : 8; /* fewer are not worth a span */
        cr_assert_geq(info->slots, slots_min);
        bool possible = false;
        for (size_t granules = 1; granules <= 16; granules++) {
            possible |= granules * AP_GRANULE / info->size >= slots_min &&
                        wastes_little(granules, info->size);
        }
        cr_assert(!possible || wastes_little(info->span_granules, info->size), "class %u", c);
    }
}

Test(size_class, the_reciprocal_is_exact_at_every_offset)
{
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        size_t span_bytes = ap__size_class[c].span_granules * AP_GRANULE;
        for (size_t offset = 0; offset < span_bytes; offset++) {
            cr_assert_eq(ap__slot_of_offset(&ap__size_class[c], offset), offset / size_of(c),
                         "class %u", c);
        }
    }
}

Test(size_class, batches_are_2_to_64_blocks_and_64_kib_where_two_blocks_allow)
{
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        unsigned batch = ap__size_class[c].batch;
        cr_assert(batch >= 2 && batch <= AP_BATCH_MAX);
        cr_assert(batch == 2 || batch * size_of(c) <= AP_BATCH_BYTES_MAX);
    }
}

/* The next class holds all sizes of a fine one, and begins where the one before it ends. */
Test(size_class, every_second_class_beyond_128_bytes_is_fine)
{
    for (unsigned c = 0; c < AP_CLASS_COUNT; c++) {
        bool is_fine = ap__class_is_fine(c);
        cr_assert_eq(is_fine,
                     c != 0 && size_of(c) > AP_LINEAR_SIZE_MAX && !ap__class_is_fine(c - 1));
        if (is_fine) {
            size_t span = size_of(c + 1) - size_of(c - 1);
            cr_assert_eq(span, 2 * (size_of(c) - size_of(c - 1)));
            cr_assert_leq((span - 1) * 5, size_of(c + 1), "a fifth of the next at worst");
        }
    }
}

Test(size_class, the_class_above_a_fine_one_is_as_aligned)
{
    for (unsigned c = 0; c < AP_CLASS_COUNT; c++) {
        unsigned above = ap__class_above_fine(c);
        cr_assert_eq(above, ap__class_is_fine(c) ? c + 1 : 0);
        if (above != 0) {
            size_t alignment = size_of(c) & (~size_of(c) + 1);
            cr_assert_eq(size_of(above) % alignment, 0, "class %u", c);
        }
    }
}

Test(size_class, a_size_for_an_alignment_holds_both_and_has_an_aligned_class)
{
    for (size_t alignment = 1; alignment <= AP_GRANULE; alignment *= 2) {
        for (size_t size = 0; size <= AP_SMALL_SIZE_MAX; size += size / 16 + 1) {
            size_t rounded = ap__size_for_aligned(alignment, size);
            cr_assert(rounded <= AP_SMALL_SIZE_MAX && rounded >= size && rounded >= alignment);
            cr_assert_lt(rounded, ap__max(size, 1) + alignment, "%zu of %zu", size, alignment);
            cr_assert_eq(size_of(ap__class_of_size(rounded)) % alignment, 0, "%zu of %zu", size,
                         alignment);
        }
    }
    cr_assert_eq(ap__size_for_aligned(2 * AP_GRANULE, 16), SIZE_MAX);
    cr_assert_eq(ap__size_for_aligned(16, AP_SMALL_SIZE_MAX + 1), SIZE_MAX);
    cr_assert_eq(ap__size_for_aligned(16, SIZE_MAX), SIZE_MAX);
}
