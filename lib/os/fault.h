/* SPDX-License-Identifier: MIT */
/*
 * fault.h: a look at accesses to inaccessible memory (SIGSEGV) before they end the process.
 *
 * Does: installs one handler for SIGSEGV, which asks a function about the address and then lets the fault
 * take the course it would have taken without us: the handler that was there before, or the end of the
 * process by the same signal, at the same instruction. Does not: survive a fault, or a program that
 * installs a handler of its own afterwards (such a program gets the faults itself).
 */
#ifndef AP_OS_FAULT_H
#define AP_OS_FAULT_H

#include "base/compiler.h"

enum ap__access { AP__ACCESS_UNKNOWN, AP__ACCESS_READ, AP__ACCESS_WRITE };

/* For reports. */
const char *ap__access_name(enum ap__access access);

/*
 * Called in the signal handler; may do what a signal handler may. `caller`: for a stack trace (os/stack_trace.h), the
 * code that made the access, or that had called it; NULL: unknown.
 */
typedef void ap__fault_observer(uintptr_t address, enum ap__access access, const void *caller);

/* Once, at start. `false`: the kernel refused. */
bool ap__fault_watch(ap__fault_observer *observer);

#endif
