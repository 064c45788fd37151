/* SPDX-License-Identifier: MIT */
/*
 * curve.c: a sum of shares, by age.
 */
#include "decay/curve.h"

#include <string.h>

#include "base/bits.h"

/* What may stay so many steps (index + 1) after it became unused, of SHARE_WHOLE: 6x^5 - 15x^4 + 10x^3. */
enum { SHARE_WHOLE_SHIFT = 10 };
static const uint16_t share[AP_CURVE_STEPS] = {1022, 1008, 974, 918, 840, 742, 631, 512,
                                               393,  282,  184, 106, 50,  16,  2,   0};

static void shift(struct ap__curve *curve, size_t steps)
{
    size_t kept = AP_CURVE_STEPS - steps;
    memmove(curve->added + steps, curve->added, kept * sizeof curve->added[0]);
    memset(curve->added, 0, steps * sizeof curve->added[0]);
}

size_t ap__curve_advance(struct ap__curve *curve, uint64_t steps, size_t unused_bytes)
{
    shift(curve, (size_t)ap__min(steps, AP_CURVE_STEPS));
    curve->added[0] += unused_bytes > curve->left_bytes ? unused_bytes - curve->left_bytes : 0;
    curve->left_bytes = unused_bytes;
    size_t may_stay = 0;
    for (size_t i = 0; i < AP_CURVE_STEPS; i++) {
        may_stay += (curve->added[i] >> SHARE_WHOLE_SHIFT) * share[i];
    }
    return may_stay;
}

void ap__curve_left(struct ap__curve *curve, size_t unused_bytes)
{
    curve->left_bytes = unused_bytes;
}
