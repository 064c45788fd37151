/* SPDX-License-Identifier: MIT */
/*
 * fork_test.c: fork, vfork and their relatives.
 * Goal: no deadlock and no damage on either side. Method: fork_program does the work in a process
 * with nothing else in it, so that its children can exit normally.
 */
#include <criterion/criterion.h>

#include "run_beside.h"

TestSuite(fork, .timeout = 120);

Test(fork, a_child_of_a_threaded_program_allocates_frees_creates_threads_and_exits)
{
    expect_good_run("fork_program", "threads", NULL);
}

Test(fork, fork_handlers_registered_before_and_after_ours_may_use_the_heap)
{
    expect_good_run("fork_program", "handlers", NULL);
}

Test(fork, several_threads_may_fork_while_others_allocate_and_flush_streams)
{
    expect_good_run("fork_program", "forkers", NULL);
}

Test(fork, a_signal_handler_that_interrupted_the_heap_may_fork)
{
    expect_good_run("fork_program", "signal", NULL);
}

Test(fork, a_signal_handler_of_a_threaded_program_may_fork_without_handlers)
{
    expect_good_run("fork_program", "signal_threads", NULL);
}

Test(fork, vfork_posix_spawn_popen_and_system_work_under_load)
{
    expect_good_run("fork_program", "spawn", NULL);
}

Test(fork, a_fork_may_meet_the_first_use_of_another_thread)
{
    expect_good_run("fork_program", "first", NULL);
}
