/* SPDX-License-Identifier: MIT */
/*
 * fork_gate_test.c: who is at work, and who forks.
 * Goal: a fork that finds nobody inside can rely on it until it opens the gate; who enters meanwhile is told; a fork
 * does not wait for itself, nor for ever; a child begins with what its only thread has. Method: two threads at the
 * gate, many times; what one alone sees.
 */
#include "os/fork_gate.h"

#include <criterion/criterion.h>
#include <pthread.h>

TestSuite(fork_gate, .timeout = 60);

enum { ROUNDS = 200000, LOOKS = 8 };

static struct ap__fork_gate gate;
static atomic_bool is_over;
static atomic_bool at_work; /* by leave of the gate */
static atomic_uint refusals;

static void *work(void *unused)
{
    while (!atomic_load(&is_over)) {
        bool may_work = ap__fork_gate_enter(&gate);
        if (may_work) {
            atomic_store(&at_work, true);
            atomic_store(&at_work, false);
        }
        ap__fork_gate_leave(&gate);
        atomic_fetch_add(&refusals, !may_work);
    }
    return unused;
}

Test(fork_gate, nobody_works_while_a_fork_has_found_nobody)
{
    pthread_t thread;
    unsigned alone = 0;
    cr_assert_eq(pthread_create(&thread, NULL, work, NULL), 0);
    for (int i = 0; i < ROUNDS || alone == 0 || atomic_load(&refusals) == 0; i++) {
        ap__fork_gate_close(&gate, 0);
        bool is_alone = !ap__fork_gate_is_used(&gate, 0);
        alone += is_alone;
        for (int look = 0; is_alone && look < LOOKS; look++) {
            cr_assert_not(atomic_load(&at_work), "in round %d", i);
        }
        ap__fork_gate_open(&gate);
    }
    atomic_store(&is_over, true);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_not(ap__fork_gate_is_used(&gate, 0));
}

Test(fork_gate, a_fork_waits_neither_for_itself_nor_for_ever)
{
    cr_assert(ap__fork_gate_enter(&gate));
    ap__fork_gate_close(&gate, 1);
    cr_assert_not(ap__fork_gate_is_used(&gate, 1));
    cr_assert_not(ap__fork_gate_enter(&gate)); /* from now on as if another stayed */
    ap__fork_gate_close(&gate, 1);
    cr_assert(ap__fork_gate_is_used(&gate, 1));
    ap__fork_gate_open(&gate);
    ap__fork_gate_leave(&gate);
    cr_assert_not(ap__fork_gate_enter(&gate), "one of two forks is still under way");
    ap__fork_gate_open(&gate);
    cr_assert(ap__fork_gate_enter(&gate));
}

Test(fork_gate, a_child_begins_anew)
{
    (void)ap__fork_gate_enter(&gate); /* another thread's */
    ap__fork_gate_close(&gate, 0);
    ap__fork_gate_reset_in_child(&gate, 0, false);
    cr_assert_not(ap__fork_gate_is_used(&gate, 0));
    cr_assert(ap__fork_gate_enter(&gate));
    ap__fork_gate_leave(&gate);
    ap__fork_gate_reset_in_child(&gate, 1, true);
    cr_assert_not(ap__fork_gate_is_used(&gate, 1));
    ap__fork_gate_leave(&gate);
    cr_assert_not(ap__fork_gate_enter(&gate), "an outer fork is still under way");
}
