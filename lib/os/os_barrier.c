/* SPDX-License-Identifier: MIT */
/*
 * os_barrier.c: a memory barrier on behalf of others, by membarrier(2).
 *
 * Registered with the first call that finds it is not: in a process with several threads the kernel may take some
 * tens of milliseconds for that, once.
 */
#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/os.h"

static long membarrier(int command)
{
    return syscall(SYS_membarrier, command, 0, 0);
}

bool ap__os_barrier(void)
{
    int saved_errno = errno;
    /* EPERM: nobody in this process has registered. */
    bool done = membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0 ||
                (errno == EPERM && membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0 &&
                 membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0);
    errno = saved_errno;
    return done;
}
