/* SPDX-License-Identifier: MIT */
/*
 * misuse.h: every fatal finding about the program: one cause, one text, one way out.
 *
 * The report is one line on standard error,
 *     apmalloc: FUNCTION(POINTER): CAUSE
 * and then abort(). No allocation, no lock, no dereference of the pointer. Callers hold no lock: the program may
 * have a handler for SIGABRT, and it may allocate.
 */
#ifndef AP_GUARD_MISUSE_H
#define AP_GUARD_MISUSE_H

#include "base/compiler.h"

/* cause, text: the list from which enum, texts and documentation come. */
#define AP_MISUSE_CAUSES(X)                                                                        \
    X(MISALIGNED, "misaligned pointer: not the start of a block")                                  \
    X(FOREIGN, "foreign pointer: not from this allocator")                                         \
    X(NOT_LIVE, "double free, or a pointer that was never allocated")                              \
    X(DOUBLE_FREE, "double free")                                                                  \
    X(INTERIOR, "pointer into the middle of a block")                                              \
    X(WRONG_SIZE, "size does not match the block")                                                 \
    X(WRONG_ALIGNMENT, "alignment does not match the block")                                       \
    X(OVERFLOW, "the block has been written to beyond its end")                                    \
    X(UNDERFLOW, "the block has been written to before its start")                                 \
    X(USE_AFTER_FREE, "the block has been written to after it was freed")                          \
    X(USED_FREED, "access to a freed block")                                                       \
    X(USED_BEYOND, "access beyond the end of a block")                                             \
    X(USED_BEFORE, "access before the start of a block")

enum ap__misuse_cause {
#define AP_MISUSE_ENUM(cause, text) AP__MISUSE_##cause,
    AP_MISUSE_CAUSES(AP_MISUSE_ENUM)
#undef AP_MISUSE_ENUM
};

/* The line alone; for reports that say more before they end the process. */
AP_COLD void ap__misuse_write(const char *function, const void *pointer,
                              enum ap__misuse_cause cause);

/* `function` is the entry point that was called, as the program knows it. */
AP_NORETURN AP_COLD void ap__misuse(const char *function, const void *pointer,
                                    enum ap__misuse_cause cause);

#endif
