/* SPDX-License-Identifier: MIT */
/*
 * unwind_test.c: stack traces of sampled blocks in programs that keep the unwinder busy themselves.
 * Goal: programs that register code made at run time and throw exceptions run to their end, with any
 * option that takes stack traces; a report about memory that the unwinder itself touches comes, and the process ends.
 * Method: a helper program, and an alarm that ends it if it hangs.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "run_beside.h"

TestSuite(unwind, .timeout = 240);

static struct child_result run(const char *conf, const char *mode)
{
    struct child_result result = run_beside("unwind_program", mode, conf);
    if (result.status == 77) {
        cr_skip_test("code cannot be made at run time here");
    }
    return result;
}

static void expect_silence(const char *conf, const char *mode)
{
    struct child_result result = run(conf, mode);
    expect_good_result(&result, conf);
    cr_assert_str_eq(result.text, "");
}

Test(unwind, exceptions_through_code_made_at_run_time_go_on_under_every_option)
{
    static const char *const confs[] = {"",
                                        "guard_sample:1",
                                        "guard_sample:2",
                                        "guard_sample:100",
                                        "hardened:true",
                                        "hardened:true,guard_sample:1",
                                        "hardened:true,guard_sample:3,quarantine:0"};
    for (size_t i = 0; i < sizeof confs / sizeof confs[0]; i++) {
        expect_silence(confs[i], "throws");
        expect_silence(confs[i], "traces");
        expect_silence(confs[i], "threads");
    }
}

Test(unwind, children_do_not_wait_for_a_thread_that_they_do_not_have)
{
    expect_silence("guard_sample:1", "fork");
    expect_silence("hardened:true,guard_sample:1", "fork");
}

static void expect_report(const char *conf, const char *mode, const char *text)
{
    struct child_result result = run(conf, mode);
    cr_assert_eq(result.signal, SIGSEGV, "%s: signal %d, status %d: %s", mode, result.signal,
                 result.status, result.text);
    cr_assert_not_null(strstr(result.text, "): access to a freed block\n"), "%s", result.text);
    cr_assert_not_null(strstr(result.text, text), "%s", result.text);
}

Test(unwind, a_fault_of_the_unwinder_itself_is_reported)
{
    expect_report("guard_sample:1", "fault", "at:\n  (no stack trace)\nallocated by thread ");
    expect_report("hardened:true", "fault_large", "block\n  (no stack trace)\n");
}
