/* SPDX-License-Identifier: MIT */
/*
 * curve.h: how much unused memory may stay, as time goes by.
 *
 * Pure arithmetic over steps of time. What becomes unused in a step may stay whole at first and is
 * gone STEPS steps later; in between it goes along a smooth curve, slowly, fast, slowly. So a heap that
 * breathes keeps what it is about to use again, and nothing stays for longer than the whole time.
 *
 * Idea: jemalloc's decay with its smoothstep.
 */
#ifndef AP_DECAY_CURVE_H
#define AP_DECAY_CURVE_H

#include "base/compiler.h"

enum { AP_CURVE_STEPS = 16 };

struct ap__curve {
    /* Bytes that became unused in each of the last steps; newest first. */
    size_t added[AP_CURVE_STEPS];
    size_t left_bytes; /* unused after the last step */
};

/*
 * Time goes on by `steps`; `unused_bytes` is what is unused now. Returns how many bytes may
 * stay unused; more must go, until unused_bytes of the next call or ap__curve_left() is told.
 */
size_t ap__curve_advance(struct ap__curve *curve, uint64_t steps, size_t unused_bytes);

/* What is unused after the purge that advance() asked for. */
void ap__curve_left(struct ap__curve *curve, size_t unused_bytes);

#endif
