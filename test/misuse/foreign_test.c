/* SPDX-License-Identifier: MIT */
/*
 * foreign_test.c: blocks of other allocators that live in the same process.
 * Goal: each function reports such a block as foreign; with ignore_foreign, free lets it be and the
 * program goes on, while functions that would have to look into it still report. Method: a helper
 * program gets the block from a library with another libc, or from the loader; the lines it leaves
 * are compared to the letter.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "entry_points.h"
#include "support/child.h"

TestSuite(foreign, .timeout = 120);

static const char *const kinds[] = {"dlmopen", "deepbind", "ld.so", "libc"};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static bool run(struct child_result *result, const char *kind, const char *function,
                const char *set)
{
    const char *const arguments[] = {beside_test("foreign_program"), kind, function, set, NULL};
    child_exec(result, arguments);
    return result->status != 77; /* this libc shows no such block */
}

static void expect_report(const char *kind, const char *function, const char *set)
{
    struct child_result result;
    char expected[256], pointer[32] = "";
    if (!run(&result, kind, function, set)) {
        return;
    }
    bool libc_name = strcmp(set, "libc") == 0;
    const char *prefix = !libc_name ? "ap_" : strcmp(function, "usable_size") == 0 ? "malloc_" : "";
    cr_assert_eq(sscanf(result.text, "%31s", pointer), 1);
    (void)snprintf(expected, sizeof expected,
                   "%s\napmalloc: %s%s(%s): foreign pointer: not from this allocator\n", pointer,
                   prefix, function, pointer);
    cr_assert_eq(result.signal, SIGABRT, "%s of %s: signal %d, status %d: %s", function, kind,
                 result.signal, result.status, result.text);
    cr_assert_str_eq(result.text, expected, "%s of %s: %s", function, kind, result.text);
}

static void expect_ignored(const char *kind, const char *function, const char *set)
{
    struct child_result result;
    char expected[64], pointer[32] = "";
    if (!run(&result, kind, function, set)) {
        return;
    }
    cr_assert_eq(sscanf(result.text, "%31s", pointer), 1);
    (void)snprintf(expected, sizeof expected, "%s\nwent on\n", pointer);
    cr_assert_eq(result.status, 0, "%s of %s: signal %d, status %d: %s", function, kind,
                 result.signal, result.status, result.text);
    cr_assert_str_eq(result.text, expected);
}

Test(foreign, blocks_are_reported_by_every_function)
{
    static const char *const functions[] = {
        "free",        "cfree",      "realloc",           "reallocarray",
        "usable_size", "free_sized", "free_aligned_sized"};
    cr_assert_eq(unsetenv("APMALLOC_CONF"), 0);
    FOR_EACH_SET (e) {
        for (size_t k = 0; k < KINDS; k++) {
            for (size_t f = 0; f < sizeof functions / sizeof functions[0]; f++) {
                expect_report(kinds[k], functions[f], e->set);
            }
        }
    }
}

Test(foreign, blocks_can_be_ignored_by_free)
{
    cr_assert_eq(setenv("APMALLOC_CONF", "ignore_foreign:true", 1), 0);
    FOR_EACH_SET (e) {
        for (size_t k = 0; k < KINDS; k++) {
            expect_ignored(kinds[k], "free", e->set);
            expect_ignored(kinds[k], "cfree", e->set);
            expect_report(kinds[k], "realloc", e->set);
            expect_report(kinds[k], "reallocarray", e->set);
            expect_report(kinds[k], "usable_size", e->set);
        }
    }
}
