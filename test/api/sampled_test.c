/* SPDX-License-Identifier: MIT */
/*
 * sampled_test.c: option guard_sample in a whole program.
 * Goal: of a program that uses memory wrongly now and then, and works on otherwise, a sampled block tells
 * where it was allocated and freed and what touched it; right programs notice nothing, with and without
 * `hardened`. Method: a helper program of four threads, its ways to be wrong, and its last words.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "run_beside.h"

TestSuite(sampled, .timeout = 120);

static struct child_result run(const char *conf, const char *mode)
{
    return run_beside("sampled_program", mode, conf);
}

static void expect_silence(const char *conf, const char *mode)
{
    expect_good_run_saying("", "sampled_program", mode, conf);
}

Test(sampled, right_programs_notice_nothing)
{
    static const char *const confs[] = {"guard_sample:1", "guard_sample:50",
                                        "hardened:true,guard_sample:1", "hardened:true",
                                        "hardened:true,quarantine:0"};
    for (size_t i = 0; i < sizeof confs / sizeof confs[0]; i++) {
        expect_silence(confs[i], "well");
        expect_silence(confs[i], "fork");
    }
}

static void expect_story(const char *mode, const char *line, bool freed)
{
    static const char *const confs[] = {"guard_sample:20", "hardened:true,guard_sample:20"};
    for (size_t i = 0; i < 2; i++) {
        struct child_result result = run(confs[i], mode);
        cr_assert_eq(result.signal, SIGSEGV, "%s: signal %d, status %d: %s", mode, result.signal,
                     result.status, result.text);
        cr_assert_eq(strncmp(result.text, "apmalloc: read(0x", 17), 0, "%s", result.text);
        cr_assert_not_null(strstr(result.text, line), "%s", result.text);
        cr_assert_not_null(strstr(result.text, "\ntouched by thread "));
        cr_assert_not_null(strstr(result.text, "\nallocated by thread "));
        cr_assert_eq(strstr(result.text, "\nfreed by thread ") != NULL, freed);
        cr_assert_not_null(strstr(result.text, "sampled_program(+0x"), "%s", result.text);
    }
}

Test(sampled, a_use_after_free_tells_its_story)
{
    expect_story("use", "): access to a freed block\nthe block of ", true);
}

Test(sampled, an_access_before_a_block_tells_its_story)
{
    expect_story("underflow", "): access before the start of a block\nthe block of ", false);
}

Test(sampled, an_access_beyond_a_block_tells_its_story)
{
    expect_story("overflow", "): access beyond the end of a block\nthe block of ", false);
}

Test(sampled, an_access_beyond_a_block_that_grew_tells_its_story)
{
    expect_story("grown", "): access beyond the end of a block\nthe block of ", false);
}

Test(sampled, a_double_free_tells_its_story)
{
    struct child_result result = run("guard_sample:5", "twice");
    cr_assert_eq(result.signal, SIGABRT);
    cr_assert_not_null(strstr(result.text, "): double free"), "%s", result.text);
}

Test(sampled, a_fault_elsewhere_is_not_talked_about)
{
    struct child_result result = run("guard_sample:20", "outside");
    cr_assert_eq(result.signal, SIGSEGV);
    cr_assert_str_eq(result.text, "");
}
