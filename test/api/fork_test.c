/* SPDX-License-Identifier: MIT */
/*
 * fork_test.c: fork, vfork and their relatives.
 * Goal: no deadlock and no damage on either side. Method: fork_program does the work in a process
 * with nothing else in it, so that its children can exit normally.
 */
#include "entry_points.h"

#include <criterion/criterion.h>

#include "support/child.h"

TestSuite(fork, .timeout = 120);

static void run(const char *mode)
{
    struct child_result result;
    const char *const arguments[] = {beside_test("fork_program"), mode, NULL};
    child_exec(&result, arguments);
    cr_assert_eq(result.signal, 0, "signal %d: %s", result.signal, result.text);
    cr_assert_eq(result.status, 0, "status %d: %s", result.status, result.text);
}

Test(fork, a_child_of_a_threaded_program_allocates_frees_creates_threads_and_exits)
{
    run("threads");
}

Test(fork, fork_handlers_registered_before_and_after_ours_may_use_the_heap)
{
    run("handlers");
}

Test(fork, several_threads_may_fork_while_others_allocate_and_flush_streams)
{
    run("forkers");
}

Test(fork, a_signal_handler_that_interrupted_the_heap_may_fork)
{
    run("signal");
}

Test(fork, a_signal_handler_of_a_threaded_program_may_fork_without_handlers)
{
    run("signal_threads");
}

Test(fork, vfork_posix_spawn_popen_and_system_work_under_load)
{
    run("spawn");
}

Test(fork, a_fork_may_meet_the_first_use_of_another_thread)
{
    run("first");
}
