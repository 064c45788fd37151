/* SPDX-License-Identifier: MIT */
/*
 * hash_test.c: the keyed mix of an address.
 * Goal: no two addresses share a hash, the high bits spread evenly over what an allocator really
 * hashes (multiples of 64 KiB), and the key decides which addresses meet. Method: count.
 */
#include "base/hash.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { GRANULE_SHIFT = 16, BUCKET_BITS = 10, BUCKETS = 1 << BUCKET_BITS, PER_BUCKET = 64 };

static unsigned bucket_of(uint64_t hash)
{
    return (unsigned)(hash >> (64 - BUCKET_BITS));
}

static int compare_words(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Longest of the buckets when `step`-spaced addresses are dropped into them. */
static unsigned fullest_bucket(uint64_t step, uint64_t key)
{
    unsigned count[BUCKETS] = {0};
    unsigned fullest = 0;
    for (uint64_t i = 0; i < (uint64_t)BUCKETS * PER_BUCKET; i++) {
        unsigned b = bucket_of(ap__hash_address(UINT64_C(0x7f0000000000) + i * step, key));
        if (++count[b] > fullest) {
            fullest = count[b];
        }
    }
    return fullest;
}

Test(hash, different_addresses_never_share_a_hash)
{
    enum { N = 200000 };
    uint64_t *hashes = malloc(N * sizeof *hashes);
    cr_assert_not_null(hashes);
    for (uint64_t i = 0; i < N; i++) {
        hashes[i] = ap__hash_address(i << GRANULE_SHIFT, 0x1234567890abcdef);
    }
    qsort(hashes, N, sizeof *hashes, compare_words);
    for (size_t i = 1; i < N; i++) {
        cr_assert_neq(hashes[i - 1], hashes[i]);
    }
    free(hashes);
}

Test(hash, high_bits_spread_for_every_usual_spacing)
{
    static const uint64_t keys[] = {0, 1, 0xdeadbeefcafef00d, UINT64_MAX};
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        for (unsigned shift = GRANULE_SHIFT; shift <= 24; shift++) {
            /* A uniform hash has at most about 64 + 5 * 8 in the fullest of 1024 buckets. */
            unsigned fullest = fullest_bucket(UINT64_C(1) << shift, keys[k]);
            cr_assert_leq(fullest, 2 * PER_BUCKET, "key %#lx, step 2^%u: %u",
                          (unsigned long)keys[k], shift, fullest);
        }
    }
}

Test(hash, the_key_decides_which_addresses_collide)
{
    /* Addresses that fall into one bucket under one key must not do so under another. */
    unsigned together = 0, still_together = 0;
    uint64_t first = 0;
    for (uint64_t i = 1; together < 200; i++) {
        uint64_t address = i << GRANULE_SHIFT;
        if (bucket_of(ap__hash_address(address, 11)) != 5) {
            continue;
        }
        if (first == 0) {
            first = address;
            continue;
        }
        together++;
        still_together += bucket_of(ap__hash_address(address, 0x9876543210fedcba)) ==
                          bucket_of(ap__hash_address(first, 0x9876543210fedcba));
    }
    cr_assert_lt(still_together, together / 4, "%u of %u", still_together, together);
}

Test(hash, is_a_function_of_its_arguments)
{
    cr_assert_eq(ap__hash_address(0x10000, 7), ap__hash_address(0x10000, 7));
    cr_assert_neq(ap__hash_address(0x10000, 7), ap__hash_address(0x10000, 8));
}
