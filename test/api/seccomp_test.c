/* SPDX-License-Identifier: MIT */
/*
 * seccomp_test.c: processes that may make few system calls.
 * Goal: programs start where getrandom is missing, forbidden or has nothing to give yet, and ask it
 * never to wait; a heap in use needs no other calls than those listed here, under pain of death, and
 * goes on with fewer where others fail. Method: filters in a child; its signal, status and text.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>

#include "expect.h"
#include "release.h"
#include "support/child.h"
#include "support/seccomp.h"

TestSuite(seccomp, .timeout = 60);

static void expect_silent_success(void (*body)(void *), void *argument)
{
    struct child_result result;
    if (!seccomp_is_available()) {
        cr_skip_test("this kernel does not let a process filter its calls");
    }
    child_run(&result, body, argument);
    cr_assert_eq(result.signal, 0, "signal %d: %s", result.signal, result.text);
    cr_assert_eq(result.status, 0, "status %d: %s", result.status, result.text);
    cr_assert_str_eq(result.text, "");
}

/* --- getrandom --- */

/* A program that uses the heap before and after all constructors, and checks what it holds. */
static void start_program(void)
{
    const char *path = beside_test("preinit_program");
    (void)execl(path, path, (char *)NULL);
    fail("%s cannot be executed", path);
}

static void start_without_getrandom(void *error)
{
    static const int getrandom_only[] = {SYS_getrandom};
    expect(seccomp_refuse(getrandom_only, 1, *(int *)error), "a filter");
    start_program();
}

Test(seccomp, programs_start_without_getrandom)
{
    /* An old kernel, a strict filter, early in boot, interrupted. */
    int errors[] = {ENOSYS, EPERM, EAGAIN, EINTR};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        expect_silent_success(start_without_getrandom, &errors[i]);
    }
}

static void start_with_impatient_getrandom(void *unused)
{
    enum { FLAGS_ARGUMENT = 2, NONBLOCK = 1 };
    (void)unused;
    expect(seccomp_kill_without_flag(SYS_getrandom, FLAGS_ARGUMENT, NONBLOCK), "a filter");
    start_program();
}

Test(seccomp, programs_start_without_waiting_for_getrandom)
{
    expect_silent_success(start_with_impatient_getrandom, NULL);
}

/* --- the calls of a heap in use --- */

/* A heap that becomes big with small blocks, chunk after chunk. */
static void grow_with_small_blocks(const struct entry_points *e)
{
    enum { BLOCKS = 12000, BLOCK_BYTES = 16000 };
    static void *blocks[BLOCKS];
    for (unsigned b = 0; b < BLOCKS; b++) {
        blocks[b] = e->malloc(BLOCK_BYTES);
        expect(blocks[b] != NULL, "a small block is had");
    }
    for (unsigned b = 0; b < BLOCKS; b++) {
        e->free(blocks[b]);
    }
}

static void use_everything(void)
{
    FOR_EACH_SET (e) {
        grow_with_small_blocks(e);
    }
    FOR_EACH_SET (e) {
        for (unsigned which = 0; which < ALLOCATORS; which++) {
            for (size_t i = 0; i < FOUR_SIZES; i++) {
                void *p = allocate(e, which, four_sizes[i]), *q = e->malloc(four_sizes[i]);
                expect(p != NULL && q != NULL, "blocks are had");
                mark(p, four_sizes[i], which);
                p = e->realloc(p, 2 * four_sizes[i]);
                expect(p != NULL, "a block grows");
                expect(is_marked(p, four_sizes[i], four_sizes[i], which), "with its contents");
                e->free(q);
                e->free(p);
            }
        }
        ap_thread_idle();
        (void)e->malloc_trim(0);
        (void)e->mallinfo2();
    }
}

/* Of one thread that has used the heap before; more threads need what libc needs for them. */
static const int needed[] = {SYS_mmap,  SYS_munmap,    SYS_mprotect, SYS_madvise,   SYS_mremap,
                             SYS_futex, SYS_prlimit64, SYS_write,    SYS_exit_group};

static void use_heap_or_be_killed(void *unused)
{
    (void)unused;
    ap_free(ap_malloc(1));
    expect(seccomp_allow_only(needed, sizeof needed / sizeof needed[0], SECCOMP_KILL), "a filter");
    use_everything();
}

Test(seccomp, a_heap_in_use_makes_no_other_calls_than_these)
{
    expect_silent_success(use_heap_or_be_killed, NULL);
}

/* The same where not even these can be relied on. */
static void use_heap_with_the_least(void *error)
{
    static const int least[] = {SYS_mmap, SYS_mprotect, SYS_write, SYS_exit_group};
    ap_free(ap_malloc(1));
    expect(seccomp_allow_only(least, sizeof least / sizeof least[0], *(int *)error), "a filter");
    use_everything();
}

Test(seccomp, a_heap_in_use_goes_on_when_all_but_the_indispensable_calls_fail)
{
    int errors[] = {EPERM, ENOSYS};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        expect_silent_success(use_heap_with_the_least, &errors[i]);
    }
}

static void report_under_a_filter(void *unused)
{
    static const int dying[] = {SYS_write,  SYS_rt_sigprocmask, SYS_rt_sigaction,
                                SYS_tgkill, SYS_gettid,         SYS_getpid};
    (void)unused;
    ap_free(ap_malloc(1));
    expect(seccomp_allow_only(dying, sizeof dying / sizeof dying[0], SECCOMP_KILL), "a filter");
    ap_free(opaque((void *)(uintptr_t)1));
}

Test(seccomp, a_report_needs_nothing_but_write_and_abort)
{
    struct child_result result;
    if (!seccomp_is_available()) {
        cr_skip_test("this kernel does not let a process filter its calls");
    }
    child_run(&result, report_under_a_filter, NULL);
    cr_assert_eq(result.signal, SIGABRT, "signal %d: %s", result.signal, result.text);
    cr_assert_str_eq(result.text,
                     "apmalloc: ap_free(0x1): misaligned pointer: not the start of a block\n");
}
