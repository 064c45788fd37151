/* SPDX-License-Identifier: MIT */
/*
 * pack_traffic_test.c: which blocks come and go.
 * Goal: a size whose blocks are taken again at once is found, after a while and not before; growth and sessions are not;
 * waits count; sizes of other kinds do not. Method: the sequences of calls that such programs make.
 */
#include "pack/pack_traffic.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#include "pack/pack.h"

enum {
    SIZE = 16384, /* of which the cache that is imitated holds four */
    LONG = 20000
};

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
        cr_assert(count > 64 && count < 128, "%zu: %u", size, count);
    }
}

Test(pack_traffic, growth_is_not_found)
{
    for (unsigned i = 0; i < LONG; i++) {
        cr_assert(!take(SIZE));
    }
    for (unsigned i = 0; i < LONG; i++) {
        give(SIZE);
        cr_assert(!take(SIZE));
        cr_assert(!take(SIZE), "half of them stay");
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

Test(pack_traffic, sessions_of_a_dozen_blocks_are_not_found_where_the_cache_holds_eight)
{
    for (size_t size = 8192; size <= AP__PACK_SIZE_MAX; size += size / 3) {
        traffic = (struct ap__pack_traffic){0};
        cr_assert(!is_session_found(size, 12), "%zu", size);
    }
}

Test(pack_traffic, sessions_of_as_many_as_a_cache_holds_are_found)
{
    static const struct {
        size_t size;
        unsigned blocks;
    } cases[] = {{1152, 32}, {2048, 32}, {4096, 16}, {8192, 8}, {16384, 4}, {65536, 1}};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        traffic = (struct ap__pack_traffic){0};
        cr_assert(is_session_found(cases[i].size, cases[i].blocks), "%zu", cases[i].size);
        traffic = (struct ap__pack_traffic){0};
        cr_assert(!is_session_found(cases[i].size, 2 * cases[i].blocks), "%zu", cases[i].size);
    }
}

Test(pack_traffic, four_blocks_that_replace_each_other_at_random_are_found)
{
    unsigned held = 0, found = 0;
    srand(1);
    for (unsigned i = 0; i < LONG; i++) {
        if (held == 0 || (held < 4 && rand() % 2 == 0)) {
            found += take(SIZE);
            held++;
        } else {
            give(SIZE);
            held--;
        }
    }
    cr_assert_gt(found, 0);
}

Test(pack_traffic, waits_count)
{
    unsigned count = 1;
    while (!ap__pack_traffic_taken(&traffic, SIZE, true)) {
        count++;
        cr_assert_lt(count, LONG);
    }
    cr_assert(count > 64 && count < 128, "%u", count);
    traffic = (struct ap__pack_traffic){0};
    for (unsigned i = 0; i < LONG; i++) {
        cr_assert(!ap__pack_traffic_taken(&traffic, SIZE, i % 2 == 0), "half of them");
    }
}

Test(pack_traffic, a_wait_uses_up_a_block_as_well)
{
    give(SIZE);
    ap__pack_traffic_taken(&traffic, SIZE, true);
    for (unsigned kind = 0; kind < AP_PACK_KINDS; kind++) {
        cr_assert_eq(traffic.stock[kind], 0);
    }
}

/* The one kind of which there is a block. */
static unsigned kind_in_stock(void)
{
    unsigned kind = 0;
    while (kind < AP_PACK_KINDS && traffic.stock[kind] == 0) {
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
        unsigned kind = kind_in_stock();
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
