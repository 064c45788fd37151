/* SPDX-License-Identifier: MIT */
/*
 * run_beside.h: Criterion tests that run a program which lies beside them. Needs Criterion.
 */
#ifndef TEST_API_RUN_BESIDE_H
#define TEST_API_RUN_BESIDE_H

#include <criterion/criterion.h>
#include <stdlib.h>

#include "entry_points.h"
#include "support/child.h"

/* With one argument, or NULL for none; and options, or NULL for those that the test has. */
static inline struct child_result run_beside(const char *program, const char *argument,
                                             const char *conf)
{
    static struct child_result result;
    const char *const arguments[] = {beside_test(program), argument, NULL};
    if (conf != NULL) {
        cr_assert_eq(setenv("APMALLOC_CONF", conf, 1), 0);
    }
    child_exec(&result, arguments);
    return result;
}

/* Status 77, as expect.h has it: there is nothing to test here. */
static inline void expect_good_result(const struct child_result *result, const char *which)
{
    if (result->status == 77) {
        cr_skip_test("%s", result->text);
    }
    cr_assert_eq(result->signal, 0, "%s: signal %d: %s", which, result->signal, result->text);
    cr_assert_eq(result->status, 0, "%s: status %d: %s", which, result->status, result->text);
}

/* Of several runs, mostly the options tell which. */
static inline void expect_good_run(const char *program, const char *argument, const char *conf)
{
    struct child_result result = run_beside(program, argument, conf);
    expect_good_result(&result, conf != NULL ? conf : program);
}

/* It says nothing but this. */
static inline void expect_good_run_saying(const char *text, const char *program,
                                          const char *argument, const char *conf)
{
    struct child_result result = run_beside(program, argument, conf);
    expect_good_result(&result, conf != NULL ? conf : program);
    cr_assert_str_eq(result.text, text);
}

#endif
