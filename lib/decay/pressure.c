/* SPDX-License-Identifier: MIT */
/*
 * pressure.c: one function with its context, one flag.
 *
 * Function and context change together, under a lock: a function must never be called with another's
 * context. It is called without the lock, since it may allocate, or set another function.
 */
#include "decay/pressure.h"

#include <errno.h>

#include "heap/heap_limits.h"
#include "heap/page_heap.h"
#include "os/lock.h"
#include "os/yield.h"

struct listener {
    ap__pressure_callback *function; /* NULL: none */
    void *context;
};

static struct ap__lock lock = AP_LOCK_INIT(AP__RANK_PRESSURE);
static struct listener listener; /* under `lock` */

static bool told; /* of the thread that does a step */

struct ap__lock *ap__pressure_lock(void)
{
    return &lock;
}

void ap__pressure_set_callback(ap__pressure_callback *callback, void *context)
{
    ap__lock_take(&lock);
    listener = (struct listener){callback, context};
    ap__lock_release(&lock);
}

static struct listener current(void)
{
    ap__lock_take(&lock);
    struct listener now = listener;
    ap__lock_release(&lock);
    return now;
}

void ap__pressure_tell(void)
{
    if (ap__heap_limits_pressure() != AP__PRESSURE_USED) {
        told = false;
        return;
    }
    if (told) {
        return;
    }
    struct listener now = current();
    if (now.function == NULL) {
        return;
    }
    AP__YIELD_POINT();
    struct ap__page_heap_stats stats;
    ap__page_heap_stats(&stats);
    size_t used = stats.usable_bytes - stats.free_bytes;
    size_t limit = ap__heap_limits_soft();
    /* The mark is as old as the last change of the heap: the limit may have been lifted since. */
    if (used > limit) {
        int saved_errno = errno; /* of whoever frees, or gets what it asked for */
        told = true;
        now.function(now.context, used, limit);
        errno = saved_errno;
    }
}
