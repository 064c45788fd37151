/* SPDX-License-Identifier: MIT */
/*
 * fault.c: the handler for SIGSEGV.
 */
#include "os/fault.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "os/stack_trace.h"

static ap__fault_observer *observer;
static struct sigaction previous;
static _Atomic(bool) busy; /* a thread is telling what it knows */

const char *ap__access_name(enum ap__access access)
{
    return access == AP__ACCESS_WRITE ? "write" : access == AP__ACCESS_READ ? "read" : "access";
}

static enum ap__access access_of(const ucontext_t *context)
{
#if defined(__x86_64__)
    enum { WRITES = 2 }; /* bit of the page fault's error code */
    return (context->uc_mcontext.gregs[REG_ERR] & WRITES) != 0 ? AP__ACCESS_WRITE : AP__ACCESS_READ;
#else
    (void)context;
    return AP__ACCESS_UNKNOWN;
#endif
}

/* The stack lies where the access went: it is not to be read. */
static bool is_near(uintptr_t address, uintptr_t stack)
{
    enum { NEAR_BYTES = 64 << 10 };
    return address - stack + NEAR_BYTES < 2 * NEAR_BYTES;
}

/* The unwinder where it made the access, or called one of libc's functions for strings, which make no frame. */
AP_NO_SANITIZE_ADDRESS static const void *caller_of(const ucontext_t *context, uintptr_t address)
{
#if defined(__x86_64__)
    const void *here = (const void *)context->uc_mcontext.gregs[REG_RIP];
    const void *const *stack = (const void *const *)context->uc_mcontext.gregs[REG_RSP];
    bool is_known = !ap__stack_trace_is_allowed(here) || is_near(address, (uintptr_t)stack);
    return is_known ? here : *stack;
#elif defined(__aarch64__)
    const void *here = (const void *)context->uc_mcontext.pc;
    (void)address;
    return ap__stack_trace_is_allowed(here) ? (const void *)context->uc_mcontext.regs[30] : here;
#else
    (void)context;
    (void)address;
    return NULL;
#endif
}

static bool has_previous(void)
{
    return (previous.sa_flags & SA_SIGINFO) != 0 ||
           (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN);
}

/* One thread at a time tells what it knows. */
static void observe(const siginfo_t *info, const ucontext_t *context)
{
    const struct timespec a_moment = {0, 1000000};
    while (atomic_exchange(&busy, true)) {
        (void)nanosleep(&a_moment, NULL);
    }
    uintptr_t address = (uintptr_t)info->si_addr;
    observer(address, access_of(context), caller_of(context, address));
    /* Where the process is about to end, others that fault meanwhile shall not end it before it has told all. */
    if (has_previous()) {
        atomic_store(&busy, false);
    }
}

/* What would have happened without us. */
static void pass_on(int number, siginfo_t *info, void *context)
{
    if ((previous.sa_flags & SA_SIGINFO) != 0) {
        previous.sa_sigaction(number, info, context);
        return;
    }
    if (has_previous()) {
        previous.sa_handler(number);
        return;
    }
    bool was_sent = info->si_code <= 0;
    if (was_sent && previous.sa_handler == SIG_IGN) {
        return; /* faults cannot be ignored */
    }
    /* The access is repeated on return, and ends the process where it happened. A signal that somebody has
     * sent is not repeated: it is sent again. */
    struct sigaction by_default = {.sa_handler = SIG_DFL};
    (void)sigaction(number, &by_default, NULL);
    if (was_sent) {
        (void)syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), number);
    }
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    int saved_errno = errno;
    if (info->si_code > 0) {
        observe(info, context);
    }
    errno = saved_errno;
    pass_on(number, info, context);
}

bool ap__fault_watch(ap__fault_observer *function)
{
    int saved_errno = errno;
    /* SA_RESTART: one that is sent, and was ignored, interrupts no system call. */
    struct sigaction action = {.sa_sigaction = on_fault,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    observer = function;
    bool done = sigemptyset(&action.sa_mask) == 0 && sigaction(SIGSEGV, &action, &previous) == 0;
    errno = saved_errno;
    return done;
}
