/* SPDX-License-Identifier: MIT */
/*
 * os_barrier_test.c: a barrier on behalf of others.
 * Goal: it registers by itself, once; a refusal at any of its calls is told, and errno is left alone. What
 * it orders is seen in test/unit/cache/idle_test.c and test/stress.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/os.h"
#include "support/os_faults.h"

enum { STALE_ERRNO = 12345 };

/* Kernels before 4.14 do not have it. */
static void require_support(void)
{
    enum { QUERY = 0, PRIVATE_EXPEDITED = 1 << 3 };
    long supported = syscall(SYS_membarrier, QUERY, 0, 0);
    if (supported < 0 || (supported & PRIVATE_EXPEDITED) == 0) {
        cr_skip("no private expedited barriers here");
    }
    os_faults_reset();
}

Test(os_barrier, registers_once)
{
    require_support();
    errno = STALE_ERRNO;
    cr_assert(ap__os_barrier());
    cr_assert_eq(os_faults_count(OS_FAULTS_MEMBARRIER), 3, "refused, registered, done");
    cr_assert(ap__os_barrier());
    cr_assert_eq(os_faults_count(OS_FAULTS_MEMBARRIER), 4);
    cr_assert_eq(errno, STALE_ERRNO);
}

Test(os_barrier, a_refusal_is_told)
{
    require_support();
    errno = STALE_ERRNO;
    for (unsigned long nth = 1; nth <= 3; nth++) {
        os_faults_fail_from(OS_FAULTS_MEMBARRIER, nth);
        cr_assert_not(ap__os_barrier(), "call %lu", nth);
        os_faults_reset();
    }
    cr_assert_eq(errno, STALE_ERRNO);
    cr_assert(ap__os_barrier());
}
