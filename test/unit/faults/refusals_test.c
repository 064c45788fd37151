/* SPDX-License-Identifier: MIT */
/*
 * refusals_test.c: a sandbox that forbids one system call, from before the program's start or from some moment on.
 * Goal: calls that the allocator can do without cost it nothing but what they were for; without the calls that
 * get memory, it says ENOMEM and keeps its heap in order. Method: the scenarios of faults_test.c in children with a
 * seccomp filter, EPERM and ENOSYS as sandboxes and old kernels answer.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "scenarios.h"
#include "support/child.h"
#include "support/seccomp.h"

TestSuite(refusals, .timeout = 300);

struct refused_call {
    const char *name;
    int number;
};
#define CALL(name)                                                                                 \
    {                                                                                              \
#name, SYS_##name                                                                          \
    }

/* Not futex, rt_sigprocmask and rseq, without which libc has no threads. */
static const struct refused_call optional[] = {
    CALL(madvise),
    CALL(munmap),
    CALL(mremap),
    CALL(membarrier),
    CALL(getrandom),
    CALL(prctl),
    CALL(sched_getaffinity),
    CALL(getcpu),
    CALL(mlock),
    CALL(clock_gettime),
    CALL(clone3),
    CALL(openat),
    CALL(read),
    CALL(pread64),
    CALL(fstat),
    CALL(fcntl),
    CALL(faccessat),
    CALL(prlimit64),
    CALL(close),
    CALL(getpid),

    CALL(sched_yield),
    CALL(mincore),
    CALL(brk),
};

static const struct refused_call growing[] = {CALL(mmap), CALL(mprotect)};

enum { OPTIONAL = sizeof optional / sizeof optional[0] };
enum { GROWING = sizeof growing / sizeof growing[0] };

struct trial {
    const struct scenario *scenario;
    const struct refused_call *call;
    int error;
    bool is_optional;
};

static void run_trial(void *argument)
{
    const struct trial *trial = argument;
    service_begin();
    if (trial->scenario->prepare != NULL) {
        trial->scenario->prepare();
    }
    if (!seccomp_refuse(&trial->call->number, 1, trial->error)) {
        _exit(2);
    }
    trial->scenario->run();
    service_continues();
    if (trial->is_optional) {
        service_is_back();
    }
}

static const char *startup_program(void)
{
    static char path[4096];
    char self[2048];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = '\0';
    (void)snprintf(path, sizeof path, "%s/faults_startup_program", dirname(self));
    return path;
}

static void start_up(void *argument)
{
    const struct trial *trial = argument;
    if (!seccomp_refuse(&trial->call->number, 1, trial->error)) {
        _exit(2);
    }
    (void)execl(startup_program(), "faults_startup_program", (char *)NULL);
    _exit(3);
}

static void expect_survival(void (*body)(void *argument), struct trial *trial, const char *name)
{
    struct child_result result;
    child_run(&result, body, trial);
    cr_expect(result.signal == 0 && result.status == 0,
              "%s without %s (error %d): signal %d, status %d: %s", name, trial->call->name,
              trial->error, result.signal, result.status, result.text);
}

static void expect_filters(void)
{
    if (!seccomp_is_available()) {
        cr_skip_test("this kernel does not let a process filter its calls");
    }
}

Test(refusals, what_is_optional_is_not_missed)
{
    static const int errors[] = {EPERM, ENOSYS};
    expect_filters();
    for (size_t s = 0; s < scenario_count; s++) {
        for (size_t i = 0; i < 2 * (size_t)OPTIONAL; i++) {
            struct trial trial = {&scenarios[s], &optional[i / 2], errors[i % 2], true};
            expect_survival(run_trial, &trial, scenarios[s].name);
        }
    }
}

Test(refusals, without_new_memory_the_heap_stays_in_order)
{
    static const int errors[] = {ENOMEM, EPERM, ENOSYS};
    expect_filters();
    for (size_t s = 0; s < scenario_count; s++) {
        for (size_t i = 0; i < 3 * (size_t)GROWING; i++) {
            struct trial trial = {&scenarios[s], &growing[i / 3], errors[i % 3], false};
            expect_survival(run_trial, &trial, scenarios[s].name);
        }
    }
}

/* The loader needs some of them itself. */
static bool is_for_the_loader(int number)
{
    return number == SYS_openat || number == SYS_read || number == SYS_pread64 ||
           number == SYS_fstat || number == SYS_close;
}

Test(refusals, programs_start_without_what_is_optional)
{
    static const int errors[] = {EPERM, ENOSYS};
    expect_filters();
    for (size_t i = 0; i < 2 * (size_t)OPTIONAL; i++) {
        struct trial trial = {NULL, &optional[i / 2], errors[i % 2], true};
        if (!is_for_the_loader(trial.call->number)) {
            expect_survival(start_up, &trial, "start-up");
        }
    }
}
