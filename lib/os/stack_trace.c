/* SPDX-License-Identifier: MIT */
/*
 * stack_trace.c: libc's backtrace(), made safe to call inside malloc().
 */
#include "os/stack_trace.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "os/os.h"

#if defined(__has_include)
#if __has_include(<execinfo.h>)
#include <execinfo.h>
#define HAS_BACKTRACE 1
#endif
#endif

static _Atomic(bool) prepared;

void ap__stack_trace_prepare(void)
{
#ifdef HAS_BACKTRACE
    void *frame;
    (void)backtrace(&frame, 1);
    /* release: pairs with the acquire below: the unwinder is loaded. */
    atomic_store_explicit(&prepared, true, memory_order_release);
#endif
}

void ap__stack_trace_take(struct ap__stack_trace *trace)
{
    trace->count = 0;
#ifdef HAS_BACKTRACE
    if (atomic_load_explicit(&prepared, memory_order_acquire)) {
        int saved_errno = errno;
        void *frames[AP__STACK_FRAMES_MAX + 1]; /* the first is this function */
        int count = backtrace(frames, AP__STACK_FRAMES_MAX + 1);
        trace->count = count > 1 ? (unsigned)count - 1 : 0;
        memcpy(trace->frames, frames + 1, trace->count * sizeof frames[0]);
        errno = saved_errno;
    }
#endif
}

void ap__stack_trace_write(const struct ap__stack_trace *trace)
{
    static const char unknown[] = "  (no stack trace)\n";
    if (trace->count == 0) {
        ap__os_write_stderr(unknown, sizeof unknown - 1);
        return;
    }
#ifdef HAS_BACKTRACE
    backtrace_symbols_fd(trace->frames, (int)trace->count, STDERR_FILENO);
#endif
}
