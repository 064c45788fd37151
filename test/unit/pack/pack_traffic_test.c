/* SPDX-License-Identifier: MIT */
/*
 * pack_traffic_test.c: which blocks replace each other.
 * Goal: a size whose blocks are taken again at once is found, after a while and not before, also if half of them are;
 * growth and sessions are not; waits count; sizes of other kinds do not. Method: the sequences of calls that such
 * programs make.
 */
#include "pack/pack_traffic.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "pack/pack.h"

enum { SIZE = 16384, LONG = 20000 };

static struct ap__pack_traffic traffic;

static bool take(size_t size_bytes)
{
    return ap__pack_traffic_taken(&traffic, size_bytes, false);
}

static void give(size_t size_bytes)
{
    ap__pack_traffic_given(&traffic, size_bytes);
}

/* How many blocks that are given back and taken again it takes. */
static unsigned count_until_found(size_t size_bytes)
{
    for (unsigned i = 1; i < LONG; i++) {
        give(size_bytes);
        if (take(size_bytes)) {
            return i;
        }
    }
    return LONG;
}

/* So many at once, again and again: whether that is ever said to come and go. */
static bool is_session_found(size_t size_bytes, unsigned blocks)
{
    bool found = false;
    for (unsigned i = 0; i < LONG / blocks; i++) {
        for (unsigned k = 0; k < blocks; k++) {
            found |= take(size_bytes);
        }
        for (unsigned k = 0; k < blocks; k++) {
            give(size_bytes);
        }
    }
    return found;
}

Test(pack_traffic, a_size_whose_blocks_come_and_go_is_found_after_a_while)
{
    for (size_t size = AP__PACK_SIZE_MIN; size <= AP__PACK_SIZE_MAX; size += size / 3) {
        traffic = (struct ap__pack_traffic){0};
        unsigned count = count_until_found(size);
        bool is_long = size > 16384;
        cr_assert(is_long ? count > 56 && count < 72 : count > 24 && count < 64, "%zu: %u", size,
                  count);
    }
}

Test(pack_traffic, growth_is_not_found)
{
    for (unsigned i = 0; i < LONG; i++) {
        cr_assert(!take(SIZE));
    }
    for (unsigned i = 0; i < LONG; i++) {
        give(SIZE);
        for (unsigned k = 0; k < 3; k++) {
            cr_assert(!take(SIZE), "two of three stay");
        }
    }
}

Test(pack_traffic, it_is_said_each_time_that_it_is_found_anew)
{
    unsigned first = count_until_found(SIZE);
    for (unsigned i = 0; i < 10; i++) {
        unsigned again = count_until_found(SIZE);
        cr_assert(again + 1 >= first && again <= first, "%u, %u", first, again);
    }
    for (unsigned i = 0; i < LONG; i++) {
        cr_assert(!take(SIZE), "what was found once does not count in growth");
    }
}

Test(pack_traffic, what_comes_in_sessions_is_not_found_what_comes_in_pairs_is)
{
    for (size_t size = AP__PACK_SIZE_MIN; size <= AP__PACK_SIZE_MAX; size += size / 3) {
        for (unsigned blocks = 1; blocks <= 40; blocks++) {
            traffic = (struct ap__pack_traffic){0};
            unsigned most = size > 16384 ? 1 : 2;
            cr_assert_eq(is_session_found(size, blocks), blocks <= most, "%u of %zu", blocks, size);
        }
    }
}

/* Of so many blocks, each time one at random is freed or, if it is none, taken. Returns how often it was found. */
static unsigned count_found_at_random(unsigned blocks, size_t least, size_t most)
{
    static size_t sizes[1000];
    unsigned found = 0;
    for (unsigned i = 0; i < LONG; i++) {
        size_t *size = &sizes[(unsigned)rand() % blocks];
        if (*size != 0) {
            give(*size);
            *size = 0;
        } else {
            *size = least + (size_t)rand() % (most - least + 1);
            found += take(*size);
        }
    }
    return found;
}

Test(pack_traffic, blocks_that_replace_each_other_at_random_are_found_however_many)
{
    for (unsigned blocks = 4; blocks <= 1000; blocks *= 5) {
        srand(blocks);
        traffic = (struct ap__pack_traffic){0};
        cr_assert_gt(count_found_at_random(blocks, SIZE, SIZE), LONG / 500, "%u", blocks);
    }
}

Test(pack_traffic, so_are_those_of_random_sizes)
{
    srand(1);
    cr_assert_gt(count_found_at_random(1000, AP__PACK_SIZE_MIN, AP__PACK_SIZE_MAX), 1);
}

/* Long blocks of which one of `one_in` follows on a return, among short ones: whether that is found. `growing`: the short
 * ones stay, else they replace each other. */
static bool are_long_found(unsigned one_in, bool growing)
{
    enum { SHORT = 2000, LONG_SIZE = 40000 };
    bool found = false;
    traffic = (struct ap__pack_traffic){0};
    for (unsigned i = 0; i < LONG; i++) {
        if (i % one_in == 0) {
            give(LONG_SIZE);
        }
        for (unsigned k = 0; k < 3; k++) {
            if (!growing) {
                give(SHORT);
            }
            (void)take(SHORT);
        }
        found |= take(LONG_SIZE);
    }
    return found;
}

Test(pack_traffic, of_long_blocks_half_are_enough_only_where_all_replace_each_other)
{
    cr_assert(are_long_found(2, false));
    cr_assert(!are_long_found(3, false));
    cr_assert(!are_long_found(2, true));
    cr_assert(are_long_found(1, true));
}

Test(pack_traffic, waits_count)
{
    unsigned count = 1;
    while (!ap__pack_traffic_taken(&traffic, SIZE, true)) {
        count++;
        cr_assert_lt(count, LONG);
    }
    cr_assert(count > 24 && count < 64, "%u", count);
    traffic = (struct ap__pack_traffic){0};
    for (unsigned i = 0; i < LONG; i++) {
        cr_assert(!ap__pack_traffic_taken(&traffic, SIZE, i % 3 == 0), "a third of them");
    }
}

Test(pack_traffic, a_wait_is_no_more_than_a_block_that_came_back)
{
    struct ap__pack_traffic both = {0};
    for (unsigned i = 0; i < 20; i++) {
        give(SIZE);
        cr_assert(!take(SIZE));
        ap__pack_traffic_given(&both, SIZE);
        cr_assert(!ap__pack_traffic_taken(&both, SIZE, true));
    }
    cr_assert_eq(memcmp(&traffic, &both, sizeof both), 0);
}

/* The one kind of which a block came back last. */
static unsigned kind_given(void)
{
    unsigned kind = 0;
    while (kind < AP_PACK_KINDS && !traffic.given_last[kind]) {
        kind++;
    }
    return kind;
}

Test(pack_traffic, a_fine_class_and_the_next_are_one_kind_all_others_differ)
{
    unsigned before = 0;
    size_t first = AP__PACK_SIZE_MIN;
    for (size_t size = AP__PACK_SIZE_MIN; size <= AP__PACK_SIZE_MAX; size++) {
        traffic = (struct ap__pack_traffic){0};
        give(size);
        unsigned kind = kind_given();
        unsigned size_class = ap__class_of_size(size);
        size_class += ap__class_is_fine(size_class);
        cr_assert_lt(kind, AP_PACK_KINDS);
        cr_assert(kind == before || kind == before + 1);
        if (kind != before) {
            first = size;
        }
        cr_assert(first == AP__PACK_SIZE_MIN || first - 1 == ap__size_class[size_class - 2].size,
                  "%zu", size);
        before = kind;
    }
    cr_assert_eq(before, AP_PACK_KINDS - 1);
}

Test(pack_traffic, kinds_do_not_know_of_each_other)
{
    for (unsigned i = 0; i < LONG; i++) {
        give(SIZE);
        cr_assert(!take(2 * SIZE));
    }
}
