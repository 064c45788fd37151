/* SPDX-License-Identifier: MIT */
/*
 * unit_map_test.c: the two bitmaps of a packed span.
 * Goal: claims, releases and changes of length mark exactly the units of the block, whatever words they lie in; searches
 * see runs as they are. Method: every place and length in a small map; random maps and operations beside an array of
 * units, whose seed is printed.
 */
#include "pack/unit_map.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { UNITS = 192, WORDS = UNITS / AP_UNIT_WORD_BITS, ROUNDS = 40000, MAPS = 300 };

static ap__unit_word words[2 * WORDS];
static const struct ap__unit_map map = {words, words + 1, UNITS};

/* By unit: which block it belongs to, 0 for none: blocks side by side have different numbers. */
static unsigned owner[UNITS];

static unsigned random_below(unsigned n)
{
    return (unsigned)rand() % n;
}

static void seed_random(void)
{
    unsigned seed = (unsigned)time(NULL);
    fprintf(stderr, "# unit_map: seed %u\n", seed);
    srand(seed);
}

/* ------------------------------------------------------------ the model */

static void model_set(unsigned unit, unsigned units, unsigned number)
{
    for (unsigned i = unit; i < unit + units; i++) {
        owner[i] = number;
    }
}

static bool model_is_start(unsigned unit)
{
    return owner[unit] != 0 && (unit == 0 || owner[unit - 1] != owner[unit]);
}

static unsigned model_length(unsigned unit)
{
    unsigned end = unit;
    while (end < UNITS && owner[end] == owner[unit]) {
        end++;
    }
    return end - unit;
}

/* Free units from `unit` on. */
static unsigned model_run(unsigned unit)
{
    return owner[unit] == 0 ? model_length(unit) : 0;
}

static void check(void)
{
    for (unsigned unit = 0; unit < UNITS; unit++) {
        bool is_last = owner[unit] != 0 && (unit + 1 == UNITS || owner[unit + 1] != owner[unit]);
        cr_assert_eq(ap__unit_is(map.used, unit), owner[unit] != 0, "unit %u", unit);
        cr_assert_eq(ap__unit_is(map.last, unit), is_last, "unit %u", unit);
        cr_assert_eq(ap__unit_map_is_start(&map, unit), model_is_start(unit), "unit %u", unit);
        cr_assert_eq(ap__unit_map_block(&map, unit), model_is_start(unit) ? model_length(unit) : 0,
                     "unit %u", unit);
        if (model_is_start(unit)) {
            cr_assert_eq(ap__unit_map_length(&map, unit), model_length(unit), "unit %u", unit);
        }
    }
}

static void clear(void)
{
    memset(words, 0, sizeof words);
    memset(owner, 0, sizeof owner);
}

static void claim(unsigned unit, unsigned units)
{
    static unsigned number;
    ap__unit_map_claim(&map, unit, units);
    model_set(unit, units, ++number);
}

/* Blocks and gaps of random length, to the last unit. */
static void fill_randomly(void)
{
    clear();
    unsigned most = 1 + random_below(90);
    for (unsigned unit = random_below(most); unit < UNITS;) {
        unsigned units = (unsigned)ap__min(1 + random_below(most), UNITS - unit);
        claim(unit, units);
        unit += units + (random_below(2) == 0 ? 0 : random_below(most));
    }
}

/* ------------------------------------------------------------ places and lengths */

Test(unit_map, a_span_has_two_bitmaps_of_a_bit_a_unit)
{
    ap__unit_word bits[8192 / 64 * 2];
    struct ap__span span = {.granules = 16, .unit_map = bits};
    cr_assert_eq(AP_UNIT_BYTES, 128);
    cr_assert_eq(ap__span_units(&span), 8192);
    cr_assert_eq(ap__unit_map_bytes(8192), sizeof bits);
    struct ap__unit_map of_span = ap__unit_map_of(&span);
    cr_assert_eq(of_span.used, bits);
    cr_assert_eq(of_span.last, bits + 1);
    cr_assert_eq(of_span.units, 8192);
}

Test(unit_map, single_bits_do_not_touch_others)
{
    for (unsigned unit = 0; unit < UNITS; unit++) {
        for (int one = 0; one <= 1; one++) {
            memset(words, one ? 0 : 0xff, sizeof words);
            ap__unit_set(map.last, unit, one);
            for (unsigned i = 0; i < UNITS; i++) {
                cr_assert_eq(ap__unit_is(map.last, i), (i == unit) == one);
                cr_assert_eq(ap__unit_is(map.used, i), !one);
            }
        }
    }
}

Test(unit_map, a_block_of_any_length_anywhere_comes_and_goes)
{
    for (unsigned unit = 0; unit < UNITS; unit++) {
        for (unsigned units = 1; units <= UNITS - unit; units++) {
            claim(unit, units);
            check();
            ap__unit_map_release(&map, unit, units);
            model_set(unit, units, 0);
            for (unsigned i = 0; i < 2 * WORDS; i++) {
                cr_assert_eq(words[i], 0);
            }
        }
    }
}

/* Two neighbours that touch a block on both sides, where there is room for them. */
static void surround(unsigned unit, unsigned units)
{
    if (unit != 0) {
        claim(unit > 70 ? unit - 70 : 0, unit > 70 ? 70 : unit);
    }
    if (unit + units < UNITS) {
        claim(unit + units, 1);
    }
}

Test(unit_map, a_block_between_neighbours_comes_and_goes)
{
    for (unsigned unit = 0; unit < UNITS; unit++) {
        for (unsigned units = 1; units <= UNITS - unit; units += 1 + units / 9) {
            clear();
            surround(unit, units);
            claim(unit, units);
            check();
            ap__unit_map_release(&map, unit, units);
            model_set(unit, units, 0);
            check();
        }
    }
}

/* ------------------------------------------------------------ length */

static void resize_alone(unsigned unit, unsigned before, unsigned units)
{
    clear();
    claim(unit, before);
    cr_assert_eq(ap__unit_map_resize(&map, unit, before, units), unit + units <= UNITS);
    if (unit + units <= UNITS) {
        unsigned number = owner[unit];
        model_set(unit, before, 0);
        model_set(unit, units, number);
    }
    check();
}

Test(unit_map, a_block_with_nothing_behind_it_gets_any_length_up_to_the_end)
{
    for (unsigned unit = 0; unit < UNITS; unit += 7) {
        for (unsigned before = 1; before <= UNITS - unit; before += 5) {
            for (unsigned units = 1; units <= UNITS - unit + 1; units += 3) {
                resize_alone(unit, before, units);
            }
            resize_alone(unit, before, UNITS - unit);
            resize_alone(unit, before, UNITS - unit + 1);
        }
    }
}

Test(unit_map, a_block_grows_up_to_its_neighbour_and_not_into_it)
{
    enum { UNIT = 40, BEFORE = 9 };
    for (unsigned neighbour = UNIT + BEFORE; neighbour < UNITS; neighbour++) {
        for (unsigned units = BEFORE + 1; units <= UNITS - UNIT; units++) {
            clear();
            claim(UNIT, BEFORE);
            claim(neighbour, 1);
            bool fits = UNIT + units <= neighbour;
            cr_assert_eq(ap__unit_map_resize(&map, UNIT, BEFORE, units), fits);
            model_set(UNIT, fits ? units : BEFORE, owner[UNIT]);
            check();
        }
    }
}

static void random_step(void)
{
    unsigned unit = random_below(UNITS);
    unsigned units = 1 + random_below(random_below(4) == 0 ? 100 : 12);
    unsigned length = model_length(unit);
    if (owner[unit] == 0) {
        if (length >= units) {
            claim(unit, units);
        }
    } else if (model_is_start(unit) && random_below(2) == 0) {
        ap__unit_map_release(&map, unit, length);
        model_set(unit, length, 0);
    } else if (model_is_start(unit)) {
        unsigned end = unit + length;
        unsigned room = end < UNITS ? model_run(end) : 0;
        bool fits = units <= length + room;
        cr_assert_eq(ap__unit_map_resize(&map, unit, length, units), fits);
        if (fits) {
            unsigned number = owner[unit];
            model_set(unit, length, 0);
            model_set(unit, units, number);
        }
    }
}

Test(unit_map, does_what_an_array_does_through_random_use)
{
    seed_random();
    for (unsigned round = 0; round < ROUNDS; round++) {
        random_step();
        check();
    }
}

/* ------------------------------------------------------------ searches */

static unsigned model_next(unsigned unit, unsigned end, bool used)
{
    while (unit < end && (owner[unit] != 0) != used) {
        unit++;
    }
    return unit < end ? unit : end;
}

Test(unit_map, the_next_unit_is_found_from_everywhere_to_everywhere)
{
    seed_random();
    for (unsigned i = 0; i < 30; i++) {
        fill_randomly();
        for (unsigned from = 0; from <= UNITS; from++) {
            for (unsigned end = from; end <= UNITS; end++) {
                cr_assert_eq(ap__unit_next(map.used, from, end, true), model_next(from, end, true));
                cr_assert_eq(ap__unit_next(map.used, from, end, false),
                             model_next(from, end, false));
            }
        }
    }
}

static void check_find(unsigned from, unsigned to, unsigned units)
{
    unsigned longest = 0;
    unsigned first = to;
    for (unsigned unit = from; unit < to && first == to; unit++) {
        if (model_run(unit) >= units) {
            first = unit;
        } else {
            longest = (unsigned)ap__max(longest, model_run(unit));
        }
    }
    unsigned said = 12345;
    cr_assert_eq(ap__unit_map_find(&map, from, to, units, &said), first, "[%u, %u): %u", from, to,
                 units);
    if (first == to) {
        cr_assert_eq(said, longest, "[%u, %u): %u", from, to, units);
    }
}

Test(unit_map, the_first_run_is_found_or_how_long_runs_there_are)
{
    seed_random();
    for (unsigned i = 0; i < MAPS; i++) {
        fill_randomly();
        for (unsigned units = 1; units <= UNITS; units++) {
            check_find(0, UNITS, units);
            unsigned from = random_below(UNITS);
            check_find(from, from + 1 + random_below(UNITS - from), units);
            check_find(64, 128, units);
        }
    }
    clear();
    for (unsigned from = 0; from < UNITS; from++) {
        check_find(from, UNITS, UNITS - from);
        check_find(from, UNITS, UNITS - from + 1);
        check_find(from, from + 1, 100);
    }
    claim(0, UNITS);
    check_find(0, UNITS, 1);
}

Test(unit_map, a_run_may_reach_beyond_where_it_has_to_begin)
{
    unsigned longest;
    clear();
    claim(0, 60);
    claim(100, 92);
    cr_assert_eq(ap__unit_map_find(&map, 0, 64, 40, &longest), 60);
    cr_assert_eq(ap__unit_map_find(&map, 0, 64, 41, &longest), 64);
    cr_assert_eq(longest, 40);
    cr_assert_eq(ap__unit_map_find(&map, 64, 128, 37, &longest), 128);
    cr_assert_eq(longest, 36, "what lies in front does not count");
    cr_assert_eq(ap__unit_map_find(&map, 100, 192, 1, &longest), 192);
    cr_assert_eq(longest, 0);
}

static void check_begin(unsigned unit, unsigned most)
{
    unsigned begin = unit;
    while (begin > 0 && owner[begin - 1] == 0) {
        begin--;
    }
    unsigned said = ap__unit_map_run_begin(&map, unit, most);
    if (unit - begin < most) {
        cr_assert_eq(said, begin, "%u, %u", unit, most);
    } else {
        /* Far enough in front, and of the same run. */
        cr_assert(said >= begin && said + most <= unit, "%u, %u: %u", unit, most, said);
    }
}

Test(unit_map, a_run_begins_behind_the_block_in_front_of_it)
{
    seed_random();
    for (unsigned i = 0; i < MAPS; i++) {
        fill_randomly();
        for (unsigned unit = 0; unit < UNITS; unit++) {
            if (owner[unit] == 0) {
                check_begin(unit, UNITS);
                check_begin(unit, 1 + random_below(UNITS));
            }
        }
    }
    clear();
    for (unsigned unit = 0; unit < UNITS; unit++) {
        check_begin(unit, UNITS);
        check_begin(unit, 1);
        check_begin(unit, 64);
    }
}
