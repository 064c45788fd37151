/* SPDX-License-Identifier: MIT */
/*
 * os_faults.c: stands between the library under test and the C library's memory calls.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support/os_faults.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/types.h>

#define NEVER ULONG_MAX

/* For one function: calls first to last, counted from 1, fail. */
static struct plan {
    atomic_ulong count;
    atomic_ulong first;
    atomic_ulong last;
} plans[OS_FAULTS_CALLS] = {
    {0, NEVER, 0}, {0, NEVER, 0}, {0, NEVER, 0}, {0, NEVER, 0}, {0, NEVER, 0},
};

_Static_assert(OS_FAULTS_CALLS == 5, "one plan each");

void os_faults_fail_nth(enum os_faults_call call, unsigned long n)
{
    unsigned long number = plans[call].count + n;
    plans[call].last = number;
    plans[call].first = number;
}

void os_faults_fail_always(enum os_faults_call call)
{
    plans[call].last = NEVER;
    plans[call].first = 0;
}

void os_faults_reset(void)
{
    for (size_t i = 0; i < OS_FAULTS_CALLS; i++) {
        plans[i].first = NEVER;
        plans[i].last = 0;
        plans[i].count = 0;
    }
}

unsigned long os_faults_count(enum os_faults_call call)
{
    return plans[call].count;
}

/* Counts a call. True: it is to fail, and errno is set. */
static bool fails(enum os_faults_call call)
{
    unsigned long number = atomic_fetch_add(&plans[call].count, 1) + 1;
    if (number < plans[call].first || number > plans[call].last) {
        return false;
    }
    errno = ENOMEM;
    return true;
}

/* The names are the linker's: __real_X is the C library's X, and __wrap_X is what calls of X reach.
 */
void *__real_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *address, size_t length);
int __real_mprotect(void *address, size_t length, int protection);
int __real_madvise(void *address, size_t length, int advice);
void *__real_mremap(void *address, size_t old_length, size_t new_length, int flags, ...);

void *__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *address, size_t length);
int __wrap_mprotect(void *address, size_t length, int protection);
int __wrap_madvise(void *address, size_t length, int advice);
void *__wrap_mremap(void *address, size_t old_length, size_t new_length, int flags, ...);

void *__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    return fails(OS_FAULTS_MMAP) ? MAP_FAILED
                                 : __real_mmap(address, length, protection, flags, fd, offset);
}

int __wrap_munmap(void *address, size_t length)
{
    return fails(OS_FAULTS_MUNMAP) ? -1 : __real_munmap(address, length);
}

int __wrap_mprotect(void *address, size_t length, int protection)
{
    return fails(OS_FAULTS_MPROTECT) ? -1 : __real_mprotect(address, length, protection);
}

int __wrap_madvise(void *address, size_t length, int advice)
{
    return fails(OS_FAULTS_MADVISE) ? -1 : __real_madvise(address, length, advice);
}

void *__wrap_mremap(void *address, size_t old_length, size_t new_length, int flags, ...)
{
    void *target = NULL;
    if ((flags & MREMAP_FIXED) != 0) {
        va_list arguments;
        va_start(arguments, flags);
        target = va_arg(arguments, void *);
        va_end(arguments);
    }
    return fails(OS_FAULTS_MREMAP) ? MAP_FAILED
                                   : __real_mremap(address, old_length, new_length, flags, target);
}
