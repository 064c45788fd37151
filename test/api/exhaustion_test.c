/* SPDX-License-Identifier: MIT */
/*
 * exhaustion_test.c: no more memory.
 * Goal: programs start under small limits, get most of what the limit allows, then NULL and ENOMEM;
 * limits set at run time count, though a large reservation was made before. Method: the work is
 * done by limited_program, run under each kind of limit.
 */
#include <criterion/criterion.h>

#include "run_beside.h"

TestSuite(exhaustion, .timeout = 240);

static void run_under_ulimit(const char *kibibytes, const char *at_least_mebibytes)
{
    struct child_result result;
    const char *const arguments[] = {"/bin/sh",
                                     "-c",
                                     "ulimit -v \"$1\" && exec \"$2\" started \"$3\"",
                                     "sh",
                                     kibibytes,
                                     beside_test("limited_program"),
                                     at_least_mebibytes,
                                     NULL};
    child_exec(&result, arguments);
    expect_good_result(&result, kibibytes);
}

static void run_setting(const char *resource, const char *mebibytes)
{
    struct child_result result;
    const char *const arguments[] = {beside_test("limited_program"), resource, mebibytes, NULL};
    child_exec(&result, arguments);
    expect_good_result(&result, resource);
}

Test(exhaustion, a_program_starts_and_works_in_64_mib_of_address_space)
{
    run_under_ulimit("65536", "24");
}

Test(exhaustion, a_program_starts_and_works_in_200_mb_of_address_space)
{
    run_under_ulimit("200000", "100");
}

Test(exhaustion, a_program_that_does_not_exhaust_64_mib_notices_nothing)
{
    struct child_result result;
    const char *const arguments[] = {
        "/bin/sh", "-c", "ulimit -v 65536 && exec \"$1\"", "sh", beside_test("preinit_program"),
        NULL};
    child_exec(&result, arguments);
    expect_good_result(&result, "started");
}

Test(exhaustion, an_address_space_limit_set_at_run_time_counts_in_all_threads)
{
    run_setting("RLIMIT_AS", "200");
}

Test(exhaustion, a_data_limit_set_at_run_time_counts_in_all_threads)
{
    run_setting("RLIMIT_DATA", "100");
}
