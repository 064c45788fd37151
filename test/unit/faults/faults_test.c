/* SPDX-License-Identifier: MIT */
/*
 * faults_test.c: every call that the system can refuse is refused, in everything a program does.
 * Goal: an allocation fails with NULL and ENOMEM or succeeds another way; nothing is lost or locked, other
 * allocations go on, and once memory is back so is service. Method: each scenario runs in a child for each call
 * and n = 1, 2, ... until it makes fewer calls than n: the n-th fails; the n-th and all after it fail. Afterwards
 * the whole heap is walked. Start-up is a program of its own, which has its plan from the environment.
 */
#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "scenarios.h"
#include "support/child.h"
#include "support/os_faults.h"

enum { CALLS_MAX = 4000, EXIT_FEWER_CALLS = 77, EVERY_N_UP_TO = 20, FAULTS_MIN = 3 };

/* Shared with the children; and the sums of all tests, with the process that runs them. */
static struct totals {
    atomic_ulong trials, faults;
} * totals, *sums;

struct trial {
    const struct scenario *scenario;
    enum os_faults_call call;
    unsigned long n;
    bool goes_on;
};

#define SUMS_NAME "/apmalloc_faults.%d"

static void *map_shared(int file)
{
    int flags = MAP_SHARED | (file < 0 ? MAP_ANONYMOUS : 0);
    void *p = mmap(NULL, sizeof *totals, PROT_READ | PROT_WRITE, flags, file, 0);
    return p != MAP_FAILED ? p : NULL;
}

/* Tests are processes of their own, which Criterion starts: what they add to has a name. */
static void map_sums(pid_t who)
{
    char name[64];
    (void)snprintf(name, sizeof name, SUMS_NAME, (int)who);
    int file = shm_open(name, O_RDWR | O_CREAT, 0600);
    if (file >= 0 && ftruncate(file, sizeof *sums) == 0) {
        sums = map_shared(file);
    }
    if (file >= 0) {
        (void)close(file);
    }
}

static pid_t runner;

ReportHook(PRE_ALL)(struct criterion_test_set *tests)
{
    (void)tests;
    runner = getpid();
    map_sums(runner);
}

/* At the very end, as a comment behind the last line of TAP: Criterion prints nothing of its own there, and what
 * goes to standard error before is not shown. */
__attribute__((destructor)) static void print_sums(void)
{
    if (runner == getpid() && sums != NULL) {
        char name[64];
        printf("# %lu calls failed in %lu trials\n", sums->faults, sums->trials);
        (void)fflush(stdout);
        (void)snprintf(name, sizeof name, SUMS_NAME, (int)runner);
        (void)shm_unlink(name);
    }
}

static void begin_totals(void)
{
    totals = map_shared(-1);
    map_sums(getppid());
    cr_assert_not_null(totals);
}

static void run_trial(void *argument)
{
    const struct trial *trial = argument;
    service_begin();
    if (trial->scenario->prepare != NULL) {
        trial->scenario->prepare();
    }
    os_faults_reset();
    (trial->goes_on ? os_faults_fail_from : os_faults_fail_nth)(trial->call, trial->n);
    trial->scenario->run();
    bool fewer = os_faults_count(trial->call) < trial->n;
    service_continues();
    os_faults_reset();
    service_is_back();
    totals->trials++;
    totals->faults += os_faults_injected();
    _exit(fewer ? EXIT_FEWER_CALLS : 0);
}

static bool survives(const char *scenario, const struct trial *trial,
                     const struct child_result *result)
{
    cr_assert(result->signal == 0 && (result->status == 0 || result->status == EXIT_FEWER_CALLS),
              "%s, %s%s number %lu: signal %d, status %d: %s", scenario,
              os_faults_name(trial->call), trial->goes_on ? " from" : "", trial->n, result->signal,
              result->status, result->text);
    return result->status == 0;
}

static bool try_trial(struct trial trial)
{
    struct child_result result;
    child_run(&result, run_trial, &trial);
    return survives(trial.scenario->name, &trial, &result);
}

/* Every one of those that get or return memory, seeds, keys and threads, up to AP_FAULTS_EVERY: of no scenario are
 * there more, but where each of a thousand blocks is a mapping of its own. Of others, which are made hundreds of
 * times (clocks are read), the first twenty. From there on further and further apart. */
static unsigned long next_n(enum os_faults_call call, unsigned long n)
{
    const char *text = getenv("AP_FAULTS_EVERY");
    bool is_named = call <= OS_FAULTS_GETRANDOM || call >= OS_FAULTS_KEY_CREATE;
    unsigned long every = is_named && text != NULL ? strtoul(text, NULL, 10) : EVERY_N_UP_TO;
    return n < every ? n + 1 : n + n / 4;
}

static void fail_each_call(const struct scenario *scenario, bool (*try)(struct trial trial))
{
    for (int call = 0; call < OS_FAULTS_CALLS; call++) {
        for (int goes_on = 0; goes_on <= 1; goes_on++) {
            struct trial trial = {scenario, (enum os_faults_call)call, 1, goes_on != 0};
            while (try(trial)) {
                trial.n = next_n(trial.call, trial.n);
                cr_assert_lt(trial.n, CALLS_MAX);
            }
        }
    }
    if (sums != NULL) {
        sums->trials += totals->trials;
        sums->faults += totals->faults;
    }
    cr_assert_geq(totals->faults, FAULTS_MIN);
}

#define SCENARIO_TEST(name_, index)                                                                \
    Test(faults, name_, .timeout = 300)                                                            \
    {                                                                                              \
        begin_totals();                                                                            \
        fail_each_call(&scenarios[index], try_trial);                                              \
    }

SCENARIO_TEST(small_blocks, 0)
SCENARIO_TEST(big_small_blocks, 1)
SCENARIO_TEST(large_objects, 2)
SCENARIO_TEST(table_growth, 3)
SCENARIO_TEST(reallocations, 4)
SCENARIO_TEST(aligned_blocks, 5)
SCENARIO_TEST(trim, 6)
SCENARIO_TEST(decay, 7)
SCENARIO_TEST(statistics, 8)
SCENARIO_TEST(limits, 9)
SCENARIO_TEST(forks, 10)
SCENARIO_TEST(thread_starts, 11)
SCENARIO_TEST(thread_exits, 12)
SCENARIO_TEST(helper_start, 13)

Test(faults, every_scenario_has_a_test)
{
    cr_assert_eq(scenario_count, 14);
}

/* ------------------------------------------------------------ start-up */

static const char *startup_program(void)
{
    static char path[4096];
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    cr_assert_gt(length, 0);
    self[length] = '\0';
    (void)snprintf(path, sizeof path, "%s/faults_startup_program", dirname(self));
    return path;
}

/* The program prints how many calls failed. */
static bool try_startup(struct trial trial)
{
    struct child_result result;
    char plan[64];
    const char *const arguments[] = {startup_program(), NULL};
    (void)snprintf(plan, sizeof plan, "%d %lu %lu", (int)trial.call, trial.n,
                   trial.goes_on ? (unsigned long)-1 : trial.n);
    (void)setenv("OS_FAULTS", plan, 1);
    child_exec(&result, arguments);
    totals->trials++;
    const char *line = strstr(result.text, "faults ");
    totals->faults += line != NULL ? strtoul(line + strlen("faults "), NULL, 10) : 0;
    return survives(trial.scenario->name, &trial, &result);
}

Test(faults, start_up, .timeout = 300)
{
    static const struct scenario start_up = {.name = "start-up"};
    begin_totals();
    fail_each_call(&start_up, try_startup);
}
