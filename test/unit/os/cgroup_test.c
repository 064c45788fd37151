/* SPDX-License-Identifier: MIT */
/*
 * cgroup_test.c: what memory the control group allows.
 * Goal: the group is found and its limits are read as the kernel applies them, on systems of version
 * 1, 2 and both, in and outside of containers; broken files are no limits and never a crash. Method:
 * a tree of files as the kernel has them, in a temporary folder that stands for "/".
 */
#include "os/cgroup.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/file_tree.h"
#include "support/os_faults.h"

enum { STALE_ERRNO = 1789 };
#define MIB ((size_t)1 << 20)
#define GROUPS "/sys/fs/cgroup"

TestSuite(cgroup, .init = file_tree_make, .fini = file_tree_remove);

static void put_process(const char *text)
{
    file_tree_put("/proc/self/cgroup", "%s", text);
}

static struct ap__cgroup_memory read_found(void)
{
    struct ap__cgroup cgroup;
    struct ap__cgroup_memory memory;
    cr_assert(ap__cgroup_find(&cgroup, file_tree_root));
    cr_assert(ap__cgroup_read(&cgroup, &memory));
    return memory;
}

static void check_none_found(void)
{
    struct ap__cgroup cgroup;
    cr_assert_not(ap__cgroup_find(&cgroup, file_tree_root));
}

/* The limit that the text of memory.max means. */
static size_t limit_of_text(const char *text)
{
    file_tree_put(GROUPS "/g/memory.max", "%s", text);
    return read_found().limit_bytes;
}

Test(cgroup, version_2_limits_of_the_own_group)
{
    put_process("0::/g\n");
    file_tree_put(GROUPS "/g/memory.max", "%zu\n", 100 * MIB);
    file_tree_put(GROUPS "/g/memory.high", "%zu\n", 80 * MIB);
    file_tree_put(GROUPS "/g/memory.current", "%zu\n", 30 * MIB);
    struct ap__cgroup_memory memory = read_found();
    cr_assert_eq(memory.limit_bytes, 100 * MIB);
    cr_assert_eq(memory.high_bytes, 80 * MIB);
    cr_assert_eq(memory.used_bytes, 30 * MIB);
    cr_assert_eq(memory.room_bytes, 50 * MIB);
}

Test(cgroup, the_lowest_limit_may_be_an_ancestors)
{
    put_process("0::/a/b/c/d\n");
    file_tree_put(GROUPS "/a/memory.max", "%zu\n", 500 * MIB);
    file_tree_put(GROUPS "/a/memory.current", "%zu\n", 50 * MIB);
    file_tree_put(GROUPS "/a/b/memory.max", "%zu\n", 200 * MIB);
    file_tree_put(GROUPS "/a/b/memory.current", "%zu\n", 40 * MIB);
    file_tree_put(GROUPS "/a/b/c/memory.max", "max\n");
    file_tree_put(GROUPS "/a/b/c/memory.current", "%zu\n", 30 * MIB);
    file_tree_put(GROUPS "/a/b/c/d/memory.max", "%zu\n", 300 * MIB);
    file_tree_put(GROUPS "/a/b/c/d/memory.current", "%zu\n", 20 * MIB);
    struct ap__cgroup_memory memory = read_found();
    cr_assert_eq(memory.limit_bytes, 200 * MIB);
    cr_assert_eq(memory.high_bytes, SIZE_MAX);
    cr_assert_eq(memory.used_bytes, 40 * MIB);
    cr_assert_eq(memory.room_bytes, 160 * MIB);
}

Test(cgroup, an_ancestor_with_a_higher_limit_may_have_less_room)
{
    put_process("0::/a/b\n");
    file_tree_put(GROUPS "/a/memory.max", "%zu\n", 500 * MIB);
    file_tree_put(GROUPS "/a/memory.current", "%zu\n", 490 * MIB);
    file_tree_put(GROUPS "/a/b/memory.max", "%zu\n", 200 * MIB);
    file_tree_put(GROUPS "/a/b/memory.current", "%zu\n", 20 * MIB);
    struct ap__cgroup_memory memory = read_found();
    cr_assert_eq(memory.limit_bytes, 200 * MIB);
    cr_assert_eq(memory.used_bytes, 490 * MIB);
    cr_assert_eq(memory.room_bytes, 10 * MIB);
}

Test(cgroup, the_root_of_the_mount_counts_and_what_is_above_does_not)
{
    put_process("0::/a\n");
    file_tree_put(GROUPS "/a/memory.max", "%zu\n", 70 * MIB);
    file_tree_put(GROUPS "/memory.max", "%zu\n", 60 * MIB);
    file_tree_put("/sys/fs/memory.max", "%zu\n", 50 * MIB);
    cr_assert_eq(read_found().limit_bytes, 60 * MIB);
}

Test(cgroup, a_group_without_the_controller_has_its_ancestors_limit)
{
    put_process("0::/a/leaf\n");
    file_tree_put(GROUPS "/a/memory.max", "%zu\n", 70 * MIB);
    file_tree_put(GROUPS "/a/leaf/cgroup.procs", "1\n");
    cr_assert_eq(read_found().limit_bytes, 70 * MIB);
}

Test(cgroup, max_is_no_limit)
{
    put_process("0::/g\n");
    file_tree_put(GROUPS "/g/memory.max", "max\n");
    file_tree_put(GROUPS "/g/memory.high", "max\n");
    file_tree_put(GROUPS "/g/memory.current", "%zu\n", 30 * MIB);
    struct ap__cgroup_memory memory = read_found();
    cr_assert_eq(memory.limit_bytes, SIZE_MAX);
    cr_assert_eq(memory.high_bytes, SIZE_MAX);
    cr_assert_eq(memory.used_bytes, 0);
    cr_assert_eq(memory.room_bytes, SIZE_MAX);
}

Test(cgroup, high_alone_is_a_limit_too)
{
    put_process("0::/g\n");
    file_tree_put(GROUPS "/g/memory.high", "%zu\n", 90 * MIB);
    file_tree_put(GROUPS "/g/memory.current", "%zu\n", 91 * MIB);
    struct ap__cgroup_memory memory = read_found();
    cr_assert_eq(memory.limit_bytes, SIZE_MAX);
    cr_assert_eq(memory.high_bytes, 90 * MIB);
    cr_assert_eq(memory.used_bytes, 91 * MIB);
    cr_assert_eq(memory.room_bytes, 0);
}

Test(cgroup, limits_are_read_anew_each_time)
{
    struct ap__cgroup cgroup;
    struct ap__cgroup_memory memory;
    put_process("0::/g\n");
    file_tree_put(GROUPS "/g/memory.max", "max\n");
    cr_assert(ap__cgroup_find(&cgroup, file_tree_root));
    file_tree_put(GROUPS "/g/memory.max", "%zu\n", 10 * MIB);
    cr_assert(ap__cgroup_read(&cgroup, &memory));
    cr_assert_eq(memory.limit_bytes, 10 * MIB);
    file_tree_remove();
    cr_assert_not(ap__cgroup_read(&cgroup, &memory));
    cr_assert_eq(memory.limit_bytes, SIZE_MAX);
    cr_assert_eq(memory.room_bytes, SIZE_MAX);
}

Test(cgroup, version_1_limits)
{
    put_process("5:cpu,cpuacct:/other\n4:memory:/a/b\n1:name=memory:/wrong\n");
    file_tree_put(GROUPS "/memory/memory.limit_in_bytes", "9223372036854771712\n");
    file_tree_put(GROUPS "/memory/a/memory.limit_in_bytes", "%zu\n", 64 * MIB);
    file_tree_put(GROUPS "/memory/a/memory.usage_in_bytes", "%zu\n", 16 * MIB);
    file_tree_put(GROUPS "/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
    file_tree_put(GROUPS "/memory/a/b/memory.soft_limit_in_bytes", "%zu\n", 1 * MIB);
    file_tree_put(GROUPS "/memory/a/b/memory.usage_in_bytes", "%zu\n", 8 * MIB);
    struct ap__cgroup_memory memory = read_found();
    cr_assert_eq(memory.limit_bytes, 64 * MIB);
    cr_assert_eq(memory.high_bytes, SIZE_MAX);
    cr_assert_eq(memory.used_bytes, 16 * MIB);
    cr_assert_eq(memory.room_bytes, 48 * MIB);
}

Test(cgroup, version_1_says_none_by_a_huge_number)
{
    put_process("4:memory:/\n");
    file_tree_put(GROUPS "/memory/memory.limit_in_bytes", "4611686018427387904\n"); /* 2^62 */
    cr_assert_eq(read_found().limit_bytes, SIZE_MAX);
    file_tree_put(GROUPS "/memory/memory.limit_in_bytes", "4611686018427387903\n");
    cr_assert_eq(read_found().limit_bytes, ((size_t)1 << 62) - 1);
}

Test(cgroup, the_memory_controller_may_be_one_of_a_list)
{
    const char *const lines[] = {"3:memory,cpu:/g\n", "3:cpu,memory:/g\n", "3:a,memory,b:/g\n"};
    file_tree_put(GROUPS "/memory/g/memory.limit_in_bytes", "%zu\n", 64 * MIB);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        put_process(lines[i]);
        cr_assert_eq(read_found().limit_bytes, 64 * MIB, "%s", lines[i]);
    }
}

Test(cgroup, similar_names_are_not_the_memory_controller)
{
    file_tree_put(GROUPS "/memory/g/memory.limit_in_bytes", "%zu\n", 64 * MIB);
    put_process("3:memory2:/g\n4:xmemory,memoryx:/g\n5:name=memory:/g\n6::/g\n");
    check_none_found();
}

Test(cgroup, hybrid_systems_have_the_limits_of_version_1)
{
    put_process("0::/g\n4:memory:/g\n");
    file_tree_put(GROUPS "/memory/g/memory.limit_in_bytes", "%zu\n", 64 * MIB);
    file_tree_put(GROUPS "/unified/g/memory.max", "%zu\n", 32 * MIB);
    file_tree_put(GROUPS "/g/memory.max", "%zu\n", 16 * MIB);
    cr_assert_eq(read_found().limit_bytes, 64 * MIB);
}

Test(cgroup, version_1_without_a_mount_leaves_version_2)
{
    put_process("4:memory:/g\n0::/g\n");
    file_tree_put(GROUPS "/g/memory.max", "%zu\n", 16 * MIB);
    cr_assert_eq(read_found().limit_bytes, 16 * MIB);
}

Test(cgroup, hybrid_systems_may_keep_memory_in_version_2)
{
    put_process("5:cpu:/g\n0::/g\n");
    file_tree_put(GROUPS "/unified/g/memory.max", "%zu\n", 32 * MIB);
    cr_assert_eq(read_found().limit_bytes, 32 * MIB);
}

Test(cgroup, a_path_from_outside_of_the_namespace_is_the_root_of_the_mount)
{
    file_tree_put(GROUPS "/memory.max", "%zu\n", 24 * MIB);
    put_process("0::/docker/0123456789abcdef\n");
    cr_assert_eq(read_found().limit_bytes, 24 * MIB);
    put_process("0::/\n");
    cr_assert_eq(read_found().limit_bytes, 24 * MIB);
    file_tree_put("/sys/fs/out/memory.max", "%zu\n", 12 * MIB);
    put_process("0::/../out\n");
    cr_assert_eq(read_found().limit_bytes, 24 * MIB);
    file_tree_put(GROUPS "/memory/memory.limit_in_bytes", "%zu\n", 48 * MIB);
    put_process("4:memory:/docker/0123456789abcdef\n");
    cr_assert_eq(read_found().limit_bytes, 48 * MIB);
}

Test(cgroup, names_may_hold_colons_and_spaces)
{
    put_process("0::/a:b/c d:e\n");
    file_tree_put(GROUPS "/a:b/c d:e/memory.max", "%zu\n", 16 * MIB);
    cr_assert_eq(read_found().limit_bytes, 16 * MIB);
}

Test(cgroup, files_need_no_final_newline)
{
    put_process("0::/g");
    file_tree_put(GROUPS "/g/memory.max", "%zu", 16 * MIB);
    file_tree_put(GROUPS "/g/memory.current", "%zu", 5 * MIB);
    file_tree_put(GROUPS "/g/memory.stat", "anon 7\ninactive_file %zu", 2 * MIB);
    struct ap__cgroup_memory memory = read_found();
    cr_assert_eq(memory.limit_bytes, 16 * MIB);
    cr_assert_eq(memory.used_bytes, 3 * MIB);
}

Test(cgroup, page_cache_that_can_be_dropped_is_room)
{
    put_process("0::/g\n");
    file_tree_put(GROUPS "/g/memory.max", "%zu\n", 100 * MIB);
    file_tree_put(GROUPS "/g/memory.current", "%zu\n", 60 * MIB);
    file_tree_put(
        GROUPS "/g/memory.stat",
        "anon 1\nfile 2\nworkingset_inactive_file 3\ninactive_file_x 4\ninactive_file %zu\nslab "
        "5\n",
        20 * MIB);
    cr_assert_eq(read_found().used_bytes, 40 * MIB);
    cr_assert_eq(read_found().room_bytes, 60 * MIB);
    file_tree_put(GROUPS "/g/memory.stat", "inactive_file %zu\n", 61 * MIB);
    cr_assert_eq(read_found().used_bytes, 0, "not below 0");
    cr_assert_eq(read_found().room_bytes, 100 * MIB);
    file_tree_put(GROUPS "/g/memory.stat", "inactive_file nonsense\ninactive_file\n");
    cr_assert_eq(read_found().used_bytes, 60 * MIB);
}

/* A group that has read many files is full of pages that the kernel drops before it refuses anything. */
Test(cgroup, page_cache_in_use_and_caches_of_the_kernel_can_be_dropped)
{
    put_process("0::/g\n");
    file_tree_put(GROUPS "/g/memory.max", "%zu\n", 100 * MIB);
    file_tree_put(GROUPS "/g/memory.current", "%zu\n", 99 * MIB);
    file_tree_put(GROUPS "/g/memory.stat",
                  "anon 1\nfile %zu\nshmem %zu\ninactive_anon 7\nactive_anon 8\ninactive_file %zu\n"
                  "active_file %zu\nslab_reclaimable %zu\nslab_unreclaimable 9\nslab 10\n",
                  90 * MIB, 20 * MIB, 10 * MIB, 60 * MIB, 4 * MIB);
    cr_assert_eq(read_found().used_bytes, 25 * MIB);
    cr_assert_eq(read_found().room_bytes, 75 * MIB);
    file_tree_put(GROUPS "/g/memory.stat", "active_file 18446744073709551615\ninactive_file %zu\n",
                  4 * MIB);
    cr_assert_eq(read_found().used_bytes, 95 * MIB, "nonsense counts as none");
}

Test(cgroup, page_cache_counts_where_its_group_does)
{
    put_process("0::/a/b\n");
    file_tree_put(GROUPS "/a/memory.max", "%zu\n", 100 * MIB);
    file_tree_put(GROUPS "/a/memory.current", "%zu\n", 99 * MIB);
    file_tree_put(GROUPS "/a/memory.stat", "inactive_file %zu\n", 50 * MIB);
    file_tree_put(GROUPS "/a/b/memory.max", "%zu\n", 60 * MIB);
    file_tree_put(GROUPS "/a/b/memory.current", "%zu\n", 20 * MIB);
    cr_assert_eq(read_found().room_bytes, 40 * MIB);
    cr_assert_eq(read_found().used_bytes, 20 * MIB);
}

Test(cgroup, version_1_counts_the_page_cache_of_all_groups_below)
{
    put_process("4:memory:/g\n");
    file_tree_put(GROUPS "/memory/g/memory.limit_in_bytes", "%zu\n", 64 * MIB);
    file_tree_put(GROUPS "/memory/g/memory.usage_in_bytes", "%zu\n", 32 * MIB);
    file_tree_put(GROUPS "/memory/g/memory.stat",
                  "inactive_file %zu\nactive_file %zu\n"
                  "total_inactive_file %zu\ntotal_active_file %zu\n",
                  1 * MIB, 2 * MIB, 10 * MIB, 5 * MIB);
    cr_assert_eq(read_found().used_bytes, 17 * MIB);
}

Test(cgroup, page_cache_is_found_behind_much_else)
{
    char other[8192];
    memset(other, 'x', sizeof other);
    for (size_t i = 40; i < sizeof other; i += 40) {
        other[i] = '\n';
    }
    put_process("0::/g\n");
    file_tree_put(GROUPS "/g/memory.max", "%zu\n", 100 * MIB);
    file_tree_put(GROUPS "/g/memory.current", "%zu\n", 60 * MIB);
    file_tree_put(GROUPS "/g/memory.stat", "%.*s\ninactive_file %zu\n", (int)sizeof other, other,
                  20 * MIB);
    cr_assert_eq(read_found().used_bytes, 40 * MIB);
}

Test(cgroup, numbers_are_bytes_or_none)
{
    put_process("0::/g\n");
    cr_assert_eq(limit_of_text("0\n"), 0);
    cr_assert_eq(limit_of_text("1"), 1);
    cr_assert_eq(limit_of_text("0004096\n"), 4096);
    cr_assert_eq(limit_of_text("4096\n8192\n"), 4096);
    const char *const none[] = {"max",
                                "\n",
                                " ",
                                "-1\n",
                                "+1\n",
                                " 1\n",
                                "1 \n",
                                "12K\n",
                                "0x10\n",
                                "12.5\n",
                                "nonsense",
                                "18446744073709551615\n",
                                "18446744073709551616\n",
                                "99999999999999999999999999999999\n"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        cr_assert_eq(limit_of_text(none[i]), SIZE_MAX, "'%s'", none[i]);
    }
}

Test(cgroup, usage_that_cannot_be_read_is_0)
{
    put_process("0::/g\n");
    file_tree_put(GROUPS "/g/memory.max", "%zu\n", 100 * MIB);
    cr_assert_eq(read_found().used_bytes, 0);
    cr_assert_eq(read_found().room_bytes, 100 * MIB);
    file_tree_put(GROUPS "/g/memory.current", "nonsense\n");
    file_tree_put(GROUPS "/g/memory.stat", "inactive_file %zu\n", 1 * MIB);
    cr_assert_eq(read_found().used_bytes, 0);
}

Test(cgroup, without_files_no_group_is_found)
{
    check_none_found();
    put_process("0::/g\n");
    check_none_found();
    file_tree_put(GROUPS "/g/cgroup.procs", "1\n");
    check_none_found();
    file_tree_put(GROUPS "/g/memory.max/is_a_folder", "1\n");
    check_none_found();
}

Test(cgroup, garbage_in_the_process_file_is_no_group)
{
    const char *const texts[] = {"",
                                 "\n",
                                 "\n\n\n",
                                 ":",
                                 "::",
                                 "::/g",
                                 "0:",
                                 "0::",
                                 "0::\n",
                                 "0::g\n",
                                 "00::/g",
                                 "0:::/g\n",
                                 "4:memory:g",
                                 "memory",
                                 "4:memory\n",
                                 "/g\n",
                                 "0;;/g\n",
                                 "4:,,,:/g\n",
                                 "\xff\xfe\x80:\xff:/g\n"};
    file_tree_put(GROUPS "/g/memory.max", "%zu\n", 16 * MIB);
    file_tree_put(GROUPS "/memory/g/memory.limit_in_bytes", "%zu\n", 16 * MIB);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct ap__cgroup cgroup;
        put_process(texts[i]);
        cr_assert_not(ap__cgroup_find(&cgroup, file_tree_root), "'%s'", texts[i]);
    }
}

Test(cgroup, garbage_before_and_behind_the_line_does_no_harm)
{
    char text[8192];
    memset(text, ':', sizeof text);
    file_tree_put(GROUPS "/g/memory.max", "%zu\n", 16 * MIB);
    file_tree_put("/proc/self/cgroup", "%.*s\nnonsense\n0::/g\n%.*s", (int)sizeof text, text, 100,
                  text);
    cr_assert_eq(read_found().limit_bytes, 16 * MIB);
}

/* The line of a group whose path has `length` bytes, all of it one-letter folders. */
static void put_process_with_path(size_t length)
{
    char path[8192] = {0};
    for (size_t i = 0; i < length; i++) {
        path[i] = i % 2 == 0 ? '/' : 'd';
    }
    file_tree_put("/proc/self/cgroup", "0::%s\n", path);
}

Test(cgroup, paths_too_long_are_no_crash)
{
    file_tree_put(GROUPS "/memory.max", "%zu\n", 16 * MIB);
    for (size_t length = 900; length < 1200; length++) {
        struct ap__cgroup cgroup;
        struct ap__cgroup_memory memory;
        put_process_with_path(length);
        if (ap__cgroup_find(&cgroup, file_tree_root)) {
            cr_assert(ap__cgroup_read(&cgroup, &memory));
            cr_assert_eq(memory.limit_bytes, 16 * MIB);
        } else {
            cr_assert_gt(length, 1000);
        }
    }
    put_process_with_path(8000);
    check_none_found();
}

Test(cgroup, the_longest_folder_is_read)
{
    char path[AP__CGROUP_FOLDER_MAX] = GROUPS;
    char name[AP__CGROUP_FOLDER_MAX + 32];
    size_t most = AP__CGROUP_FOLDER_MAX - 1 - strlen(file_tree_root);
    for (size_t i = strlen(path); i < most; i++) {
        path[i] = i % 100 == 0 && i + 1 < most ? '/' : 'd';
    }
    path[strlen(GROUPS)] = '/';
    snprintf(name, sizeof name, "%s/memory.max", path);
    file_tree_put(name, "%zu\n", 16 * MIB);
    file_tree_put("/proc/self/cgroup", "0::%s\n", path + strlen(GROUPS));
    cr_assert_eq(read_found().limit_bytes, 16 * MIB);
}

Test(cgroup, roots_too_long_or_missing_have_no_group)
{
    static char long_root[8192];
    struct ap__cgroup cgroup;
    memset(long_root, '/', sizeof long_root - 1);
    cr_assert_not(ap__cgroup_find(&cgroup, long_root));
    for (size_t length = 980; length < 1060; length++) {
        (void)ap__cgroup_find(&cgroup, long_root + sizeof long_root - 1 - length);
    }
    cr_assert_not(ap__cgroup_find(&cgroup, "/nonexistent"));
    cr_assert_not(ap__cgroup_find(&cgroup, "/dev/null"));
}

Test(cgroup, the_real_system_gives_limits_or_none)
{
    struct ap__cgroup cgroup;
    struct ap__cgroup_memory memory;
    if (ap__cgroup_find(&cgroup, "")) {
        cr_assert(ap__cgroup_read(&cgroup, &memory));
        cr_assert_gt(memory.limit_bytes, 0);
        cr_assert_leq(memory.used_bytes, (size_t)1 << 62);
    }
}

Test(cgroup, nothing_stays_open_and_errno_stays)
{
    struct ap__cgroup cgroup;
    struct ap__cgroup_memory memory;
    int next = dup(STDERR_FILENO);
    (void)close(next);
    errno = STALE_ERRNO;
    cr_assert_not(ap__cgroup_find(&cgroup, file_tree_root));
    cr_assert_eq(errno, STALE_ERRNO);
    put_process("4:memory:/h\n0::/a/b\n");
    file_tree_put(GROUPS "/a/b/memory.max", "%zu\n", 16 * MIB);
    errno = STALE_ERRNO;
    cr_assert(ap__cgroup_find(&cgroup, file_tree_root));
    cr_assert(ap__cgroup_read(&cgroup, &memory));
    cr_assert_eq(errno, STALE_ERRNO);
    int again = dup(STDERR_FILENO);
    (void)close(again);
    cr_assert_eq(again, next);
}

/* --- files that stay open --- */

static struct ap__cgroup_kept keep_found(void)
{
    struct ap__cgroup cgroup;
    struct ap__cgroup_memory memory;
    struct ap__cgroup_kept kept;
    cr_assert(ap__cgroup_find_and_read(&cgroup, file_tree_root, &memory));
    cr_assert(ap__cgroup_keep(&kept, &cgroup, &memory));
    return kept;
}

static void expect_kept(struct ap__cgroup_kept *kept, size_t limit, size_t high, size_t used)
{
    struct ap__cgroup_memory memory;
    size_t bound = limit < high ? limit : high;
    cr_assert(ap__cgroup_read_kept(kept, &memory));
    cr_assert_eq(memory.limit_bytes, limit);
    cr_assert_eq(memory.high_bytes, high);
    cr_assert_eq(memory.used_bytes, used);
    cr_assert_eq(memory.room_bytes, bound == SIZE_MAX ? SIZE_MAX : bound - used);
}

static void expect_unreadable(struct ap__cgroup_kept *kept)
{
    struct ap__cgroup_memory memory;
    errno = STALE_ERRNO;
    cr_assert_not(ap__cgroup_read_kept(kept, &memory));
    cr_assert_eq(errno, STALE_ERRNO);
}

static void put_group(const char *folder, size_t limit, size_t used)
{
    char name[256];
    (void)snprintf(name, sizeof name, GROUPS "%s/memory.max", folder);
    file_tree_put(name, "%zu\n", limit);
    (void)snprintf(name, sizeof name, GROUPS "%s/memory.current", folder);
    file_tree_put(name, "%zu\n", used);
}

Test(cgroup, kept_files_are_read_without_opening_any)
{
    put_process("0::/g\n");
    put_group("/g", 100 * MIB, 60 * MIB);
    file_tree_put(GROUPS "/g/memory.high", "max\n");
    file_tree_put(GROUPS "/g/memory.stat", "anon 1\ninactive_file %zu\n", 20 * MIB);
    struct ap__cgroup_kept kept = keep_found();
    os_faults_reset();
    expect_kept(&kept, 100 * MIB, SIZE_MAX, 40 * MIB);
    put_group("/g", 80 * MIB, 50 * MIB);
    file_tree_put(GROUPS "/g/memory.high", "%zu\n", 70 * MIB);
    file_tree_put(GROUPS "/g/memory.stat", "anon 1\ninactive_file %zu\n", 30 * MIB);
    expect_kept(&kept, 80 * MIB, 70 * MIB, 20 * MIB);
    cr_assert_eq(os_faults_count(OS_FAULTS_OPENAT), 0);
    cr_assert_eq(os_faults_count(OS_FAULTS_CLOSE), 0);
    ap__cgroup_forget(&kept);
    expect_unreadable(&kept);
}

Test(cgroup, kept_files_of_version_1)
{
    put_process("4:memory:/g\n");
    file_tree_put(GROUPS "/memory/g/memory.limit_in_bytes", "%zu\n", 64 * MIB);
    file_tree_put(GROUPS "/memory/g/memory.usage_in_bytes", "%zu\n", 32 * MIB);
    file_tree_put(GROUPS "/memory/g/memory.stat", "total_inactive_file %zu\n", 10 * MIB);
    struct ap__cgroup_kept kept = keep_found();
    expect_kept(&kept, 64 * MIB, SIZE_MAX, 22 * MIB);
    file_tree_put(GROUPS "/memory/g/memory.limit_in_bytes", "9223372036854771712\n");
    expect_kept(&kept, SIZE_MAX, SIZE_MAX, 0);
    ap__cgroup_forget(&kept);
}

Test(cgroup, the_group_with_the_least_room_is_kept)
{
    put_process("0::/a/b/c\n");
    put_group("/a", 500 * MIB, 490 * MIB);
    put_group("/a/b", 200 * MIB, 170 * MIB);
    put_group("/a/b/c", 100 * MIB, 20 * MIB);
    struct ap__cgroup_memory memory = read_found();
    cr_assert_eq(memory.room_bytes, 10 * MIB);
    cr_assert_eq(memory.other_room_bytes, 30 * MIB);
    struct ap__cgroup_kept kept = keep_found();
    expect_kept(&kept, 500 * MIB, SIZE_MAX, 490 * MIB);
    ap__cgroup_forget(&kept);
    put_group("/a/b/c", 21 * MIB, 20 * MIB);
    cr_assert_eq(read_found().other_room_bytes, 10 * MIB);
    kept = keep_found();
    expect_kept(&kept, 21 * MIB, SIZE_MAX, 20 * MIB);
    ap__cgroup_forget(&kept);
}

Test(cgroup, of_one_group_with_a_limit_no_other_has_less_room)
{
    put_process("0::/a/b\n");
    put_group("/a", 500 * MIB, 490 * MIB);
    file_tree_put(GROUPS "/a/b/memory.max", "max\n");
    cr_assert_eq(read_found().other_room_bytes, SIZE_MAX);
}

Test(cgroup, without_a_limit_the_lowest_group_with_files_is_kept)
{
    put_process("0::/a/b/leaf\n");
    file_tree_put(GROUPS "/a/memory.max", "max\n");
    file_tree_put(GROUPS "/a/b/memory.max", "max\n");
    file_tree_put(GROUPS "/a/b/leaf/cgroup.procs", "1\n");
    struct ap__cgroup_kept kept = keep_found();
    expect_kept(&kept, SIZE_MAX, SIZE_MAX, 0);
    file_tree_put(GROUPS "/a/b/memory.max", "%zu\n", 7 * MIB);
    expect_kept(&kept, 7 * MIB, SIZE_MAX, 0);
    ap__cgroup_forget(&kept);
}

Test(cgroup, one_kept_file_lost_is_all_lost)
{
    put_process("0::/g\n");
    put_group("/g", 100 * MIB, 60 * MIB);
    file_tree_put(GROUPS "/g/memory.high", "max\n");
    file_tree_put(GROUPS "/g/memory.stat", "inactive_file 1\n");
    for (unsigned i = 0; i < AP__CGROUP_FILES; i++) {
        struct ap__cgroup_kept kept = keep_found();
        cr_assert_eq(close(kept.files[i].number), 0);
        expect_unreadable(&kept);
        os_faults_reset();
        expect_unreadable(&kept);
        cr_assert_eq(os_faults_count(OS_FAULTS_FSTAT), 0, "it asks no more");
        ap__cgroup_forget(&kept);
        cr_assert_eq(fcntl(240, F_GETFD), -1, "what was still ours is closed");
    }
}

Test(cgroup, kept_files_that_say_nothing_leave_it_at_that)
{
    put_process("0::/g\n");
    put_group("/g", 100 * MIB, 60 * MIB);
    struct ap__cgroup_kept kept = keep_found();
    file_tree_put(GROUPS "/g/memory.max", "%s", "");
    expect_unreadable(&kept);
    os_faults_fail_nth(OS_FAULTS_PREAD, 1);
    expect_unreadable(&kept);
    put_group("/g", 90 * MIB, 60 * MIB);
    expect_kept(&kept, 90 * MIB, SIZE_MAX, 60 * MIB);
    ap__cgroup_forget(&kept);
}

/* All files, or none. */
Test(cgroup, a_refused_call_keeps_nothing)
{
    static const enum os_faults_call calls[] = {OS_FAULTS_OPENAT, OS_FAULTS_FCNTL, OS_FAULTS_FSTAT};
    struct ap__cgroup cgroup;
    struct ap__cgroup_memory memory;
    struct ap__cgroup_kept kept;
    put_process("0::/g\n");
    put_group("/g", 100 * MIB, 60 * MIB);
    file_tree_put(GROUPS "/g/memory.high", "max\n");
    file_tree_put(GROUPS "/g/memory.stat", "inactive_file 1\n");
    cr_assert(ap__cgroup_find_and_read(&cgroup, file_tree_root, &memory));
    for (size_t call = 0; call < sizeof calls / sizeof *calls; call++) {
        for (unsigned long n = 1; n <= AP__CGROUP_FILES; n++) {
            os_faults_fail_nth(calls[call], n);
            cr_assert_not(ap__cgroup_keep(&kept, &cgroup, &memory));
            os_faults_reset();
            expect_unreadable(&kept);
            cr_assert_eq(fcntl(240, F_GETFD), -1);
        }
    }
}
