/* SPDX-License-Identifier: MIT */
/*
 * canary_test.c: trailers, slack and zeros.
 * Goal: every byte that a program may not write is watched, in every slot and for every size. Method: one
 * byte after the other is changed.
 */
#include "hardened/canary.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { SLOT = 256, ROOM = SLOT - AP__TRAILER_BYTES };

static _Alignas(16) unsigned char slot[SLOT];

static void set_up(void)
{
    ap__canary_set_secret(UINT64_C(0x1234567890ABCDEF));
    memset(slot, 0, SLOT);
}

TestSuite(canary, .init = set_up);

static bool is_whole(size_t expected_size)
{
    size_t size = 0;
    return ap__canary_look(slot, SLOT, &size) == AP__CANARY_LIVE && size == expected_size &&
           ap__canary_slack_is_whole(slot, SLOT, size);
}

Test(canary, any_byte_beyond_the_size_is_watched)
{
    for (size_t size = 0; size <= ROOM; size++) {
        memset(slot, 0, SLOT);
        ap__canary_set(slot, SLOT, size);
        cr_assert(is_whole(size));
        for (size_t at = 0; at < SLOT; at++) {
            unsigned char kept = slot[at];
            for (int bit = 0; bit < 8; bit++) {
                slot[at] = (unsigned char)(kept ^ 1u << bit);
                cr_assert_eq(is_whole(size), at < size, "size %zu, byte %zu", size, at);
            }
            slot[at] = 0; /* the NUL of a string that is too long */
            cr_assert_eq(is_whole(size), at < size || kept == 0, "size %zu, byte %zu", size, at);
            cr_assert(at < size || at > size || kept != 0,
                      "the first byte behind the block is zero");
            slot[at] = kept;
        }
    }
}

Test(canary, a_block_of_another_address_or_secret_is_damaged)
{
    _Alignas(16) static unsigned char other[SLOT];
    size_t size;
    ap__canary_set(slot, SLOT, 100);
    memcpy(other, slot, SLOT);
    cr_assert_eq(ap__canary_look(other, SLOT, &size), AP__CANARY_DAMAGED);
    ap__canary_set_secret(1);
    cr_assert_eq(ap__canary_look(slot, SLOT, &size), AP__CANARY_DAMAGED);
}

Test(canary, states_follow_each_other)
{
    size_t size = 0;
    cr_assert_eq(ap__canary_look(slot, SLOT, &size), AP__CANARY_FREE);
    ap__canary_set(slot, SLOT, 17);
    cr_assert_not(ap__canary_claim(slot, SLOT, 16));
    cr_assert(ap__canary_claim(slot, SLOT, 17));
    cr_assert_eq(ap__canary_look(slot, SLOT, &size), AP__CANARY_FREED);
    cr_assert_not(ap__canary_claim(slot, SLOT, 17));
    ap__canary_clear(slot, SLOT);
    cr_assert_eq(ap__canary_look(slot, SLOT, &size), AP__CANARY_FREE);
}

Test(canary, words_at_random_are_damage)
{
    srand(7);
    for (int i = 0; i < 1000000; i++) {
        uint64_t word = (uint64_t)rand() << 42 ^ (uint64_t)rand() << 21 ^ (uint64_t)rand();
        size_t size;
        memcpy(slot + ROOM, &word, sizeof word);
        cr_assert(word == 0 || ap__canary_look(slot, SLOT, &size) == AP__CANARY_DAMAGED);
    }
}

Test(canary, zeros_and_fillings_are_looked_through)
{
    cr_assert(ap__is_zero(slot, 0));
    for (size_t bytes = 1; bytes <= SLOT; bytes++) {
        memset(slot, 0, SLOT);
        cr_assert(ap__is_zero(slot, bytes));
        ap__canary_fill(slot, bytes);
        cr_assert(ap__canary_is_filled(slot, bytes));
        cr_assert_not(ap__is_zero(slot, bytes));
        for (size_t at = 0; at < bytes; at++) {
            slot[at] ^= 1;
            cr_assert_not(ap__canary_is_filled(slot, bytes));
            slot[at] ^= 1;
        }
    }
}
