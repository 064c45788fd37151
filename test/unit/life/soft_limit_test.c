/* SPDX-License-Identifier: MIT */
/*
 * soft_limit_test.c: the option and the control group.
 * Goal: nine tenths of the room that the group leaves, counting what the heap has already; the option if it
 * is less; what stays open for later readings, and what these change. Method: a tree of files that an option names.
 */
#include "life/soft_limit.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "config/options.h"
#include "heap/heap_limits.h"
#include "heap/page_heap.h"
#include "support/file_tree.h"
#include "support/os_faults.h"

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

/* --- readings of files that stay open --- */

enum { FIRST_NUMBER = 240, PERIOD_MS = 5000 };

static unsigned kept_files(void)
{
    unsigned count = 0;
    for (int number = FIRST_NUMBER; number < FIRST_NUMBER + 10; number++) {
        count += fcntl(number, F_GETFD) != -1;
    }
    return count;
}

static void set_check_ms(uint64_t ms)
{
    ap__options_unseal();
    ap__options.cgroup_check_ms = ms;
    ap__soft_limit_update();
}

Test(soft_limit, is_read_again_now_and_then_where_there_is_a_limit)
{
    uint64_t now_ms = 1000000;
    ap__soft_limit_update();
    cr_assert_eq(kept_files(), 2, "the group has two of the four files");
    ap__soft_limit_update_now_and_then(now_ms);
    file_tree_put(GROUP "/memory.max", "%zu\n", 500 * MIB);
    ap__soft_limit_update_now_and_then(now_ms + PERIOD_MS - 1);
    expect_about(720 * MIB);
    os_faults_reset();
    ap__soft_limit_update_now_and_then(now_ms + PERIOD_MS);
    expect_about(270 * MIB);
    cr_assert_eq(os_faults_count(OS_FAULTS_OPENAT), 0);
    file_tree_put(GROUP "/memory.max", "max\n");
    ap__soft_limit_update_now_and_then(now_ms + (uint64_t)2 * PERIOD_MS);
    cr_assert_eq(ap__heap_limits_soft(), SIZE_MAX, "the limit is gone");
}

Test(soft_limit, what_other_groups_left_goes_on_counting)
{
    file_tree_put("/sys/fs/cgroup/memory.max", "%zu\n", 2000 * MIB);
    file_tree_put("/sys/fs/cgroup/memory.current", "%zu\n", 1100 * MIB);
    ap__soft_limit_update();
    expect_about(720 * MIB);
    file_tree_put(GROUP "/memory.max", "%zu\n", 5000 * MIB);
    ap__soft_limit_update_now_and_then(1000000);
    expect_about(810 * MIB);
}

Test(soft_limit, without_a_limit_nothing_stays_open)
{
    file_tree_put(GROUP "/memory.max", "max\n");
    ap__soft_limit_update();
    cr_assert_eq(kept_files(), 0);
    file_tree_put(GROUP "/memory.max", "%zu\n", 500 * MIB);
    ap__soft_limit_update_now_and_then(1000000);
    cr_assert_eq(ap__heap_limits_soft(), SIZE_MAX);
    ap__soft_limit_update();
    cr_assert_eq(kept_files(), 2, "from an update on that finds a limit");
}

Test(soft_limit, a_limit_set_later_is_seen_where_readings_are_asked_for)
{
    file_tree_put(GROUP "/memory.max", "max\n");
    set_check_ms(20);
    cr_assert_eq(kept_files(), 2);
    ap__soft_limit_update_now_and_then(1000000);
    cr_assert_eq(ap__heap_limits_soft(), SIZE_MAX);
    file_tree_put(GROUP "/memory.max", "%zu\n", 500 * MIB);
    ap__soft_limit_update_now_and_then(1000020);
    expect_about(270 * MIB);
}

Test(soft_limit, readings_can_be_turned_off)
{
    ap__soft_limit_update();
    cr_assert_eq(kept_files(), 2);
    set_check_ms(0);
    cr_assert_eq(kept_files(), 0);
    file_tree_put(GROUP "/memory.max", "%zu\n", 500 * MIB);
    ap__soft_limit_update_now_and_then(1000000);
    expect_about(720 * MIB);
}

Test(soft_limit, nothing_stays_open_where_nobody_would_read_it)
{
    ap__options_unseal();
    ap__options.helper = 0;
    ap__soft_limit_update();
    cr_assert_eq(kept_files(), 0);
}

Test(soft_limit, updates_leave_as_much_open_as_the_first)
{
    for (int i = 0; i < 20; i++) {
        ap__soft_limit_update();
    }
    cr_assert_eq(kept_files(), 2);
}

Test(soft_limit, what_cannot_be_read_leaves_the_limit_as_it_is)
{
    ap__soft_limit_update();
    file_tree_put(GROUP "/memory.max", "%s", "");
    ap__soft_limit_update_now_and_then(1000000);
    expect_about(720 * MIB);
    file_tree_put(GROUP "/memory.max", "%zu\n", 500 * MIB);
    cr_assert_eq(close(FIRST_NUMBER), 0);
    ap__soft_limit_update_now_and_then(2000000);
    expect_about(720 * MIB);
    ap__soft_limit_update();
    expect_about(270 * MIB);
    cr_assert_eq(kept_files(), 2, "an update keeps anew");
}
