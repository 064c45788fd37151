/* SPDX-License-Identifier: MIT */
/*
 * expect.h: how a plain program says what is wrong: a line on standard error, without the heap, and
 * exit status 1. Status 77: there is nothing to test on this machine.
 */
#ifndef TEST_API_EXPECT_H
#define TEST_API_EXPECT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

__attribute__((format(printf, 1, 2))) static inline _Noreturn void fail(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text - 1, format, arguments);
    va_end(arguments);
    length = length < (int)sizeof text - 1 ? length : (int)sizeof text - 2;
    text[length] = '\n';
    (void)!write(STDERR_FILENO, text, (size_t)length + 1);
    _exit(1);
}

static inline void expect(bool condition, const char *what)
{
    if (!condition) {
        fail("not so: %s", what);
    }
}

static inline _Noreturn void skip(const char *why)
{
    (void)printf("SKIP: %s\n", why);
    (void)fflush(stdout);
    _exit(77);
}

#endif
