/* SPDX-License-Identifier: MIT */
/*
 * bits_test.c: arithmetic on words.
 * Goal: every function is right at both ends of its range. Method: compare with definitions that
 * need no trick, over all powers of two and their neighbours.
 */
#include "base/bits.h"

#include <criterion/criterion.h>

enum { WORD_BITS = 64 };

Test(bits, a_power_of_two_has_exactly_one_bit)
{
    cr_assert_not(ap__is_power_of_two(0));
    for (unsigned bit = 0; bit < WORD_BITS; bit++) {
        size_t power = (size_t)1 << bit;
        cr_assert(ap__is_power_of_two(power), "2^%u", bit);
        if (bit >= 2) {
            cr_assert_not(ap__is_power_of_two(power - 1), "2^%u - 1", bit);
            cr_assert_not(ap__is_power_of_two(power + 1), "2^%u + 1", bit);
        }
        for (unsigned other = 0; other < bit; other++) {
            cr_assert_not(ap__is_power_of_two(power | (size_t)1 << other));
        }
    }
}

Test(bits, align_up_is_the_next_multiple_and_align_down_the_last)
{
    for (size_t alignment = 1; alignment <= 4096; alignment *= 2) {
        for (size_t x = 0; x < 3 * alignment; x++) {
            cr_assert_eq(ap__align_up(x, alignment), (x + alignment - 1) / alignment * alignment);
            cr_assert_eq(ap__align_down(x, alignment), x / alignment * alignment);
        }
    }
}

Test(bits, align_up_wraps_to_a_small_number_at_the_end_of_the_range)
{
    cr_assert_eq(ap__align_up(SIZE_MAX, 4096), 0);
    cr_assert_eq(ap__align_up(SIZE_MAX - 4095, 4096), SIZE_MAX - 4095);
    cr_assert_eq(ap__align_up(SIZE_MAX - 4094, 4096), 0);
    cr_assert_eq(ap__align_down(SIZE_MAX, 4096), SIZE_MAX - 4095);
}

Test(bits, lowest_and_highest_bit_bracket_the_word)
{
    for (unsigned low = 0; low < WORD_BITS; low++) {
        for (unsigned high = low; high < WORD_BITS; high++) {
            uint64_t x = UINT64_C(1) << low | UINT64_C(1) << high;
            cr_assert_eq(ap__lowest_bit(x), low);
            cr_assert_eq(ap__highest_bit(x), high);
        }
    }
    cr_assert_eq(ap__lowest_bit(UINT64_MAX), 0);
    cr_assert_eq(ap__highest_bit(UINT64_MAX), 63);
}

Test(bits, power_of_two_ceiling_is_the_smallest_not_below)
{
    cr_assert_eq(ap__power_of_two_ceiling(1), 1);
    for (unsigned bit = 1; bit < WORD_BITS; bit++) {
        size_t power = (size_t)1 << bit;
        cr_assert_eq(ap__power_of_two_ceiling(power), power);
        if (power / 2 + 1 < power) {
            cr_assert_eq(ap__power_of_two_ceiling(power / 2 + 1), power);
            cr_assert_eq(ap__power_of_two_ceiling(power - 1), power);
        }
    }
}

Test(bits, min_and_max_pick_one_of_their_arguments)
{
    cr_assert_eq(ap__min(3, 5), 3);
    cr_assert_eq(ap__min(5, 3), 3);
    cr_assert_eq(ap__max(3, 5), 5);
    cr_assert_eq(ap__max(5, 3), 5);
    cr_assert_eq(ap__min(SIZE_MAX, 0), 0);
    cr_assert_eq(ap__max(SIZE_MAX, 0), SIZE_MAX);
    cr_assert_eq(ap__max(7, 7), 7);
}
