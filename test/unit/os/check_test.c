/* SPDX-License-Identifier: MIT */
/*
 * check_test.c: what is done about the impossible.
 * Goal: a failed check names its text and place on one line and aborts; a true one does nothing.
 * Method: failing checks run in a child, whose signal and standard error are compared.
 */
#include "os/check.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "support/child.h"

static const char *long_text;
static int line_of_check;

static void fail_a_check(void *unused)
{
    (void)unused;
    AP_CHECK(1 > 2, "one is not more than two");
}

static void fail_an_assertion(void *unused)
{
    (void)unused;
    AP_ASSERT(1 > 2);
}

static void fail_with_a_long_text(void *unused)
{
    (void)unused;
    ap__check_failed(long_text, "file.c", 7);
}

static void fail_in_a_known_line(void *line)
{
    ap__check_failed("text", "some/file.c", *(const int *)line);
}

Test(check, a_failed_check_names_its_text_and_aborts)
{
    struct child_result result;
    child_run(&result, fail_a_check, NULL);
    cr_assert_eq(result.signal, SIGABRT);
    cr_assert_not_null(strstr(result.text, "apmalloc: internal error: one is not more than two ("));
    cr_assert_not_null(strstr(result.text, "check_test.c:"));
    cr_assert_eq(strchr(result.text, '\n'), result.text + result.length - 1, "one line");
}

Test(check, the_line_is_text_file_and_number)
{
    struct child_result result;
    line_of_check = 1234;
    child_run(&result, fail_in_a_known_line, &line_of_check);
    cr_assert_eq(result.signal, SIGABRT);
    cr_assert_str_eq(result.text, "apmalloc: internal error: text (some/file.c:1234)\n");
}

Test(check, a_text_longer_than_the_buffer_is_cut)
{
    static char text[4000];
    struct child_result result;
    memset(text, 'x', sizeof text - 1);
    long_text = text;
    child_run(&result, fail_with_a_long_text, NULL);
    cr_assert_eq(result.signal, SIGABRT);
    cr_assert_lt(result.length, sizeof text);
    cr_assert_eq(strncmp(result.text, "apmalloc: internal error: xxxx", 30), 0);
}

Test(check, true_conditions_pass_and_are_evaluated_once)
{
    int evaluated = 0;
    AP_CHECK(++evaluated == 1, "evaluated twice");
    cr_assert_eq(evaluated, 1);
    AP_ASSERT(evaluated == 1);
}

Test(check, assertions_abort_in_debug_builds_only)
{
    struct child_result result;
    child_run(&result, fail_an_assertion, NULL);
    if (AP_DEBUG) {
        cr_assert_eq(result.signal, SIGABRT);
        cr_assert_not_null(strstr(result.text, "apmalloc: internal error: 1 > 2 ("));
    } else {
        cr_assert_eq(result.signal, 0);
        cr_assert_eq(result.length, 0);
    }
}

static void find_a_damaged_cache(void *unused)
{
    (void)unused;
    ap__cache_damaged();
}

Test(check, a_damaged_cache_is_one_line_and_the_end)
{
    struct child_result result;
    child_run(&result, find_a_damaged_cache, NULL);
    cr_assert_eq(result.signal, SIGABRT);
    cr_assert_str_eq(
        result.text,
        "apmalloc: a thread cache is damaged: a signal handler called the allocator that "
        "it had interrupted, or something wrote over the cache\n");
}
