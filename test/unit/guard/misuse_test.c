/* SPDX-License-Identifier: MIT */
/*
 * misuse_test.c: the reporter of misuse.
 * Goal: each cause has its text, and the report is exactly one line and SIGABRT. Method: report
 * every cause in a child. (Which misuse leads to which cause is the concern of the suite `misuse`.)
 */
#include "guard/misuse.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "support/child.h"

struct report {
    const char *function;
    const void *pointer;
    enum ap__misuse_cause cause;
};

static void make_report(void *argument)
{
    const struct report *report = argument;
    ap__misuse(report->function, report->pointer, report->cause);
}

static void make_report_with_no_stderr(void *argument)
{
    (void)close(STDERR_FILENO);
    make_report(argument);
}

static const char *const texts[] = {
#define ROW(cause, text) [AP__MISUSE_##cause] = (text),
    AP_MISUSE_CAUSES(ROW)
#undef ROW
};

Test(misuse, every_cause_is_one_line_and_sigabrt)
{
    for (unsigned cause = 0; cause < sizeof texts / sizeof texts[0]; cause++) {
        struct report report = {"realloc", (const void *)(uintptr_t)0x7f1234567890,
                                (enum ap__misuse_cause)cause};
        struct child_result result;
        char expected[256];
        child_run(&result, make_report, &report);
        (void)snprintf(expected, sizeof expected, "apmalloc: realloc(0x7f1234567890): %s\n",
                       texts[cause]);
        cr_assert_eq(result.signal, SIGABRT);
        cr_assert_str_eq(result.text, expected);
    }
}

Test(misuse, texts_differ_and_none_is_missing)
{
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        cr_assert_not_null(texts[i]);
        for (size_t j = 0; j < i; j++) {
            cr_assert_str_neq(texts[i], texts[j]);
        }
    }
}

Test(misuse, longest_function_name_and_pointer_fit_on_the_line)
{
    for (unsigned cause = 0; cause < sizeof texts / sizeof texts[0]; cause++) {
        struct report report = {"operator delete[](void*, std::size_t, std::align_val_t)",
                                (const void *)UINTPTR_MAX, (enum ap__misuse_cause)cause};
        struct child_result result;
        child_run(&result, make_report, &report);
        cr_assert_eq(result.text[result.length - 1], '\n');
        cr_assert_not_null(strstr(result.text, texts[cause]));
        cr_assert_not_null(strstr(result.text, "(0xffffffffffffffff): "));
    }
}

Test(misuse, aborts_even_when_nobody_can_read_it)
{
    struct report report = {"free", NULL, AP__MISUSE_FOREIGN};
    struct child_result result;
    child_run(&result, make_report_with_no_stderr, &report);
    cr_assert_eq(result.signal, SIGABRT);
    cr_assert_eq(result.length, 0);
}
