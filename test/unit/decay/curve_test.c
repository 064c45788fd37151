/* SPDX-License-Identifier: MIT */
/*
 * curve_test.c: how much unused memory may stay.
 * Goal: everything at first, nothing after sixteen steps, ever less in between without a cliff; memory
 * that is used again and given back again counts anew. Method: made-up amounts and steps.
 */
#include "decay/curve.h"

#include <criterion/criterion.h>

#define MIB ((size_t)1 << 20)

/* As decay.c does it: what may not stay goes. Returns what is left. */
static size_t advance(struct ap__curve *curve, uint64_t steps, size_t unused)
{
    size_t may_stay = ap__curve_advance(curve, steps, unused);
    unused = unused < may_stay ? unused : may_stay;
    ap__curve_left(curve, unused);
    return unused;
}

Test(curve, what_became_unused_at_once_goes_smoothly)
{
    struct ap__curve curve = {0};
    size_t before = 1024 * MIB, left = before;
    for (int step = 1; step <= AP_CURVE_STEPS; step++) {
        left = advance(&curve, 1, left);
        cr_assert_leq(left, before, "never more");
        cr_assert_leq(before - left, 128 * MIB, "no cliff: step %d gives %zu MiB", step,
                      (before - left) / MIB);
        cr_assert(step != 1 || left >= 1000 * MIB, "nearly all at first");
        cr_assert(step != AP_CURVE_STEPS / 2 || left == 512 * MIB, "half at half time");
        before = left;
    }
    cr_assert_eq(left, 0, "nothing after the whole time");
}

Test(curve, steps_that_were_slept_through_count)
{
    struct ap__curve one = {0}, eight = {0};
    size_t left = advance(&one, 1, 64 * MIB);
    for (int step = 0; step < 8; step++) {
        left = advance(&one, 1, left);
    }
    cr_assert_eq(advance(&eight, 8, advance(&eight, 1, 64 * MIB)), left);
    cr_assert_eq(advance(&eight, UINT64_MAX, left), 0, "an hour later nothing of it stays");
}

Test(curve, a_heap_that_breathes_keeps_its_breath)
{
    struct ap__curve curve = {0};
    size_t unused = 0;
    for (int breath = 0; breath < 50; breath++) {
        unused = advance(&curve, 1, 100 * MIB); /* it breathes out ... */
        cr_assert_geq(unused, 90 * MIB, "breath %d", breath);
        unused = advance(&curve, 1, 0); /* ... and in */
    }
}

Test(curve, each_part_goes_when_its_own_time_is_over)
{
    struct ap__curve curve = {0};
    size_t left = advance(&curve, 1, 160 * MIB);
    for (int step = 1; step < AP_CURVE_STEPS; step++) {
        left = advance(&curve, 1, left + 10 * MIB);
        cr_assert_geq(left, 9 * MIB, "what is new stays for now");
    }
    left = advance(&curve, 1, left);
    cr_assert_leq(left, (AP_CURVE_STEPS - 1) * 10 * MIB, "the first part is gone");
    cr_assert_neq(left, 0);
}
