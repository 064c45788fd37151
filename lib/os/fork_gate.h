/* SPDX-License-Identifier: MIT */
/*
 * fork_gate.h: work that must not be in the middle when another thread forks.
 *
 * Does: counts those at work and those that fork. Each adds to its own count, then looks at the other's: of two that
 * meet, one at least sees the other, so all accesses are sequentially consistent. A fork waits for who is inside; who
 * finds a fork under way gives up or waits, as suits him. Does not: keep anybody out, or wait for ever: a fork by the
 * handler of a signal may have interrupted the very work that it would wait for.
 * Callers: any thread, with no lock of ours. The idea is Dekker's.
 */
#ifndef AP_OS_FORK_GATE_H
#define AP_OS_FORK_GATE_H

#include <sched.h>
#include <stdatomic.h>

#include "base/compiler.h"

struct ap__fork_gate {
    atomic_uint inside;
    atomic_uint forks;
};

/* Begins such work; ap__fork_gate_leave() ends it, whatever the answer. `false`: a fork is under way. */
static inline bool ap__fork_gate_enter(struct ap__fork_gate *gate)
{
    atomic_fetch_add(&gate->inside, 1);
    return atomic_load(&gate->forks) == 0;
}

static inline void ap__fork_gate_leave(struct ap__fork_gate *gate)
{
    atomic_fetch_sub(&gate->inside, 1);
}

/* Whether anybody else is inside; `mine`: how often this thread itself is. */
static inline bool ap__fork_gate_is_used(const struct ap__fork_gate *gate, unsigned mine)
{
    return atomic_load(&gate->inside) != mine;
}

/* A fork begins: waits some milliseconds for the others inside. */
static inline void ap__fork_gate_close(struct ap__fork_gate *gate, unsigned mine)
{
    enum { TRIES = 10000 };
    atomic_fetch_add(&gate->forks, 1);
    for (int i = 0; i < TRIES && ap__fork_gate_is_used(gate, mine); i++) {
        (void)sched_yield();
    }
}

/* It has ended, in the parent. */
static inline void ap__fork_gate_open(struct ap__fork_gate *gate)
{
    atomic_fetch_sub(&gate->forks, 1);
}

/* In the child, whose only thread is inside `mine` times. `is_closed`: an outer fork of this thread goes on. */
static inline void ap__fork_gate_reset_in_child(struct ap__fork_gate *gate, unsigned mine,
                                                bool is_closed)
{
    atomic_store(&gate->inside, mine);
    atomic_store(&gate->forks, is_closed);
}

#endif
