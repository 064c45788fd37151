/* SPDX-License-Identifier: MIT */
/*
 * soft_limit_test.c: the option and the control group.
 * Goal: nine tenths of the room that the group leaves, counting what the heap has already; the option if it
 * is less. Method: a tree of files that an option names.
 */
#include "life/soft_limit.h"

#include <criterion/criterion.h>
#include <string.h>

#include "config/options.h"
#include "heap/heap_limits.h"
#include "heap/page_heap.h"
#include "support/file_tree.h"

#define MIB ((size_t)1 << 20)
#define GROUP "/sys/fs/cgroup/g"

static void set_up(void)
{
    file_tree_make();
    file_tree_put("/proc/self/cgroup", "0::/g\n");
    file_tree_put(GROUP "/memory.max", "%zu\n", 1000 * MIB);
    file_tree_put(GROUP "/memory.current", "%zu\n", 200 * MIB);
    (void)strcpy(ap__options.cgroup_root, file_tree_root);
    ap__soft_limit_init();
}

TestSuite(soft_limit, .init = set_up, .fini = file_tree_remove);

/* Within what the heap of the test process itself may have. */
static void expect_about(size_t bytes)
{
    size_t soft = ap__heap_limits_soft();
    cr_assert(soft >= bytes && soft - bytes <= 20 * MIB, "%zu MiB", soft / MIB);
}

Test(soft_limit, is_nine_tenths_of_what_the_group_leaves)
{
    cr_assert_eq(ap__heap_limits_soft(), SIZE_MAX, "not read yet");
    ap__soft_limit_update();
    expect_about(720 * MIB);
    file_tree_put(GROUP "/memory.current", "%zu\n", 600 * MIB);
    ap__soft_limit_update();
    expect_about(360 * MIB);
    file_tree_put(GROUP "/memory.max", "max\n");
    ap__soft_limit_update();
    cr_assert_eq(ap__heap_limits_soft(), SIZE_MAX, "the limit is gone");
}

Test(soft_limit, what_the_heap_has_counts_as_its_own)
{
    ap__soft_limit_update();
    struct ap__span *span = ap__page_heap_take(100 * MIB / AP_GRANULE, AP_GRANULE, 0);
    file_tree_put(GROUP "/memory.current", "%zu\n", 300 * MIB);
    ap__soft_limit_update();
    expect_about(720 * MIB);
    ap__page_heap_give(span);
}

Test(soft_limit, the_option_counts_if_it_is_less)
{
    ap__options_unseal();
    ap__options.soft_limit = 50 * MIB;
    ap__soft_limit_init();
    cr_assert_eq(ap__heap_limits_soft(), 50 * MIB);
    ap__soft_limit_update();
    cr_assert_eq(ap__heap_limits_soft(), 50 * MIB);
    ap__options.soft_limit = 5000 * MIB;
    ap__soft_limit_update();
    expect_about(720 * MIB);
}

Test(soft_limit, the_group_can_be_left_out)
{
    ap__options_unseal();
    ap__options.cgroup = 0;
    ap__soft_limit_update();
    cr_assert_eq(ap__heap_limits_soft(), SIZE_MAX);
}
