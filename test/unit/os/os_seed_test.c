/* SPDX-License-Identifier: MIT */
/*
 * os_seed_test.c: seeds where the kernel gives no random numbers.
 * Goal: there is always a seed, another one each time and in each process, without waiting and
 * without a trace in errno. Method: in a child a filter answers getrandom; the child prints seeds.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/os.h"
#include "support/child.h"
#include "support/seccomp.h"

TestSuite(os_seed, .timeout = 60);

enum { SEEDS = 4, STALE_ERRNO = 1789, TEXT_BYTES = 17 * SEEDS };

/* An old kernel, a strict filter, early in boot, interrupted. */
static int errors[] = {ENOSYS, EPERM, EAGAIN, EINTR};
enum { ERRORS = sizeof errors / sizeof errors[0] };

static void print_seeds(void *error)
{
    static const int getrandom_only[] = {SYS_getrandom};
    char text[TEXT_BYTES + 1];
    if (!seccomp_refuse(getrandom_only, 1, *(int *)error)) {
        _exit(77);
    }
    errno = STALE_ERRNO;
    for (int i = 0; i < SEEDS; i++) {
        (void)snprintf(text + 17 * i, 18, "%016lx\n", (unsigned long)ap__os_seed());
    }
    if (errno != STALE_ERRNO) {
        _exit(1);
    }
    (void)!write(STDERR_FILENO, text, TEXT_BYTES);
}

static void expect_lines_differ(const char *text, size_t lines)
{
    for (size_t i = 0; i < lines; i++) {
        for (size_t j = 0; j < i; j++) {
            cr_assert_neq(memcmp(text + 17 * i, text + 17 * j, 16), 0, "%s", text);
        }
    }
}

Test(os_seed, without_getrandom_seeds_differ_in_and_between_processes)
{
    struct child_result result;
    char all[ERRORS * TEXT_BYTES + 1] = "";
    for (size_t i = 0; i < ERRORS; i++) {
        child_run(&result, print_seeds, &errors[i]);
        if (result.status == 77) {
            cr_skip_test("this kernel does not let a process filter its calls");
        }
        cr_assert_eq(result.signal, 0, "error %d: signal %d", errors[i], result.signal);
        cr_assert_eq(result.status, 0, "error %d: status %d", errors[i], result.status);
        cr_assert_eq(result.length, TEXT_BYTES, "error %d: %s", errors[i], result.text);
        memcpy(all + i * TEXT_BYTES, result.text, TEXT_BYTES);
    }
    expect_lines_differ(all, ERRORS * SEEDS);
}
