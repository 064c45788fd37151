/* SPDX-License-Identifier: MIT */
/*
 * stack_trace.c: libc's backtrace(), made safe to call inside malloc().
 */
#include "os/stack_trace.h"

#include <errno.h>
#include <link.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "os/fork_gate.h"
#include "os/os.h"

#if defined(__has_include)
#if __has_include(<execinfo.h>)
#include <execinfo.h>
#define HAS_BACKTRACE 1
#endif
#endif

static _Atomic(bool) prepared;

static AP_TLS bool is_taking;

/* Threads that take a trace are inside; while another forks, there is none to be had. */
static struct ap__fork_gate gate;

/* ------------------------------------------------------------ the unwinder */

/* Code of the unwinder; constant once prepared. */
static uintptr_t unwinder_start;
static size_t unwinder_bytes;

static void note_code(const struct dl_phdr_info *object)
{
    for (unsigned i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD && (segment->p_flags & PF_X) != 0) {
            unwinder_start = object->dlpi_addr + segment->p_vaddr;
            unwinder_bytes = segment->p_memsz;
        }
    }
}

/* backtrace() loads the unwinder by this name, whichever others the program may have. */
static int find_library(struct dl_phdr_info *object, size_t size AP_UNUSED, void *unused AP_UNUSED)
{
    static const char name[] = "libgcc_s.so";
    const char *slash = strrchr(object->dlpi_name, '/');
    const char *file = slash != NULL ? slash + 1 : object->dlpi_name;
    bool found = strncmp(file, name, sizeof name - 1) == 0;
    if (found) {
        note_code(object);
    }
    return found;
}

/* Linked into the program, the unwinder is a small part of it: this function and what lies next to it. */
enum { NEAR_BYTES = 16 << 10 };
extern const char _Unwind_Find_FDE[] __attribute__((weak));

static void find_unwinder(void)
{
    if (dl_iterate_phdr(find_library, NULL) == 0 && _Unwind_Find_FDE != NULL) {
        unwinder_start = (uintptr_t)_Unwind_Find_FDE - NEAR_BYTES;
        unwinder_bytes = 2 * NEAR_BYTES;
    }
}

/* ------------------------------------------------------------ traces */

bool ap__stack_trace_is_allowed(const void *caller)
{
    return !is_taking && (uintptr_t)caller - unwinder_start >= unwinder_bytes;
}

void ap__stack_trace_prepare(void)
{
#ifdef HAS_BACKTRACE
    void *frame;
    (void)backtrace(&frame, 1);
    find_unwinder();
    /* release: pairs with the acquire below: the unwinder is loaded. */
    atomic_store_explicit(&prepared, true, memory_order_release);
#endif
}

void ap__stack_trace_before_fork(void)
{
    ap__fork_gate_close(&gate, is_taking);
}

void ap__stack_trace_after_fork_in_parent(void)
{
    ap__fork_gate_open(&gate);
}

void ap__stack_trace_after_fork_in_child(bool again)
{
    if (ap__fork_gate_is_used(&gate, is_taking)) {
        atomic_store(&prepared, false); /* whoever it was may have the unwinder's lock */
    }
    ap__fork_gate_reset_in_child(&gate, is_taking, again);
}

#ifdef HAS_BACKTRACE
/* backtrace(), or nothing while another thread forks. A signal before `is_taking` is set, whose handler forks, takes
 * this thread for another one: that errs on the safe side. */
static AP_ALWAYS_INLINE int take_frames(void **frames, int most)
{
    bool is_allowed = ap__fork_gate_enter(&gate);
    is_taking = true;
    int count = is_allowed ? backtrace(frames, most) : 0;
    is_taking = false;
    ap__fork_gate_leave(&gate);
    return count;
}
#endif

void ap__stack_trace_take(struct ap__stack_trace *trace, const void *caller)
{
    trace->count = 0;
#ifdef HAS_BACKTRACE
    /* acquire: pairs with the release above. */
    if (ap__stack_trace_is_allowed(caller) &&
        atomic_load_explicit(&prepared, memory_order_acquire)) {
        int saved_errno = errno;
        void *frames[AP__STACK_FRAMES_MAX + 1]; /* the first is this function */
        int count = take_frames(frames, AP__STACK_FRAMES_MAX + 1);
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
