/* SPDX-License-Identifier: MIT */
/*
 * thread_sanitizer.h: tells a ThreadSanitizer that is in the program how memory passes between threads in here.
 *
 * Does: names the moments at which a block's memory leaves one thread and reaches another, where that happens by
 * an atomic operation. A program that is instrumented, linked to a library that is not, has a tool that sees our
 * calls of pthread functions but none of our atomics: to it, the next owner of the memory would race with the last.
 * Does not: anything in a program without the tool, but for a look whether it is there.
 * Callers: any; slow paths only. `address` tells one place of passing from another.
 */
#ifndef AP_OS_THREAD_SANITIZER_H
#define AP_OS_THREAD_SANITIZER_H

#include <stddef.h>

#include "base/compiler.h"

/* Defined by the tool's runtime, where there is one. */
extern void __tsan_acquire(void *address) __attribute__((weak));
extern void __tsan_release(void *address) __attribute__((weak));

/* Before memory is left at `address` for others. */
static inline void ap__tsan_leave(void *address)
{
    if (AP_UNLIKELY(__tsan_release != NULL)) {
        __tsan_release(address);
    }
}

/* After memory was found there. */
static inline void ap__tsan_find(void *address)
{
    if (AP_UNLIKELY(__tsan_acquire != NULL)) {
        __tsan_acquire(address);
    }
}

#endif
