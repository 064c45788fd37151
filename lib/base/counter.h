/* SPDX-License-Identifier: MIT */
/*
 * counter.h: a number that one thread at a time changes and any may read.
 *
 * Writers are ordered by something else, a lock or that there is only one; so adding needs no read-modify-write. Readers
 * take it as it is: it may be late. relaxed throughout: nothing else follows from the number.
 */
#ifndef AP_BASE_COUNTER_H
#define AP_BASE_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

/* Adds, modulo 2^64: so the two's complement subtracts. */
static inline void ap__counter_add(_Atomic(uint64_t) *counter, uint64_t more)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more,
                          memory_order_relaxed);
}

#endif
