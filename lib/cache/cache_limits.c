/* SPDX-License-Identifier: MIT */
/*
 * cache_limits.c: the account of bytes that thread caches may hold.
 *
 * A grant is room, not blocks: a list's capacity times its block size. So the bound holds without a
 * counter on the hit paths, at the price that unused capacity counts too; the caches give capacity
 * back when a visit finds it unused.
 */
#include "cache/cache_limits.h"

#include <stdatomic.h>

#include "heap/heap_limits.h"
#include "os/yield.h"

enum {
    CAPACITY_BLOCKS = 1023 /* four batches of the small classes, less the NULL */
};
#define INITIAL_BYTES ((size_t)64 << 10)
/* A thread that allocates a little of everything and then waits keeps little of everything. */
#define INITIAL_REFILL_BYTES ((size_t)512)
/* Of blocks up to MIDDLING_SIZE; half up to BIG_SIZE, a quarter beyond: the bigger the block, the less a
 * slow path weighs beside its use, and the more of its span one cached block keeps from draining. */
#define CAPACITY_BYTES ((size_t)256 << 10)
#define MIDDLING_SIZE ((size_t)2 << 10)
#define BIG_SIZE ((size_t)8 << 10)
/* What one refill may bring to a list that only grows. */
#define STREAK_BYTES ((size_t)32 << 10)
#define GRANT_STEP ((size_t)64 << 10)
/* Under pressure caches are small, not gone: without any, each call takes locks, eight times the time in a program
 * that allocates a lot, and a control group may be full for as long as the process lives. */
#define PRESSED_THREAD_DIVISOR 8
#define PRESSED_HEAP_DIVISOR 16 /* the part of what the heap has in use */

static size_t thread_max;
static size_t total_max;
static _Atomic(size_t) granted_total;

void ap__cache_limits_init(size_t thread_bytes_max, size_t total_bytes_max)
{
    thread_max = thread_bytes_max;
    total_max = total_bytes_max;
}

struct bounds {
    size_t thread_bytes, total_bytes;
};

static struct bounds bounds_now(void)
{
    if (AP_LIKELY(ap__heap_limits_pressure() == AP__PRESSURE_NONE)) {
        return (struct bounds){thread_max, total_max};
    }
    return (struct bounds){thread_max / PRESSED_THREAD_DIVISOR,
                           ap__min(total_max, ap__heap_limits_used() / PRESSED_HEAP_DIVISOR)};
}

size_t ap__cache_limits_grant(size_t granted_bytes, size_t more_bytes)
{
    size_t step = ap__align_up(more_bytes, GRANT_STEP);
    struct bounds bounds = bounds_now();
    if (granted_bytes + step > bounds.thread_bytes) {
        return 0;
    }
    /* relaxed: a number that nothing else depends on. */
    size_t total = atomic_load_explicit(&granted_total, memory_order_relaxed);
    do {
        if (total + step > bounds.total_bytes) {
            return 0;
        }
        AP__YIELD_POINT();
    } while (!atomic_compare_exchange_weak_explicit(&granted_total, &total, total + step,
                                                    memory_order_relaxed, memory_order_relaxed));
    return step;
}

void ap__cache_limits_release(size_t bytes)
{
    atomic_fetch_sub_explicit(&granted_total, bytes, memory_order_relaxed);
}

size_t ap__cache_limits_granted(void)
{
    return atomic_load_explicit(&granted_total, memory_order_relaxed);
}

void ap__cache_limits_reset_in_child(size_t granted_bytes)
{
    atomic_store_explicit(&granted_total, granted_bytes, memory_order_relaxed);
}

unsigned ap__cache_limits_initial_capacity(unsigned size_class)
{
    size_t blocks = INITIAL_BYTES / ap__size_class[size_class].size;
    return (unsigned)ap__min(ap__max(blocks, 1), AP_CACHE_INITIAL_BLOCKS);
}

unsigned ap__cache_limits_initial_refill(unsigned size_class)
{
    size_t blocks = INITIAL_REFILL_BYTES / ap__size_class[size_class].size;
    return (unsigned)ap__min(ap__max(blocks, 1), AP_CACHE_INITIAL_BLOCKS);
}

unsigned ap__cache_limits_refill_max(unsigned size_class)
{
    size_t blocks = STREAK_BYTES / ap__size_class[size_class].size;
    return (unsigned)ap__min(ap__max(blocks, ap__size_class[size_class].batch), AP_STREAK_MAX);
}

unsigned ap__cache_limits_capacity_max(unsigned size_class)
{
    size_t size = ap__size_class[size_class].size;
    size_t bytes = size <= MIDDLING_SIZE ? CAPACITY_BYTES
                   : size <= BIG_SIZE    ? CAPACITY_BYTES / 2
                                         : CAPACITY_BYTES / 4;
    return (unsigned)ap__min(ap__max(bytes / size, ap__size_class[size_class].batch),
                             CAPACITY_BLOCKS);
}
