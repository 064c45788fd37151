/* SPDX-License-Identifier: MIT */
/*
 * bell.c: futex wait and wake, by system call: libc's wrappers are cancellation points or do not exist.
 */
#include "os/bell.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "os/yield.h"

static void futex(struct ap__bell *bell, int operation, uint32_t value, const struct timespec *time)
{
    int saved_errno = errno;
    (void)syscall(SYS_futex, &bell->asleep, operation | FUTEX_PRIVATE_FLAG, value, time, NULL, 0);
    errno = saved_errno;
}

void ap__bell_sleep(struct ap__bell *bell, int64_t timeout_ms)
{
    AP__YIELD_POINT();
    struct timespec time = {timeout_ms / 1000, timeout_ms % 1000 * 1000000};
    futex(bell, FUTEX_WAIT, 1, timeout_ms < 0 ? NULL : &time);
    AP__YIELD_POINT();
    atomic_store_explicit(&bell->asleep, 0, memory_order_relaxed);
}

void ap__bell_wake(struct ap__bell *bell)
{
    AP__YIELD_POINT();
    /* seq_cst: pairs with listen(). One of the ringers makes the call. */
    if (atomic_exchange_explicit(&bell->asleep, 0, memory_order_seq_cst) != 0) {
        AP__YIELD_POINT();
        futex(bell, FUTEX_WAKE, 1, NULL);
    }
}
