/* SPDX-License-Identifier: MIT */
/*
 * interrupted_test.c: a signal handler that allocates, in a program of one thread.
 * Goal: the heap may be wrong afterwards, but the process does not wait for itself for ever: it ends
 * well or with one line of report. Method: a helper program, run again and again; one that hangs is
 * ended by SIGALRM, and is a failure.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "entry_points.h"
#include "support/child.h"

TestSuite(interrupted, .timeout = 120);

static bool is_one_report(const char *text)
{
    const char *end = strchr(text, '\n');
    return strncmp(text, "apmalloc: ", 10) == 0 && end != NULL && end[1] == '\0';
}

/* Of a run of the helper program that was not silent. */
typedef bool text_check(const char *text);

static void expect_well_or_reported(const char *argument, text_check *is_right)
{
    enum { RUNS = 20 };
    const char *const arguments[] = {beside_test("interrupted_program"), argument, NULL};
    for (int run = 0; run < RUNS; run++) {
        struct child_result result;
        child_exec(&result, arguments);
        bool well = result.status == 0 && result.text[0] == '\0';
        bool reported = result.signal == SIGABRT && is_right(result.text);
        cr_assert(well || reported, "run %d: signal %d, status %d: %s", run, result.signal,
                  result.status, result.text);
    }
}

Test(interrupted, a_handler_that_allocates_does_not_make_the_process_hang)
{
    expect_well_or_reported(NULL, is_one_report);
}

/* The second if the thread held a lock when it was interrupted. */
static bool is_one_report_or_two(const char *text)
{
    const char *end = strchr(text, '\n');
    return is_one_report(text) ||
           (strncmp(text, "apmalloc: ", 10) == 0 && end != NULL && is_one_report(end + 1));
}

Test(interrupted, a_handler_for_sigabrt_that_allocates_is_not_called_for_ever)
{
    expect_well_or_reported("handler", is_one_report_or_two);
}
