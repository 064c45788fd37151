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

Test(interrupted, a_handler_that_allocates_does_not_make_the_process_hang)
{
    enum { RUNS = 20 };
    const char *const arguments[] = {beside_test("interrupted_program"), NULL};
    for (int run = 0; run < RUNS; run++) {
        struct child_result result;
        child_exec(&result, arguments);
        bool well = result.status == 0 && result.text[0] == '\0';
        bool reported = result.signal == SIGABRT && is_one_report(result.text);
        cr_assert(well || reported, "run %d: signal %d, status %d: %s", run, result.signal,
                  result.status, result.text);
    }
}
