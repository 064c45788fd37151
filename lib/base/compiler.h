/* SPDX-License-Identifier: MIT */
/*
 * compiler.h: what the code asks of the compiler, under one name each.
 *
 * Keeps no state, makes no system call. gcc and clang only: the library relies on their
 * attributes for visibility, thread-local models and cache-line placement.
 */
#ifndef AP_BASE_COMPILER_H
#define AP_BASE_COMPILER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exported from the shared library; everything else is hidden (-fvisibility=hidden). */
#define AP_API __attribute__((visibility("default")))

/* On declarations of data that hit paths read: else the compiler, which cannot know that the definition
 * is hidden, goes through the global offset table. */
#define AP_HIDDEN __attribute__((visibility("hidden")))

#define AP_LIKELY(x) __builtin_expect(!!(x), 1)
#define AP_UNLIKELY(x) __builtin_expect(!!(x), 0)

/*
 * A condition that only misuse by the program can bring about. Built with -Dchecks=false it is false:
 * for measuring what the checks cost, never for use.
 */
#ifndef AP_CHECKS
#define AP_CHECKS 1
#endif
#define AP_MISUSED(x) (AP_CHECKS && AP_UNLIKELY(x))

#define AP_NOINLINE __attribute__((noinline))
#define AP_ALWAYS_INLINE inline __attribute__((always_inline))
#define AP_NORETURN __attribute__((noreturn))
/* Slow paths: kept out of the way of the hit paths, in code and in the branch predictor. */
#define AP_COLD __attribute__((cold, noinline))
#define AP_UNUSED __attribute__((unused))

/*
 * Two cache lines, because adjacent-line prefetch makes pairs of 64-byte lines travel
 * together on the processors most servers have.
 */
#define AP_CACHE_LINE 64
#define AP_CACHE_ALIGNED __attribute__((aligned(2 * AP_CACHE_LINE)))

/*
 * Static TLS: one load from %fs, no call into the loader, and it can be set up inside the
 * small surplus that a dlopen()ed library may claim. The library keeps one pointer there.
 */
#define AP_TLS _Thread_local __attribute__((tls_model("initial-exec")))

/* Built for ThreadSanitizer (gcc says so by a macro, clang by a feature). */
#if defined(__SANITIZE_THREAD__)
#define AP_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define AP_THREAD_SANITIZER 1
#endif
#endif

/* On an alias of `function`: as much is known of it. Clang needs no telling. */
#if defined(__has_attribute)
#if __has_attribute(copy)
#define AP_LIKE(function) __attribute__((copy(function)))
#endif
#endif
#ifndef AP_LIKE
#define AP_LIKE(function)
#endif

/* On functions that read another's stack frame, in builds for AddressSanitizer. */
#define AP_NO_SANITIZE_ADDRESS __attribute__((no_sanitize_address))

#define AP_ARRAY_LENGTH(a) (sizeof(a) / sizeof((a)[0]))

#endif
