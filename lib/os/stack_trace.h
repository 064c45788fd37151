/* SPDX-License-Identifier: MIT */
/*
 * stack_trace.h: who called, for reports.
 *
 * libc's backtrace() loads an unwinder on its first call, which allocates; ap__stack_trace_prepare() makes
 * that call, once, from a place where allocation is allowed. Afterwards a trace allocates nothing and
 * takes no lock of ours. Where libc has no backtrace(), traces are empty.
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

/* The caller's own trace. Empty before ap__stack_trace_prepare(). */
void ap__stack_trace_take(struct ap__stack_trace *trace);

/* One line a frame to standard error: file, function where it is known, address. */
void ap__stack_trace_write(const struct ap__stack_trace *trace);

#endif
