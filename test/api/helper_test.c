/* SPDX-License-Identifier: MIT */
/*
 * helper_test.c: the thread that gives memory back.
 * Goal: it is there when it is of use and else in nobody's way; a process begins, forks and ends as if it
 * were not there. Method: helper_program and last_thread_program do the work in processes of their
 * own, with the options in their environment; a process that hangs is ended by its alarm.
 */
#include <criterion/criterion.h>
#include <signal.h>

#include "run_beside.h"

TestSuite(helper, .timeout = 240);

#define DECAY "decay_ms:200"
enum { OFTEN = 50 };

static void expect_success(const char *mode, const char *conf)
{
    expect_good_run("helper_program", mode, conf);
}

/* --- when it is there --- */

Test(helper, it_comes_when_a_second_thread_allocates)
{
    expect_success("comes_with_threads", DECAY);
}

Test(helper, it_comes_where_other_threads_only_wait)
{
    expect_success("comes_for_one_user", DECAY);
}

Test(helper, it_never_comes_when_it_is_not_wanted_or_of_no_use)
{
    expect_success("never_comes", DECAY ",helper:false");
    expect_success("never_comes", "decay_ms:-1");
    expect_success("never_comes", "decay_ms:0");
}

Test(helper, it_goes_with_the_threads_and_comes_again)
{
    expect_success("goes_with_threads", DECAY);
}

Test(helper, it_comes_and_goes_with_threads_of_short_lives)
{
    expect_success("comes_and_goes", "decay_ms:1");
}

/* --- what others notice of it --- */

Test(helper, it_takes_no_signals)
{
    expect_success("takes_no_signals", DECAY);
}

Test(helper, it_changes_its_user_with_the_process)
{
    expect_success("changes_its_user", DECAY);
}

Test(helper, it_does_not_wake_up_when_nothing_is_left_to_do)
{
    expect_success("sleeps_at_rest", DECAY);
}

/* --- forks --- */

Test(helper, a_forked_child_has_its_own_when_it_has_threads)
{
    expect_success("forks", DECAY);
}

Test(helper, a_fork_may_come_at_any_moment_of_its_work)
{
    expect_success("forks_often", "decay_ms:20");
}

/* --- ends --- */

static void expect_end(const char *mode, int status, const char *text)
{
    for (int i = 0; i < OFTEN; i++) {
        struct child_result result =
            run_beside("last_thread_program", mode, i % 2 == 0 ? DECAY : "decay_ms:10");
        cr_assert_eq(result.signal, 0, "%d: signal %d: %s", i, result.signal, result.text);
        cr_assert_eq(result.status, status, "%d: status %d: %s", i, result.status, result.text);
        cr_assert_str_eq(result.text, text);
    }
}

#define HANDLED "from an exit handler\n"
enum { STATUS = 7 }; /* of last_thread_program.c */

Test(helper, a_process_ends_with_its_last_thread)
{
    expect_end("leave", 0, HANDLED);
}

Test(helper, a_process_ends_with_a_last_thread_that_allocates_nothing)
{
    expect_end("leave_to_sleeper", 0, HANDLED);
}

Test(helper, a_process_ends_with_its_main_thread_as_the_last)
{
    expect_end("leave_last", 0, HANDLED);
}

Test(helper, exit_ends_a_process)
{
    expect_end("exit", STATUS, HANDLED);
}

Test(helper, exit_ends_a_process_that_its_main_thread_has_left)
{
    expect_end("leave_and_exit", STATUS, HANDLED);
}

Test(helper, underscore_exit_ends_a_process)
{
    expect_end("_exit", STATUS, "");
}

Test(helper, abort_ends_a_process)
{
    for (int i = 0; i < OFTEN; i++) {
        struct child_result result = run_beside("last_thread_program", "abort", DECAY);
        cr_assert_eq(result.signal, SIGABRT, "signal %d: %s", result.signal, result.text);
    }
}
