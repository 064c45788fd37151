/* SPDX-License-Identifier: MIT */
/*
 * quarantine_test.c: the queue of freed memory.
 * Goal: first in, first out, never more bytes than the bound, nothing lost, also without memory for the
 * queue. Method: entries of made-up addresses.
 */
#include "hardened/quarantine.h"

#include <criterion/criterion.h>

#include "support/os_faults.h"

enum { BOUND = 64000, SMALL = 16, MANY = 64 };

static void set_up(void)
{
    ap__quarantine_init(BOUND);
}

TestSuite(quarantine, .init = set_up, .timeout = 60);

static struct ap__quarantined entry(size_t number, uint32_t bytes)
{
    return (struct ap__quarantined){(void *)(number * 16), bytes, 1};
}

static size_t pop_and_check(size_t next, bool everything)
{
    struct ap__quarantined entries[MANY];
    unsigned got;
    do {
        got = ap__quarantine_pop(entries, MANY, everything);
        for (unsigned i = 0; i < got; i++) {
            cr_assert_eq(entries[i].p, (void *)(next * 16));
            next++;
        }
    } while (got == MANY);
    return next;
}

Test(quarantine, keeps_the_order_and_the_bound)
{
    size_t out = 1;
    for (size_t in = 1; in <= 100000; in++) {
        uint32_t bytes = in % 7 == 0 ? 4096 : SMALL;
        cr_assert(ap__quarantine_push(entry(in, bytes)));
        out = pop_and_check(out, false);
        struct ap__quarantine_stats stats;
        ap__quarantine_stats(&stats);
        cr_assert_leq(stats.block_bytes, BOUND);
        cr_assert_eq(stats.blocks, in + 1 - out);
        cr_assert_geq(stats.block_bytes + 4096 + SMALL, in < 1000 ? 0 : BOUND / 2);
    }
    cr_assert_eq(pop_and_check(out, true), 100001);
}

Test(quarantine, small_entries_are_bounded_by_places)
{
    size_t out = 1;
    for (size_t in = 1; in <= 5000; in++) {
        cr_assert(ap__quarantine_push(entry(in, 1)), "%zu", in);
        out = pop_and_check(out, false);
    }
    cr_assert_gt(out, 3000);
}

Test(quarantine, what_is_larger_than_the_bound_does_not_wait)
{
    cr_assert_not(ap__quarantine_push(entry(1, BOUND + 1)));
    cr_assert(ap__quarantine_push(entry(1, BOUND)));
    cr_assert_eq(pop_and_check(1, false), 1);
}

Test(quarantine, without_memory_for_the_queue_nothing_waits)
{
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    cr_assert_not(ap__quarantine_push(entry(1, SMALL)));
    os_faults_reset();
    cr_assert(ap__quarantine_push(entry(1, SMALL)));
    cr_assert_eq(pop_and_check(1, true), 2);
}

Test(quarantine, of_no_bytes_takes_nothing)
{
    ap__quarantine_init(0);
    cr_assert_not(ap__quarantine_push(entry(1, SMALL)));
}
