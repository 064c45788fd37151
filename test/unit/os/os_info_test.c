/* SPDX-License-Identifier: MIT */
/*
 * os_info_test.c: what the kernel tells about the process.
 * Goal: true answers, also when a limit is changed at run time, and errno untouched. Method:
 * compare with libc's answers; limits and affinity are changed in a child.
 */
#include "os/os.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/bits.h"
#include "support/child.h"
#include "support/processor.h"

enum { STALE_ERRNO = 1789 };
#define MIB ((size_t)1 << 20)

/* In the children: exit with the number of the first line that is wrong (modulo 256, never 0). */
#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            ap__os_write_stderr(#condition "\n", sizeof #condition);                               \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static void expect_success(void (*body)(void *))
{
    struct child_result result;
    child_run(&result, body, NULL);
    cr_assert_eq(result.signal, 0, "%s", result.text);
    cr_assert_eq(result.status, 0, "%s", result.text);
}

static void set_limit(int resource, rlim_t bytes)
{
    struct rlimit limit;
    (void)getrlimit(resource, &limit);
    limit.rlim_cur = bytes;
    EXPECT(setrlimit(resource, &limit) == 0);
}

/* Figure `which` (0: size, 5: data) of /proc/self/statm in bytes. */
static size_t statm(int which)
{
    char text[256] = {0};
    int fd = open("/proc/self/statm", O_RDONLY);
    EXPECT(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
    (void)close(fd);
    const char *at = text;
    for (; which > 0; which--) {
        at = strchr(at, ' ') + 1;
    }
    return strtoul(at, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

Test(os_info, page_size_is_the_kernels)
{
    cr_assert_eq(ap__os_page_size(), (size_t)sysconf(_SC_PAGESIZE));
    cr_assert(ap__is_power_of_two(ap__os_page_size()));
}

Test(os_info, cpu_count_is_what_the_process_may_run_on)
{
    cpu_set_t allowed;
    cr_assert_eq(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    cr_assert_eq(ap__os_cpu_count(), (unsigned)CPU_COUNT(&allowed));
}

static void run_on_one_cpu(void *unused)
{
    (void)unused;
    int cpu = processor_run_on_shard(0, 1);
    EXPECT(cpu >= 0);
    EXPECT(ap__os_current_cpu() == (unsigned)cpu);
}

Test(os_info, current_cpu_is_the_only_one_allowed)
{
    expect_success(run_on_one_cpu);
}

Test(os_info, a_process_that_may_have_no_huge_pages_is_told_so)
{
    if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0) {
        cr_skip_test("this kernel does not let a process do without");
    }
    cr_assert_eq(ap__os_huge_pages(), AP__HUGE_PAGES_NEVER);
}

Test(os_info, seeds_differ)
{
    uint64_t a = ap__os_seed(), b = ap__os_seed();
    cr_assert_neq(a, b);
    cr_assert_neq(a, 0);
}

Test(os_info, a_plain_program_is_not_secure_execution)
{
    cr_assert_not(ap__os_is_secure_execution());
}

static void no_limits(void *unused)
{
    (void)unused;
    set_limit(RLIMIT_AS, RLIM_INFINITY);
    set_limit(RLIMIT_DATA, RLIM_INFINITY);
    EXPECT(ap__os_address_space_limit() == SIZE_MAX);
    EXPECT(ap__os_limits_allow(MIB, 0, 0));
    EXPECT(ap__os_limits_allow((size_t)1 << 40, 0, 0));
}

Test(os_info, without_limits_everything_is_allowed)
{
    expect_success(no_limits);
}

static void address_space_limit(void *unused)
{
    (void)unused;
    size_t used = statm(0);
    set_limit(RLIMIT_AS, used + 64 * MIB);
    EXPECT(ap__os_address_space_limit() == used + 64 * MIB);
    EXPECT(ap__os_limits_allow(32 * MIB, 0, 0));
    EXPECT(!ap__os_limits_allow(128 * MIB, 0, 0));
    EXPECT(!ap__os_limits_allow(SIZE_MAX / 2, 0, 0));
}

Test(os_info, address_space_limit_set_at_run_time_is_seen)
{
    expect_success(address_space_limit);
}

/* What the allocator has reserved but not made usable must not count: else a large reservation
 * would forbid all growth as soon as a limit is set. */
static void reservation_does_not_count(void *unused)
{
    (void)unused;
    size_t reserved = (size_t)4096 * MIB;
    size_t used = statm(0);
    void *reservation = ap__os_reserve(reserved);
    EXPECT(reservation != NULL);
    set_limit(RLIMIT_AS, used + 64 * MIB);
    EXPECT(ap__os_limits_allow(32 * MIB, reserved, 0));
    EXPECT(!ap__os_limits_allow(128 * MIB, reserved, 0));
    EXPECT(!ap__os_limits_allow(32 * MIB, 0, 0));
}

Test(os_info, reserved_address_space_does_not_count_against_the_limit)
{
    expect_success(reservation_does_not_count);
}

static void data_limit(void *unused)
{
    (void)unused;
    size_t used = statm(5);
    set_limit(RLIMIT_DATA, used + 64 * MIB);
    EXPECT(ap__os_limits_allow(16 * MIB, 0, 0));
    EXPECT(!ap__os_limits_allow(512 * MIB, 0, 0));
}

Test(os_info, data_limit_set_at_run_time_is_seen)
{
    expect_success(data_limit);
}

Test(os_info, no_question_touches_errno)
{
    errno = STALE_ERRNO;
    (void)ap__os_page_size();
    (void)ap__os_cpu_count();
    (void)ap__os_current_cpu();
    (void)ap__os_seed();
    (void)ap__os_is_secure_execution();
    (void)ap__os_limits_allow(MIB, 0, 0);
    (void)ap__os_address_space_limit();
    cr_assert_eq(errno, STALE_ERRNO);
}

static void write_long_text(void *unused)
{
    (void)unused;
    static char text[6000];
    memset(text, 'y', sizeof text);
    errno = STALE_ERRNO;
    ap__os_write_stderr("begin ", 6);
    ap__os_write_stderr(text, sizeof text);
    ap__os_write_stderr(" end", 4);
    EXPECT(errno == STALE_ERRNO);
}

Test(os_info, message_arrives_whole)
{
    struct child_result result;
    child_run(&result, write_long_text, NULL);
    cr_assert_eq(result.status, 0);
    cr_assert_eq(result.length, 6 + 6000 + 4);
    cr_assert_eq(strncmp(result.text, "begin yyy", 9), 0);
    cr_assert_str_eq(result.text + 6006, " end");
}

static void write_to_closed(void *unused)
{
    (void)unused;
    (void)close(STDERR_FILENO);
    errno = STALE_ERRNO;
    ap__os_write_stderr("lost", 4);
    if (errno != STALE_ERRNO) {
        _exit(2);
    }
}

Test(os_info, message_to_a_closed_stderr_is_lost_silently)
{
    expect_success(write_to_closed);
}

/* --- messages to a pipe that nobody reads --- */

static volatile sig_atomic_t pipe_signals;

static void count_signal(int number)
{
    (void)number;
    pipe_signals = pipe_signals + 1;
}

static bool is_pending(void)
{
    sigset_t pending;
    return sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
}

/* Blocks or unblocks SIGPIPE; returns whether it was blocked. */
static bool block(int how)
{
    sigset_t set, before;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGPIPE);
    (void)sigprocmask(how, &set, &before);
    return sigismember(&before, SIGPIPE) == 1;
}

/* Only the status of the child can tell. */
static void require(bool is_so, int status)
{
    if (!is_so) {
        _exit(status);
    }
}

static void write_to_nobody(void)
{
    int ends[2];
    require(pipe(ends) == 0 && dup2(ends[1], STDERR_FILENO) >= 0, 9);
    (void)close(ends[0]);
    errno = STALE_ERRNO;
    ap__os_write_stderr("lost", 4);
    require(errno == STALE_ERRNO, 10);
}

static void with_handling(void *handler)
{
    (void)signal(SIGPIPE, *(sighandler_t *)handler);
    write_to_nobody();
    require(!is_pending(), 11);
    require(!block(SIG_UNBLOCK), 12);
    require(pipe_signals == 0, 13);
}

static void with_signal_blocked(void *unused)
{
    (void)unused;
    (void)block(SIG_BLOCK);
    write_to_nobody();
    require(!is_pending(), 14);
    require(block(SIG_BLOCK), 15);
}

static void with_signal_pending(void *unused)
{
    (void)unused;
    (void)signal(SIGPIPE, count_signal);
    (void)block(SIG_BLOCK);
    (void)raise(SIGPIPE);
    write_to_nobody();
    require(is_pending(), 16);
    (void)block(SIG_UNBLOCK);
    require(pipe_signals == 1, 17);
}

Test(os_info, message_to_a_pipe_that_nobody_reads_raises_no_signal)
{
    static sighandler_t handlers[] = {SIG_DFL, SIG_IGN, count_signal};
    for (size_t i = 0; i < sizeof handlers / sizeof handlers[0]; i++) {
        struct child_result result;
        child_run(&result, with_handling, &handlers[i]);
        cr_assert_eq(result.signal, 0);
        cr_assert_eq(result.status, 0, "%d", result.status);
    }
}

Test(os_info, message_to_a_pipe_that_nobody_reads_changes_no_signal_of_the_programs)
{
    expect_success(with_signal_blocked);
    expect_success(with_signal_pending);
}
