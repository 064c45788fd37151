/* SPDX-License-Identifier: MIT */
/*
 * bell.h: one thread sleeps until there is work; others ring.
 *
 * Does: a futex word. Ringing costs a load while the sleeper is awake, and one system call when it is
 * not. Does not: count, or keep a ring for later: a sleeper that has said it is about to sleep looks
 * for work once more before it does.
 * Callers of ring: any thread, holding any lock. One thread sleeps.
 */
#ifndef AP_OS_BELL_H
#define AP_OS_BELL_H

#include <stdatomic.h>

#include "base/compiler.h"

struct ap__bell {
    _Atomic(uint32_t) asleep;
};

/* The sleeper: from now on a ring wakes it, or keeps it from falling asleep. */
static inline void ap__bell_listen(struct ap__bell *bell)
{
    /* seq_cst: the look for work that follows comes after; pairs with the exchange in ring(). */
    atomic_store_explicit(&bell->asleep, 1, memory_order_seq_cst);
}

/* Sleeps until a ring since listen(), or `timeout_ms` (negative: for ever). */
void ap__bell_sleep(struct ap__bell *bell, int64_t timeout_ms);

/* The slow half of ring(). */
AP_COLD void ap__bell_wake(struct ap__bell *bell);

/*
 * After work was left. relaxed: a ring that misses a sleeper who is just listening is made good by the
 * sleeper's last look, a moment later.
 */
static inline void ap__bell_ring(struct ap__bell *bell)
{
    if (AP_UNLIKELY(atomic_load_explicit(&bell->asleep, memory_order_relaxed) != 0)) {
        ap__bell_wake(bell);
    }
}

#endif
