/* SPDX-License-Identifier: MIT */
/*
 * bits.h: arithmetic on words: alignment, powers of two, bit scans.
 *
 * Pure functions of their arguments. Undefined results are named at each function.
 */
#ifndef AP_BASE_BITS_H
#define AP_BASE_BITS_H

#include "base/compiler.h"

static inline bool ap__is_power_of_two(size_t x)
{
    return x != 0 && (x & (x - 1)) == 0;
}

/* `alignment` is a power of two. Wraps to a small number when x is within alignment of SIZE_MAX. */
static inline size_t ap__align_up(size_t x, size_t alignment)
{
    return (x + alignment - 1) & ~(alignment - 1);
}

static inline size_t ap__align_down(size_t x, size_t alignment)
{
    return x & ~(alignment - 1);
}

/* Position of the lowest set bit. Undefined for 0. */
static inline unsigned ap__lowest_bit(uint64_t x)
{
    return (unsigned)__builtin_ctzll(x);
}

/* Position of the highest set bit (floor of the base-2 logarithm). Undefined for 0. */
static inline unsigned ap__highest_bit(uint64_t x)
{
    return 63u - (unsigned)__builtin_clzll(x);
}

/* Smallest power of two not below x; x at least 1 and at most 2^63. */
static inline size_t ap__power_of_two_ceiling(size_t x)
{
    return x <= 1 ? 1 : (size_t)1 << (ap__highest_bit(x - 1) + 1);
}

static inline size_t ap__min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t ap__max(size_t a, size_t b)
{
    return a > b ? a : b;
}

#endif
