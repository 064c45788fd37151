/* SPDX-License-Identifier: MIT */
/*
 * sampled_test.c: the pool of guarded pages.
 * Goal: blocks are aligned, apart, zeroed and of their size; a wrong access faults and is explained; pages
 * wait before they are used again; the kernel's refusals cost a sample and nothing else. Method: the pool
 * by itself, faults in children.
 */
#include "hardened/sampled.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "apmalloc.h"
#include "hardened/canary.h"
#include "hardened/hardened.h"
#include "os/os.h"
#include "support/child.h"
#include "support/os_faults.h"

enum { POOL = 256, KEPT_BACK = 128 };

static size_t page;

static void set_up(void)
{
    page = ap__os_page_size();
    cr_assert(ap__sampled_init(100, 42));
    ap__hardened_watch();
}

TestSuite(sampled, .init = set_up, .timeout = 120);

Test(sampled, blocks_are_aligned_zeroed_and_of_their_size)
{
    for (size_t alignment = 1; alignment <= page; alignment *= 2) {
        for (size_t size = 0; size <= page; size += size < 64 ? 1 : 97) {
            unsigned char *p = ap__sampled_take(alignment, size, false, NULL);
            cr_assert_not_null(p);
            cr_assert(ap__sampled_contains(p));
            cr_assert_eq((uintptr_t)p % (alignment > 16 ? alignment : 16), 0);
            cr_assert(ap__is_zero(p, size));
            cr_assert_eq(ap__sampled_size(p, "free"), size);
            memset(p, 0xFF, size);
            ap__sampled_give(p, "free", NULL);
        }
    }
}

Test(sampled, what_does_not_fit_in_a_page_is_not_sampled)
{
    cr_assert_null(ap__sampled_take(16, page + 1, false, NULL));
    cr_assert_null(ap__sampled_take(2 * page, 8, false, NULL));
}

Test(sampled, as_many_as_there_are_pages_live_at_once_and_each_has_its_own)
{
    void *blocks[POOL];
    for (int i = 0; i < POOL; i++) {
        blocks[i] = ap__sampled_take(16, 100, false, NULL);
        cr_assert_not_null(blocks[i]);
        for (int k = 0; k < i; k++) {
            cr_assert_neq((uintptr_t)blocks[i] / page, (uintptr_t)blocks[k] / page);
        }
    }
    cr_assert_null(ap__sampled_take(16, 100, false, NULL));
    struct ap__sampled_stats stats;
    ap__sampled_stats(&stats);
    cr_assert_eq(stats.live, POOL);
    cr_assert_eq(stats.live_bytes, POOL * 100);
    cr_assert_eq(stats.failed, 1);
    for (int i = 0; i < POOL; i++) {
        ap__sampled_give(blocks[i], "free", NULL);
    }
    cr_assert_not_null(ap__sampled_take(16, 100, false, NULL));
    for (int i = 1; i < KEPT_BACK; i++) {
        cr_assert_not_null(ap__sampled_take(16, 100, false, NULL));
    }
    cr_assert_null(ap__sampled_take(16, 100, false, NULL));
    cr_assert_not_null(ap__sampled_take(16, 100, true, NULL));
}

Test(sampled, a_freed_page_waits_for_others)
{
    void *first = ap__sampled_take(16, 100, false, NULL);
    ap__sampled_give(first, "free", NULL);
    for (int i = 0; i < KEPT_BACK; i++) {
        void *p = ap__sampled_take(16, 100, false, NULL);
        cr_assert_neq((uintptr_t)p / page, (uintptr_t)first / page);
        ap__sampled_give(p, "free", NULL);
    }
}

Test(sampled, one_of_the_period_is_due_in_the_mean)
{
    unsigned due = 0;
    for (int i = 0; i < 100000; i++) {
        due += ap__sampled_is_due(1);
    }
    cr_assert(due > 800 && due < 1250, "%u of 100000", due);
}

/* ------------------------------------------------------------ wrong accesses */

struct access {
    size_t size;
    long offset; /* of the byte, from the block's start */
    bool freed, writes;
};

static void touch(void *argument)
{
    const struct access *access = argument;
    volatile char *p = ap__sampled_take(16, access->size, false, NULL);
    if (access->freed) {
        ap__sampled_give((void *)p, "free", NULL);
    }
    if (access->writes) {
        p[access->offset] = 1;
    } else {
        (void)p[access->offset];
    }
}

static void expect_explained(struct access access, const char *line)
{
    struct child_result result;
    child_run(&result, touch, &access);
    cr_assert_eq(result.signal, SIGSEGV);
    cr_assert_not_null(strstr(result.text, line), "%s", result.text);
    cr_assert_not_null(strstr(result.text, "\ntouched by thread "), "%s", result.text);
    cr_assert_not_null(strstr(result.text, "\nallocated by thread "));
    cr_assert_eq(strstr(result.text, "\nfreed by thread ") != NULL, access.freed);
    cr_assert_not_null(strstr(result.text, ")[0x"), "frames: %s", result.text);
}

Test(sampled, a_read_of_a_freed_block_is_explained)
{
    expect_explained((struct access){100, 50, true, false}, "): access to a freed block\n");
}

Test(sampled, a_write_to_a_freed_block_is_explained)
{
    expect_explained((struct access){100, 50, true, true}, "apmalloc: write(0x");
}

Test(sampled, an_access_before_or_behind_a_page_is_explained)
{
    expect_explained((struct access){page, (long)page, false, false},
                     "): access beyond the end of a block\n");
    expect_explained((struct access){page, -1, false, true},
                     "): access before the start of a block\n");
}

static void fault_elsewhere(void *unused)
{
    (void)unused;
    volatile char *volatile nowhere = (volatile char *)8;
    *nowhere = 1;
}

Test(sampled, faults_of_other_addresses_take_their_course)
{
    struct child_result result;
    child_run(&result, fault_elsewhere, NULL);
    cr_assert_eq(result.signal, SIGSEGV);
    cr_assert_str_eq(result.text, "");
}

static void overflow_in_page(void *offset)
{
    for (int i = 0; i < 64; i++) { /* both placements come up */
        unsigned char *p = ap__sampled_take(16, 100, false, NULL);
        if ((uintptr_t)p % page == 0 ? *(long *)offset > 0 : *(long *)offset < 0) {
            p[*(long *)offset] ^= 1;
        }
        ap__sampled_give(p, "free", NULL);
    }
}

Test(sampled, a_write_beside_the_block_on_its_page_is_found_when_it_is_freed)
{
    static const char *const texts[] = {"written to before its start", "written to beyond its end"};
    for (int i = 0; i < 2; i++) {
        long offset = i == 0 ? -1 : 100;
        struct child_result result;
        child_run(&result, overflow_in_page, &offset);
        cr_assert_eq(result.signal, SIGABRT);
        cr_assert_not_null(strstr(result.text, texts[i]), "%s", result.text);
        cr_assert_not_null(strstr(result.text, "\nallocated by thread "));
    }
}

static void free_twice(void *unused)
{
    (void)unused;
    void *p = ap__sampled_take(16, 100, false, NULL);
    ap__sampled_give(p, "free", NULL);
    ap__sampled_give(p, "free", NULL);
}

Test(sampled, a_double_free_is_reported_with_its_history)
{
    struct child_result result;
    child_run(&result, free_twice, NULL);
    cr_assert_eq(result.signal, SIGABRT);
    cr_assert_not_null(strstr(result.text, "): double free\n"), "%s", result.text);
    cr_assert_not_null(strstr(result.text, "\nfreed by thread "));
}

static void free_inside(void *unused)
{
    (void)unused;
    ap__sampled_give((char *)ap__sampled_take(16, 100, false, NULL) + 16, "free", NULL);
}

static void free_guard(void *unused)
{
    (void)unused;
    ap__sampled_give((void *)ap__sampled_start, "free", NULL);
}

Test(sampled, other_addresses_of_the_pool_are_no_blocks)
{
    struct child_result result;
    child_run(&result, free_inside, NULL);
    cr_assert_eq(result.signal, SIGABRT);
    cr_assert_not_null(strstr(result.text, "into the middle of a block"));
    child_run(&result, free_guard, NULL);
    cr_assert_eq(result.signal, SIGABRT);
}

/* ------------------------------------------------------------ refusals */

Test(sampled, a_page_that_cannot_be_made_usable_is_not_lost)
{
    for (int i = 0; i < 2 * POOL; i++) {
        os_faults_fail_nth(OS_FAULTS_MPROTECT, 1);
        cr_assert_null(ap__sampled_take(16, 100, false, NULL));
    }
    os_faults_reset();
    void *blocks[POOL];
    for (int i = 0; i < POOL; i++) {
        blocks[i] = ap__sampled_take(16, 100, false, NULL);
        cr_assert_not_null(blocks[i]);
    }
}

Test(sampled, a_page_that_cannot_be_guarded_is_not_used_again)
{
    void *p = ap__sampled_take(16, 100, false, NULL);
    os_faults_fail_nth(OS_FAULTS_MPROTECT, 1);
    ap__sampled_give(p, "free", NULL);
    os_faults_reset();
    for (int i = 0; i < 4 * POOL; i++) {
        void *other = ap__sampled_take(16, 100, false, NULL);
        cr_assert_not_null(other);
        cr_assert_neq((uintptr_t)other / page, (uintptr_t)p / page);
        ap__sampled_give(other, "free", NULL);
    }
}

Test(sampled, errno_stays)
{
    errno = 1789;
    ap__sampled_give(ap__sampled_take(16, 100, false, NULL), "free", NULL);
    cr_assert_eq(errno, 1789);
}

/* They are live and in no span: without a heap, too, no figure is below zero. */
Test(sampled, blocks_count_in_mallinfo)
{
    struct ap_mallinfo2 before = ap_mallinfo2();
    void *p = ap__sampled_take(16, 4000, false, NULL);
    struct ap_mallinfo2 i = ap_mallinfo2();
    cr_assert_eq(i.uordblks, before.uordblks + 4000);
    cr_assert_eq(i.arena, before.arena + 4000);
    cr_assert_eq(i.fordblks, before.fordblks);
    cr_assert_geq(i.usmblks, i.arena);
    ap__sampled_give(p, "free", NULL);
    cr_assert_eq(ap_mallinfo2().arena, before.arena);
}
