/* SPDX-License-Identifier: MIT */
/*
 * check.h: what is done about the impossible.
 *
 * AP_ASSERT: invariants of the code itself, in debug builds only. AP_CHECK: conditions whose failure
 * would corrupt the program's data, in every build. Both write one line and abort; neither
 * allocates nor takes a lock. Misuse by the program is guard/misuse.h's concern; the way out is the same.
 */
#ifndef AP_OS_CHECK_H
#define AP_OS_CHECK_H

#include "base/compiler.h"

#ifdef NDEBUG
#define AP_DEBUG 0
#else
#define AP_DEBUG 1
#endif

/* Writes "apmalloc: internal error: TEXT (FILE:LINE)" and aborts. */
AP_NORETURN AP_COLD void ap__check_failed(const char *text, const char *file, int line);

/* A signal handler has interrupted the allocator and called it again: says so and aborts. */
AP_NORETURN AP_COLD void ap__reentered(void);

/* A thread cache is not as its thread left it: says what may have done that, and aborts. */
AP_NORETURN AP_COLD void ap__cache_damaged(void);

/*
 * The one way out, after a line has said why: abort(). A handler of the program's for SIGABRT may use the heap, unless
 * the thread holds a lock of ours. If the handler comes here itself, the process ends without calling it again.
 */
AP_NORETURN AP_COLD void ap__abort(void);

/* What a thread does before that, so that the handler finds nothing half done. Once, at initialisation. */
typedef void ap__abort_function(void);
void ap__abort_after(ap__abort_function *function);

#define AP_CHECK(condition, text)                                                                  \
    do {                                                                                           \
        if (AP_UNLIKELY(!(condition))) {                                                           \
            ap__check_failed((text), __FILE__, __LINE__);                                          \
        }                                                                                          \
    } while (0)

#define AP_ASSERT(condition)                                                                       \
    do {                                                                                           \
        if (AP_DEBUG) {                                                                            \
            AP_CHECK(condition, #condition);                                                       \
        }                                                                                          \
    } while (0)

#endif
