/* SPDX-License-Identifier: MIT */
/*
 * stack_trace.h: who called, for reports.
 *
 * libc's backtrace() loads an unwinder on its first call, which allocates; ap__stack_trace_prepare() makes
 * that call, once, from a place where allocation is allowed. Afterwards a trace allocates nothing and
 * takes no lock of ours. Where libc has no backtrace(), traces are empty.
 *
 * The unwinder has a lock, too, and calls malloc() and free() while it holds it: when it sorts what a program
 * has registered of code made at run time, for the program's exception or for a trace. A trace taken in such a call would
 * wait for the lock that its own thread holds. So whoever takes one says from where the heap was called.
 */
#ifndef AP_OS_STACK_TRACE_H
#define AP_OS_STACK_TRACE_H

#include "base/compiler.h"

enum { AP__STACK_FRAMES_MAX = 16 };

struct ap__stack_trace {
    void *frames[AP__STACK_FRAMES_MAX]; /* return addresses, the innermost first */
    unsigned count;                     /* of them; 0: unknown */
};

/* Call it holding no lock, from no allocation. */
void ap__stack_trace_prepare(void);

/*
 * Whether this thread may take a trace: not while it takes one, and not if `caller`, an address of code, lies in the
 * unwinder. NULL: surely not from there.
 */
bool ap__stack_trace_is_allowed(const void *caller);

/* The caller's own trace. Empty before ap__stack_trace_prepare(), and where none is allowed. */
void ap__stack_trace_take(struct ap__stack_trace *trace, const void *caller);

/*
 * Around a fork, by the thread that forks. A child must not wait for the unwinder's lock if a thread had it that the
 * child does not have: so none is taken during a fork, and whoever takes one is waited for, for a while. A
 * child for which that was not long enough takes none any more. `again`: the child goes on with an earlier fork of
 * its thread, which a signal handler's has interrupted.
 */
void ap__stack_trace_before_fork(void);
void ap__stack_trace_after_fork_in_parent(void);
void ap__stack_trace_after_fork_in_child(bool again);

/* One line a frame to standard error: file, function where it is known, address. */
void ap__stack_trace_write(const struct ap__stack_trace *trace);

#endif
