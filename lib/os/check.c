/* SPDX-License-Identifier: MIT */
/*
 * check.c: how the process is stopped when the library finds itself wrong.
 */
#include "os/check.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/format.h"
#include "os/os.h"

/* A handler that comes back here with SIGABRT unblocked cannot be told from one that was left by a jump, as test
 * frameworks leave it: it is called that often. */
enum { ABORTS_MAX = 16 };

static _Atomic(ap__abort_function *) abort_function;
static AP_TLS unsigned char aborts; /* of this thread */

void ap__abort_after(ap__abort_function *function)
{
    /* relaxed: who aborts has initialised the library, or seen that somebody has. */
    atomic_store_explicit(&abort_function, function, memory_order_relaxed);
}

/* While a handler runs its signal is blocked, as a rule; a jump out of it, and abort() itself, unblock it. */
static bool is_abort_blocked(void)
{
    sigset_t blocked;
    return sigprocmask(SIG_SETMASK, NULL, &blocked) == 0 && sigismember(&blocked, SIGABRT) == 1;
}

void ap__abort(void)
{
    static const struct sigaction by_default = {.sa_handler = SIG_DFL};
    ap__abort_function *function = atomic_load_explicit(&abort_function, memory_order_relaxed);
    if (aborts != 0 && (aborts == ABORTS_MAX || is_abort_blocked())) {
        (void)sigaction(SIGABRT, &by_default, NULL);
    } else {
        aborts++;
        if (function != NULL) {
            function();
        }
    }
    abort();
}

void ap__check_failed(const char *text, const char *file, int line)
{
    char buffer[256];
    struct ap__format f;
    ap__format_init(&f, buffer, sizeof buffer);
    ap__format_text(&f, "apmalloc: internal error: ");
    ap__format_text(&f, text);
    ap__format_text(&f, " (");
    ap__format_text(&f, file);
    ap__format_text(&f, ":");
    ap__format_decimal(&f, (uint64_t)line);
    ap__format_text(&f, ")\n");
    ap__os_write_stderr(f.buffer, f.length);
    ap__abort();
}

AP_NORETURN static void say_and_abort(const char *text)
{
    ap__os_write_stderr(text, strlen(text));
    ap__abort();
}

void ap__reentered(void)
{
    say_and_abort(
        "apmalloc: called by a signal handler that had interrupted the allocator: no malloc() "
        "is safe there\n");
}

void ap__cache_damaged(void)
{
    say_and_abort(
        "apmalloc: a thread cache is damaged: a signal handler called the allocator that it had "
        "interrupted, or something wrote over the cache\n");
}
