/* SPDX-License-Identifier: MIT */
/*
 * seccomp.h: the kernel itself answers chosen system calls with an error, or ends the process.
 *
 * Does: installs a filter that stays for the rest of the process and for what it executes. Does not:
 * look at more than the number of a call and one word of its arguments. For children of a test only:
 * a filter cannot be taken off. Unlike os_faults.h this needs no linker's help, so it reaches the
 * shared library, and the error may be any.
 */
#ifndef TEST_SUPPORT_SECCOMP_H
#define TEST_SUPPORT_SECCOMP_H

#include <stdbool.h>
#include <stddef.h>

enum { SECCOMP_CALLS_MAX = 64, SECCOMP_KILL = -1 };

/* Whether this kernel lets a process filter its own calls. */
bool seccomp_is_available(void);

/* These calls fail with `error`, all others do what they do. */
bool seccomp_refuse(const int *calls, size_t count, int error);

/* The same for all threads there are, and will be; not for those of other processes. */
bool seccomp_refuse_in_all_threads(const int *calls, size_t count, int error);

/* All calls but these fail with `error`, or end the process by SIGSYS if it is SECCOMP_KILL. */
bool seccomp_allow_only(const int *calls, size_t count, int error);

/* The call ends the process by SIGSYS if none of the bits `flags` is set in argument `argument`. */
bool seccomp_kill_without_flag(int call, unsigned argument, unsigned flags);

#endif
