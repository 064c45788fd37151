/* SPDX-License-Identifier: MIT */
/*
 * pressure.c: one function, one flag.
 */
#include "decay/pressure.h"

#include <stdatomic.h>

#include "heap/heap_limits.h"
#include "heap/page_heap.h"
#include "os/yield.h"

/* What set_callback() writes and tell() reads: the context first, the function last. */
static _Atomic(void *) callback_context;
static _Atomic(ap__pressure_callback *) callback_function;

static bool told; /* of the thread that does a step */

void ap__pressure_set_callback(ap__pressure_callback *callback, void *context)
{
    atomic_store_explicit(&callback_function, NULL, memory_order_relaxed);
    AP__YIELD_POINT();
    atomic_store_explicit(&callback_context, context, memory_order_relaxed);
    AP__YIELD_POINT();
    /* release: pairs with the acquire in tell(): who sees the function sees its context. */
    atomic_store_explicit(&callback_function, callback, memory_order_release);
}

void ap__pressure_tell(void)
{
    if (ap__heap_limits_pressure() != AP__PRESSURE_USED) {
        told = false;
        return;
    }
    ap__pressure_callback *callback =
        atomic_load_explicit(&callback_function, memory_order_acquire);
    if (callback == NULL || told) {
        return;
    }
    told = true;
    AP__YIELD_POINT();
    struct ap__page_heap_stats stats;
    ap__page_heap_stats(&stats);
    callback(atomic_load_explicit(&callback_context, memory_order_relaxed),
             stats.usable_bytes - stats.free_bytes, ap__heap_limits_soft());
}
