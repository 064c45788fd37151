/* SPDX-License-Identifier: MIT */
/*
 * os_map_test.c: address space and memory from the kernel.
 * Goal: each function does what os.h says, keeps errno, and says so when the kernel refuses.
 * Method: touch the memory (in a child where that must fault), and inject a failure into each call.
 */
#include "os/os.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/child.h"
#include "support/os_faults.h"

enum { STALE_ERRNO = 1789, PAGES = 16 };

/* Where headers are older than the kernel. */
enum { ADVICE_DONTNEED_LOCKED = 24, ADVICE_GUARD_INSTALL = 102, ADVICE_GUARD_REMOVE = 103 };

static size_t page;

static void set_up(void)
{
    page = ap__os_page_size();
    errno = STALE_ERRNO;
}

static void errno_is_untouched(void)
{
    os_faults_reset();
    cr_assert_eq(errno, STALE_ERRNO, "errno became %d", errno);
}

TestSuite(os_map, .init = set_up, .fini = errno_is_untouched, .timeout = 60);

static void read_byte(void *address)
{
    (void)*(volatile const char *)address;
}

static void write_byte(void *address)
{
    *(volatile char *)address = 1;
}

/* Whether the access ends a child by a segmentation fault. The errno of the test is kept. */
static bool faults(void (*access)(void *), void *address)
{
    struct child_result result;
    int saved_errno = errno;
    child_run(&result, access, address);
    errno = saved_errno;
    return result.signal == SIGSEGV || result.signal == SIGBUS;
}

static bool all_bytes_are(const char *p, char value, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != value) {
            return false;
        }
    }
    return true;
}

/* Pages of the range that take memory. */
static size_t resident_pages(void *address, size_t pages)
{
    unsigned char states[PAGES];
    size_t resident = 0;
    int saved_errno = errno;
    cr_assert_leq(pages, PAGES);
    cr_assert_eq(mincore(address, pages * page, states), 0);
    for (size_t i = 0; i < pages; i++) {
        resident += states[i] & 1;
    }
    errno = saved_errno;
    return resident;
}

Test(os_map, pages_to_be_wiped_are_zero_in_a_child_and_stay_in_the_parent)
{
    unsigned char *p = ap__os_map(page);
    cr_assert_not_null(p);
    *p = 7;
    cr_assert(ap__os_wipe_on_fork(p, page));
    pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (child == 0) {
        _exit(*p);
    }
    int status = -1;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    cr_assert_eq(*p, 7);
}

Test(os_map, a_reservation_is_inaccessible)
{
    char *p = ap__os_reserve(PAGES * page);
    cr_assert_not_null(p);
    cr_assert_eq((uintptr_t)p % page, 0);
    cr_assert(faults(read_byte, p));
    cr_assert(faults(write_byte, p + (PAGES - 1) * page));
}

Test(os_map, a_reservation_may_be_larger_than_memory)
{
    void *p = ap__os_reserve((size_t)1 << 40);
    if (p == NULL) {
        cr_skip_test("this machine limits address space");
    }
    cr_assert(ap__os_unmap(p, (size_t)1 << 40));
}

Test(os_map, mapped_memory_is_zero_and_writable)
{
    char *p = ap__os_map(PAGES * page);
    cr_assert_not_null(p);
    cr_assert(all_bytes_are(p, 0, PAGES * page));
    memset(p, 'x', PAGES * page);
    cr_assert(ap__os_unmap(p, PAGES * page));
    cr_assert(faults(read_byte, p));
}

Test(os_map, a_mapping_is_trimmed_to_an_aligned_part)
{
    const size_t size = 5 * 4096, alignment = (size_t)1 << 21;
    char *mapping = ap__os_map(size + alignment);
    cr_assert_not_null(mapping);
    char *aligned = ap__os_trim_to_alignment(mapping, size + alignment, size, alignment);
    cr_assert_eq((uintptr_t)aligned % alignment, 0);
    cr_assert(aligned >= mapping && aligned + size <= mapping + size + alignment);
    aligned[0] = aligned[size - 1] = 1;
    cr_assert(faults(write_byte, aligned + size), "the tail is gone");
    cr_assert(aligned == mapping || faults(write_byte, aligned - 1), "the head is gone");
}

Test(os_map, a_part_of_a_reservation_is_made_usable)
{
    char *p = ap__os_reserve(PAGES * page);
    cr_assert_not_null(p);
    cr_assert(ap__os_commit(p + 4 * page, 2 * page));
    cr_assert(all_bytes_are(p + 4 * page, 0, 2 * page));
    memset(p + 4 * page, 'x', 2 * page);
    cr_assert(faults(read_byte, p + 4 * page - 1));
    cr_assert(faults(read_byte, p + 6 * page));
}

Test(os_map, protection_takes_every_right_or_only_writing)
{
    char *p = ap__os_map(2 * page);
    cr_assert_not_null(p);
    memset(p, 'x', 2 * page);
    cr_assert(ap__os_protect_none(p, page));
    cr_assert(ap__os_protect_read_only(p + page, page));
    cr_assert(faults(read_byte, p));
    cr_assert_eq(p[page], 'x');
    cr_assert(faults(write_byte, p + page));
}

Test(os_map, discarded_memory_is_given_back_and_reads_as_zero)
{
    char *p = ap__os_map(PAGES * page);
    cr_assert_not_null(p);
    memset(p, 'x', PAGES * page);
    cr_assert(ap__os_discard(p + page, (PAGES - 2) * page));
    cr_assert_eq(resident_pages(p, PAGES), 2);
    cr_assert_eq(p[page - 1], 'x');
    cr_assert_eq(p[(PAGES - 1) * page], 'x');
    cr_assert(all_bytes_are(p + page, 0, (PAGES - 2) * page));
    memset(p, 'y', PAGES * page);
}

Test(os_map, a_fresh_mapping_replaces_only_its_range)
{
    char *p = ap__os_reserve(PAGES * page);
    cr_assert_not_null(p);
    cr_assert(ap__os_commit(p, PAGES * page));
    memset(p, 'x', PAGES * page);
    cr_assert(ap__os_remap_fresh(p + 2 * page, 3 * page));
    cr_assert(all_bytes_are(p, 'x', 2 * page));
    cr_assert(all_bytes_are(p + 2 * page, 0, 3 * page));
    cr_assert(all_bytes_are(p + 5 * page, 'x', (PAGES - 5) * page));
    memset(p + 2 * page, 'y', 3 * page);
}

Test(os_map, moved_pages_keep_their_contents_and_leave_zeroes)
{
    char *p = ap__os_reserve(PAGES * page);
    cr_assert_not_null(p);
    cr_assert(ap__os_commit(p, PAGES * page));
    memset(p, 'x', 4 * page);
    memset(p + 8 * page, 'y', 4 * page);
    if (!ap__os_move_pages(p, p + 8 * page, 4 * page)) {
        cr_skip_test("this kernel cannot move pages and keep the source mapped");
    }
    cr_assert(all_bytes_are(p + 8 * page, 'x', 4 * page));
    cr_assert(all_bytes_are(p, 0, 8 * page));
    memset(p, 'z', PAGES * page);
}

/* --- refusals --- */

Test(os_map, no_address_space_is_null)
{
    os_faults_fail_always(OS_FAULTS_MMAP);
    cr_assert_null(ap__os_reserve(page));
    cr_assert_null(ap__os_map(page));
    cr_assert_eq(os_faults_count(OS_FAULTS_MMAP), 2);
    os_faults_reset();
    cr_assert_not_null(ap__os_map(page));
}

Test(os_map, an_impossible_size_is_null)
{
    cr_assert_null(ap__os_reserve((size_t)1 << 62));
    cr_assert_null(ap__os_map((size_t)1 << 62));
}

Test(os_map, a_refused_unmap_leaves_the_range_as_it_was)
{
    char *p = ap__os_map(page);
    cr_assert_not_null(p);
    p[0] = 'x';
    os_faults_fail_nth(OS_FAULTS_MUNMAP, 1);
    cr_assert_not(ap__os_unmap(p, page));
    cr_assert_eq(p[0], 'x');
    cr_assert(ap__os_unmap(p, page), "only the first call was to fail");
}

Test(os_map, refused_protections_are_reported)
{
    char *p = ap__os_map(page);
    cr_assert_not_null(p);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    cr_assert_not(ap__os_commit(p, page));
    cr_assert_not(ap__os_protect_none(p, page));
    cr_assert_not(ap__os_protect_read_only(p, page));
    cr_assert_eq(os_faults_count(OS_FAULTS_MPROTECT), 3);
    p[0] = 'x';
}

Test(os_map, refused_discard_keeps_the_contents)
{
    char *p = ap__os_map(page);
    cr_assert_not_null(p);
    p[0] = 'x';
    os_faults_fail_nth(OS_FAULTS_MADVISE, 1);
    cr_assert_not(ap__os_discard(p, page));
    cr_assert_eq(p[0], 'x');
    cr_assert(ap__os_discard(p, page));
    cr_assert_eq(p[0], 0);
}

Test(os_map, a_refused_fresh_mapping_is_reported)
{
    char *p = ap__os_map(page);
    cr_assert_not_null(p);
    p[0] = 'x';
    os_faults_fail_nth(OS_FAULTS_MMAP, 1);
    cr_assert_not(ap__os_remap_fresh(p, page));
    cr_assert_eq(p[0], 'x');
}

Test(os_map, a_refused_move_changes_nothing)
{
    char *p = ap__os_reserve(PAGES * page);
    cr_assert_not_null(p);
    cr_assert(ap__os_commit(p, PAGES * page));
    memset(p, 'x', 4 * page);
    memset(p + 8 * page, 'y', 4 * page);
    os_faults_fail_always(OS_FAULTS_MREMAP);
    cr_assert_not(ap__os_move_pages(p, p + 8 * page, 4 * page));
    cr_assert(all_bytes_are(p, 'x', 4 * page));
    cr_assert(all_bytes_are(p + 8 * page, 'y', 4 * page));
}

static void move_under_limit(void *unused)
{
    (void)unused;
    char *p = ap__os_reserve(PAGES * page);
    if (p == NULL || !ap__os_commit(p, PAGES * page)) {
        _exit(1);
    }
    memset(p, 'x', 4 * page);
    memset(p + 8 * page, 'y', 4 * page);
    static const struct rlimit none_left = {.rlim_cur = 1 << 20, .rlim_max = RLIM_INFINITY};
    if (setrlimit(RLIMIT_AS, &none_left) != 0) {
        _exit(2);
    }
    bool moved = ap__os_move_pages(p, p + 8 * page, 4 * page);
    char expected_source = moved ? 0 : 'x', expected_target = moved ? 'x' : 'y';
    _exit(all_bytes_are(p, expected_source, 4 * page) &&
                  all_bytes_are(p + 8 * page, expected_target, 4 * page)
              ? 0
              : 3);
}

Test(os_map, a_move_under_an_address_space_limit_loses_nothing)
{
    struct child_result result;
    child_run(&result, move_under_limit, NULL);
    errno = STALE_ERRNO;
    cr_assert_eq(result.signal, 0);
    cr_assert_eq(result.status, 0, "status %d", result.status);
}

Test(os_map, populating_brings_every_page_zeroed_or_says_no)
{
    char *p = ap__os_map(PAGES * page);
    cr_assert_eq(resident_pages(p, PAGES), 0);
    os_faults_fail_nth(OS_FAULTS_MADVISE, 1);
    cr_assert(!ap__os_populate(p, PAGES * page));
    cr_assert_eq(resident_pages(p, PAGES), 0);
    if (!ap__os_populate(p, PAGES * page)) {
        cr_skip_test("the kernel is older than 5.14");
    }
    cr_assert_eq(resident_pages(p, PAGES), PAGES);
    cr_assert(all_bytes_are(p, 0, PAGES * page));
}

Test(os_map, advice_on_huge_pages_leaves_contents_alone_and_may_be_refused)
{
    char *p = ap__os_map(PAGES * page);
    memset(p, 7, PAGES * page);
    (void)ap__os_advise_huge_pages(p, PAGES * page, true); /* a kernel without them refuses */
    (void)ap__os_advise_huge_pages(p, PAGES * page, false);
    os_faults_fail_nth(OS_FAULTS_MADVISE, 1);
    cr_assert(!ap__os_advise_huge_pages(p, PAGES * page, true));
    cr_assert(all_bytes_are(p, 7, PAGES * page));
}

/* Guards the middle one of three pages, and takes the guard away again. */
static void guard_and_unguard(char *p, enum ap__guard expected)
{
    memset(p, 'x', 3 * page);
    enum ap__guard guard = ap__os_guard(p + page, page);
    cr_assert_eq(guard, expected);
    cr_assert_eq(faults(read_byte, p + page), guard != AP__GUARD_NONE);
    cr_assert_eq(faults(write_byte, p + 2 * page - 1), guard != AP__GUARD_NONE);
    cr_assert(p[page - 1] == 'x' && p[2 * page] == 'x');
    os_faults_reset();
    cr_assert(ap__os_unguard(p + page, page, guard));
    cr_assert(all_bytes_are(p + page, 0, page));
    memset(p + page, 'y', page);
}

Test(os_map, a_guard_is_a_mark_or_else_protection_or_else_none)
{
    char *p = ap__os_map(3 * page);
    cr_assert_not_null(p);
    enum ap__guard best = ap__os_guard(p, page); /* as the kernel is */
    cr_assert_neq(best, AP__GUARD_NONE);
    cr_assert(ap__os_unguard(p, page, best));
    guard_and_unguard(p, best);
    os_faults_fail_nth(OS_FAULTS_MADVISE, 1); /* no marks, but memory can be discarded */
    guard_and_unguard(p, AP__GUARD_PROTECTION);
    os_faults_fail_always(OS_FAULTS_MADVISE);
    guard_and_unguard(p, AP__GUARD_PROTECTION);
    os_faults_fail_always(OS_FAULTS_MADVISE);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    guard_and_unguard(p, AP__GUARD_NONE);
}

Test(os_map, a_guard_that_cannot_be_taken_away_is_said_to_be_there)
{
    char *p = ap__os_map(2 * page);
    cr_assert_not_null(p);
    enum ap__guard best = ap__os_guard(p, page);
    os_faults_fail_nth(OS_FAULTS_MADVISE, 1);
    enum ap__guard protection = ap__os_guard(p + page, page);
    cr_assert_eq(protection, AP__GUARD_PROTECTION);
    os_faults_fail_always(OS_FAULTS_MADVISE);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    cr_assert_not(ap__os_unguard(p, page, best));
    cr_assert_not(ap__os_unguard(p + page, page, protection));
    cr_assert(ap__os_unguard(p, page, AP__GUARD_NONE));
    os_faults_reset();
    cr_assert(faults(read_byte, p));
    cr_assert(faults(read_byte, p + page));
}

/* Not libc's function, which AddressSanitizer makes do nothing. */
static void lock_page(void *address)
{
    if (syscall(SYS_mlock, address, page) != 0) {
        cr_skip_test("this process may not lock a page");
    }
}

/* Discarding as a kernel before 5.18 does it. */
static bool refuses_to_discard_locked(void *address)
{
    int saved_errno = errno;
    bool refuses = madvise(address, page, MADV_DONTNEED) != 0 && errno == EINVAL;
    errno = saved_errno;
    return refuses;
}

Test(os_map, locked_memory_is_given_back_too_and_stays_locked)
{
    char *p = ap__os_map(PAGES * page);
    cr_assert_not_null(p);
    lock_page(p + 3 * page);
    if (madvise(p, page, ADVICE_DONTNEED_LOCKED) != 0) {
        errno = STALE_ERRNO;
        cr_skip_test("this kernel is older than 5.18");
    }
    memset(p, 'x', PAGES * page);
    cr_assert(ap__os_discard(p, PAGES * page));
    cr_assert_eq(resident_pages(p, PAGES), 0);
    cr_assert(all_bytes_are(p, 0, PAGES * page));
    cr_assert(refuses_to_discard_locked(p + 3 * page), "the page is still locked");
}

Test(os_map, locked_memory_that_the_kernel_does_not_take_keeps_its_contents)
{
    char *p = ap__os_map(PAGES * page);
    cr_assert_not_null(p);
    lock_page(p);
    memset(p, 'x', PAGES * page);
    os_faults_lack_advice(ADVICE_DONTNEED_LOCKED);
    cr_assert_not(ap__os_discard(p, PAGES * page));
    cr_assert(all_bytes_are(p, 'x', PAGES * page));
}

/* All pages, of which one was locked: no access is possible, then all are, and read as zero. */
static void guard_around_locked_page(char *p)
{
    memset(p, 'x', PAGES * page);
    enum ap__guard guard = ap__os_guard(p, PAGES * page);
    cr_assert_neq(guard, AP__GUARD_NONE);
    for (size_t i = 0; i < PAGES; i++) {
        cr_assert(faults(read_byte, p + i * page), "page %zu", i);
    }
    cr_assert(ap__os_unguard(p, PAGES * page, guard));
    cr_assert(all_bytes_are(p, 0, PAGES * page));
    memset(p, 'y', PAGES * page);
}

Test(os_map, a_guard_around_a_locked_page_is_whole_on_any_kernel)
{
    char *p = ap__os_map(PAGES * page);
    cr_assert_not_null(p);
    lock_page(p + 9 * page);
    guard_around_locked_page(p);
    os_faults_lack_advice(ADVICE_DONTNEED_LOCKED); /* before 5.18, but for the marks */
    guard_around_locked_page(p);
    os_faults_lack_advice(ADVICE_GUARD_INSTALL);
    os_faults_lack_advice(ADVICE_GUARD_REMOVE);
    guard_around_locked_page(p);
    os_faults_reset();
    os_faults_lack_advice(ADVICE_GUARD_INSTALL); /* before 6.13 */
    os_faults_lack_advice(ADVICE_GUARD_REMOVE);
    guard_around_locked_page(p);
}

Test(os_map, a_locked_page_whose_guard_is_refused_is_usable_and_zero)
{
    char *p = ap__os_map(PAGES * page);
    cr_assert_not_null(p);
    lock_page(p + 9 * page);
    memset(p, 'x', PAGES * page);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    cr_assert_eq(ap__os_guard(p, PAGES * page), AP__GUARD_NONE);
    cr_assert(all_bytes_are(p, 0, PAGES * page));
    memset(p, 'y', PAGES * page);
}
