/* SPDX-License-Identifier: MIT */
/*
 * early_test.c: the heap is used while the program is still being linked at run time.
 * Goal: a resolver of an indirect function may allocate, with the library linked or preloaded.
 * Method: a helper program, run both ways; its text and status.
 */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "entry_points.h"
#include "support/child.h"

TestSuite(early, .timeout = 60);

static void expect_resolved(const char *program)
{
    struct child_result result;
    const char *const arguments[] = {beside_test(program), NULL};
    child_exec(&result, arguments);
    cr_assert_eq(result.signal, 0, "%s: signal %d: %s", program, result.signal, result.text);
    cr_assert_eq(result.status, 0, "%s: status %d: %s", program, result.status, result.text);
    cr_assert_str_eq(result.text, "resolved by apmalloc\n");
}

Test(early, a_resolver_may_allocate_where_the_library_is_linked)
{
    expect_resolved("ifunc_linked_program");
}

Test(early, a_resolver_may_allocate_where_the_library_is_preloaded)
{
    Dl_info ours;
    cr_assert(dladdr(dlsym(RTLD_DEFAULT, "ap_malloc"), &ours));
    cr_assert_eq(setenv("LD_PRELOAD", ours.dli_fname, 1), 0);
    expect_resolved("ifunc_plain_program");
}
