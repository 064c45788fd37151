/* SPDX-License-Identifier: MIT */
/*
 * libc_names_test.c: glibc's second names, __libc_malloc and others.
 * Goal: they are of the same heap as the first names: a program that takes a block by one and gives it back by the
 * other goes on. Method: each block is looked up by this library, which ends the process at any other's.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "entry_points.h"
#include "support/child.h"

TestSuite(libc_names, .timeout = 60);

extern void *__libc_malloc(size_t size);
extern void __libc_free(void *p);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void *__libc_valloc(size_t size);
extern void *__libc_pvalloc(size_t size);

static void *reallocated(size_t size)
{
    return __libc_realloc(__libc_realloc(NULL, 10), size);
}

static void *cleared(size_t size)
{
    return __libc_calloc(1, size);
}

static void *aligned(size_t size)
{
    return __libc_memalign(256, size);
}

static const struct {
    void *(*allocate)(size_t size);
    size_t alignment;
} functions[] = {
    {__libc_malloc, 16}, {cleared, 16},         {reallocated, 16},
    {aligned, 256},      {__libc_valloc, 4096}, {__libc_pvalloc, 4096},
};

static void *known(unsigned which, size_t size)
{
    void *p = functions[which].allocate(size);
    cr_assert_not_null(p);
    cr_assert_geq(ap_usable_size(p), size, "ours");
    cr_assert_eq((uintptr_t)p % functions[which].alignment, 0);
    memset(p, 0xAA, size);
    return p;
}

Test(libc_names, are_of_the_same_heap)
{
    static const size_t sizes[] = {1, 100, 5000, 300000, 5000000};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (unsigned which = 0; which < sizeof functions / sizeof functions[0]; which++) {
            free(known(which, sizes[s]));
            __libc_free(known(which, sizes[s]));
            free(realloc(known(which, sizes[s]), sizes[s] + 1000));
        }
        __libc_free(malloc(sizes[s]));
        __libc_free(__libc_realloc(malloc(10), sizes[s]));
    }
    __libc_free(NULL);
}

Test(libc_names, fail_as_the_first_names_do)
{
    errno = 0;
    cr_assert_null(__libc_malloc(SIZE_MAX));
    cr_assert_null(__libc_calloc(SIZE_MAX / 2, 3));
    cr_assert_null(__libc_memalign(64, SIZE_MAX));
    cr_assert_eq(errno, ENOMEM);
    errno = STALE_ERRNO;
    free(__libc_memalign(48, 100));
    cr_assert_eq(errno, STALE_ERRNO);
}

static void free_twice(void *unused)
{
    (void)unused;
    void *p = __libc_malloc(100);
    free(p);
    __libc_free(opaque(p));
}

Test(libc_names, are_what_a_report_says)
{
    struct child_result result;
    child_run(&result, free_twice, NULL);
    cr_assert_eq(result.signal, SIGABRT);
    cr_assert_eq(strncmp(result.text, "apmalloc: __libc_free(0x", 24), 0, "%s", result.text);
}
