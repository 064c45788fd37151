/* SPDX-License-Identifier: MIT */
/*
 * hash.h: a keyed mix of an address.
 *
 * Fibonacci hashing (Knuth, TAOCP vol. 3, 6.4): multiply by 2^64 divided by the golden ratio and
 * keep the high bits. The key is mixed in first, so that an outsider who chooses sizes cannot
 * choose which addresses collide.
 */
#ifndef AP_BASE_HASH_H
#define AP_BASE_HASH_H

#include "base/compiler.h"

#define AP_GOLDEN_RATIO_64 UINT64_C(0x9E3779B97F4A7C15)

/* All 64 bits are usable; the high ones are the best mixed. */
static inline uint64_t ap__hash_address(uint64_t address, uint64_t key)
{
    uint64_t x = (address ^ key) * AP_GOLDEN_RATIO_64;
    x ^= x >> 32;
    return x * AP_GOLDEN_RATIO_64;
}

#endif
