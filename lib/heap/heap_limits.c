/* SPDX-License-Identifier: MIT */
/*
 * heap_limits.c: two bounds, one word, and what is in use above the soft one.
 */
#include "heap/heap_limits.h"

#include <stdatomic.h>

#include "os/yield.h"

/* relaxed throughout: numbers that nothing else depends on. */
static _Atomic(size_t) hard = SIZE_MAX;
static _Atomic(size_t) soft = SIZE_MAX;
static _Atomic(size_t)
    used_above_soft; /* bytes; of use under pressure only, and written only then */
static _Atomic(uint8_t) pressure;

void ap__heap_limits_set_hard(size_t bytes)
{
    atomic_store_explicit(&hard, bytes, memory_order_relaxed);
}

void ap__heap_limits_set_soft(size_t bytes)
{
    atomic_store_explicit(&soft, bytes, memory_order_relaxed);
}

size_t ap__heap_limits_hard(void)
{
    return atomic_load_explicit(&hard, memory_order_relaxed);
}

size_t ap__heap_limits_soft(void)
{
    return atomic_load_explicit(&soft, memory_order_relaxed);
}

size_t ap__heap_limits_used(void)
{
    return atomic_load_explicit(&used_above_soft, memory_order_relaxed);
}

enum ap__pressure ap__heap_limits_pressure(void)
{
    return (enum ap__pressure)atomic_load_explicit(&pressure, memory_order_relaxed);
}

void ap__heap_limits_note(size_t used_bytes, size_t dirty_bytes)
{
    size_t bound = ap__heap_limits_soft();
    enum ap__pressure now = used_bytes > bound                 ? AP__PRESSURE_USED
                            : used_bytes + dirty_bytes > bound ? AP__PRESSURE_UNUSED
                                                               : AP__PRESSURE_NONE;
    if (AP_UNLIKELY(now != AP__PRESSURE_NONE)) {
        atomic_store_explicit(&used_above_soft, used_bytes, memory_order_relaxed);
    }
    if (AP_UNLIKELY(now != ap__heap_limits_pressure())) {
        AP__YIELD_POINT();
        atomic_store_explicit(&pressure, (uint8_t)now, memory_order_relaxed);
    }
}
