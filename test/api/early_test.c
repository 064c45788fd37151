/* SPDX-License-Identifier: MIT */
/*
 * early_test.c: the heap is used while the program is still being linked at run time.
 * Goal: a resolver of an indirect function may allocate, with the library linked or preloaded.
 * Method: a helper program, run both ways; its text and status.
 */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdlib.h>

#include "entry_points.h"
#include "run_beside.h"

TestSuite(early, .timeout = 60);

static void expect_resolved(const char *program)
{
    expect_good_run_saying("resolved by apmalloc\n", program, NULL, NULL);
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
