/* SPDX-License-Identifier: MIT */
/*
 * helper_program.c: a program that looks at the library's own thread. Helper of helper_test.c.
 * Goal: the thread is there when it is of use, and else in nobody's way: signals, forks, identities,
 * processors at rest. Method: workers allocate and free until told to rest or to end; one mode per
 * situation. APMALLOC_CONF says what the library does.
 *
 * helper_program MODE: status 0 if all is well, 77 where there is nothing to test, else 1 and a line.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "entry_points.h"
#include "expect.h"
#include "good_end.h"
#include "modes.h"
#include "support/process_view.h"

enum { WORKERS = 2, WAIT_MS = 10000, CHILD_SECONDS = 30 };

/* ------------------------------------------------------------ workers */

enum order { WORK, REST, END };
static _Atomic(int) order;
static atomic_uint resting;
static pthread_t workers[WORKERS];

/* Blocks of all kinds, more of them than a cache holds. */
static void work(unsigned seed)
{
    enum { BLOCKS = 300 };
    void *blocks[BLOCKS];
    for (unsigned i = 0; i < BLOCKS; i++) {
        size_t size = i % 50 == 0 ? 1000000 : (seed + i) * 331 % 9000;
        blocks[i] = entry_points[i % ENTRY_POINT_SETS].malloc(size);
        expect(blocks[i] != NULL, "a block is had");
        fill(blocks[i], size < 64 ? size : 64, i);
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        size_t size = i % 50 == 0 ? 1000000 : (seed + i) * 331 % 9000;
        expect(is_filled(blocks[i], size < 64 ? size : 64, i), "a block keeps its contents");
        ap_free(blocks[i]);
    }
}

static void rest(void)
{
    atomic_fetch_add(&resting, 1);
    while (atomic_load(&order) == REST) {
        view_sleep_ms(10);
    }
    atomic_fetch_sub(&resting, 1);
}

/* The thread that starts the helper blocks signals for a moment. */
static void expect_no_signal_blocked(void)
{
    sigset_t mask;
    expect(pthread_sigmask(SIG_BLOCK, NULL, &mask) == 0, "a mask");
    expect(sigismember(&mask, SIGUSR1) == 0, "the program's threads take signals");
}

static void *run_worker(void *unused)
{
    for (unsigned seed = 0; atomic_load(&order) != END; seed++) {
        if (atomic_load(&order) == REST) {
            rest();
        } else {
            work(seed);
        }
    }
    expect_no_signal_blocked();
    return unused;
}

static void start_workers(void)
{
    atomic_store(&order, WORK);
    for (unsigned i = 0; i < WORKERS; i++) {
        expect(pthread_create(&workers[i], NULL, run_worker, NULL) == 0, "a worker");
    }
}

static void end_workers(void)
{
    atomic_store(&order, END);
    for (unsigned i = 0; i < WORKERS; i++) {
        expect(pthread_join(workers[i], NULL) == 0, "a worker ends");
    }
}

static bool all_rest(void)
{
    return atomic_load(&resting) == WORKERS;
}

static bool has_helper(void)
{
    return view_helper() != 0;
}

static bool has_one_thread(void)
{
    return view_threads() == 1;
}

static void expect_soon(bool (*condition)(void), const char *what)
{
    if (view_wait(condition, WAIT_MS) < 0) {
        fail("not within %d ms: %s", WAIT_MS, what);
    }
}

static void start_helped_workers(void)
{
    start_workers();
    expect_soon(has_helper, "a program of several threads has a helper");
}

/* ------------------------------------------------------------ what it is */

static void comes_with_threads(void)
{
    for (unsigned seed = 0; seed < 300; seed++) {
        work(seed);
    }
    expect(has_one_thread(), "one thread has no helper");
    start_helped_workers();
    expect(view_threads() == 1 + WORKERS + 1, "there is one helper");
    end_workers();
}

/* helper:false and the like */
static void never_comes(void)
{
    start_workers();
    for (unsigned seed = 0; seed < 300; seed++) {
        work(seed);
        expect(!has_helper(), "there is no helper");
    }
    end_workers();
    expect(has_one_thread(), "there is no other thread");
}

/* The second thread has never used the heap: a server whose other threads only wait. */
static void comes_for_one_user(void)
{
    pthread_t thread;
    atomic_store(&order, REST);
    expect(pthread_create(&thread, NULL, run_worker, NULL) == 0, "a thread");
    for (unsigned seed = 0; seed < 300; seed++) {
        work(seed);
    }
    expect_soon(has_helper, "a program that has several threads anyway has a helper");
    pid_t child = fork();
    if (child == 0) { /* to write a snapshot, say: it has one thread, and keeps to it */
        for (unsigned seed = 0; seed < 300; seed++) {
            work(seed);
        }
        _exit(has_one_thread() ? 0 : 1);
    }
    expect_good_end(child); /* it has no helper */
    atomic_store(&order, END);
    expect(pthread_join(thread, NULL) == 0, "the thread ends");
}

/* The kernel's two, and the two that libc uses between threads, cannot be blocked. */
static void takes_no_signals(void)
{
    enum { LIBC_FIRST = 32, LIBC_SECOND = 33 };
    const int exempt[] = {SIGKILL, SIGSTOP, LIBC_FIRST, LIBC_SECOND};
    start_helped_workers();
    uint64_t blocked = view_status(view_helper(), "SigBlk", 16);
    for (unsigned i = 0; i < sizeof exempt / sizeof exempt[0]; i++) {
        blocked |= UINT64_C(1) << (exempt[i] - 1);
    }
    expect(blocked == UINT64_MAX, "the helper blocks all signals");
    end_workers();
}

/* libc changes the identity of all threads that it knows. */
static void changes_its_user(void)
{
    enum { NOBODY = 65534 };
    if (geteuid() != 0) {
        skip("only root may become somebody else");
    }
    start_helped_workers();
    expect(setresuid(NOBODY, NOBODY, NOBODY) == 0, "the process becomes somebody else");
    expect(view_status(view_helper(), "Uid", 10) == NOBODY, "the helper too");
    end_workers();
}

/* ------------------------------------------------------------ rest */

/* Not one wake-up is promised; one is the system's. */
static void sleeps_at_rest(void)
{
    enum { DECAY_DONE_MS = 1500, REST_MS = 3000 };
    start_helped_workers();
    atomic_store(&order, REST);
    expect_soon(all_rest, "the workers rest");
    view_sleep_ms(DECAY_DONE_MS);
    pid_t helper = view_helper();
    expect(helper != 0, "there is a helper");
    uint64_t before = view_status(helper, "voluntary_ctxt_switches", 10);
    view_sleep_ms(REST_MS);
    uint64_t wake_ups = view_status(helper, "voluntary_ctxt_switches", 10) - before;
    if (wake_ups > 1) {
        fail("the helper woke up %d times while nothing happened", (int)wake_ups);
    }
    end_workers();
}

/* ------------------------------------------------------------ its end */

static void goes_with_threads(void)
{
    for (int round = 0; round < 3; round++) {
        start_helped_workers();
        end_workers();
        expect_soon(has_one_thread, "one thread at rest has no helper any more");
    }
}

/* Programs whose threads live shortly. */
static void comes_and_goes(void)
{
    enum { ROUNDS = 300 };
    for (unsigned round = 0; round < ROUNDS; round++) {
        start_workers();
        view_sleep_ms(round % 8);
        end_workers();
        work(round);
    }
    expect_soon(has_one_thread, "one thread at rest has no helper any more");
}

/* ------------------------------------------------------------ forks */

static void live_as_child(void)
{
    (void)alarm(CHILD_SECONDS);
    expect(has_one_thread(), "a child has one thread");
    for (unsigned seed = 0; seed < 50; seed++) {
        work(seed);
    }
    expect(has_one_thread(), "a child of one thread has no helper");
    start_helped_workers();
    end_workers();
    exit(0);
}

static void forks(void)
{
    start_helped_workers();
    for (int round = 0; round < 10; round++) {
        pid_t child = fork();
        expect(child >= 0, "a fork");
        if (child == 0) {
            live_as_child();
        }
        work(1);
        expect_good_end(child);
    }
    end_workers();
}

/* At any moment of the helper's work. */
static void forks_often(void)
{
    enum { FORKS = 200 };
    start_helped_workers();
    for (unsigned round = 0; round < FORKS; round++) {
        pid_t child = fork();
        expect(child >= 0, "a fork");
        if (child == 0) {
            (void)alarm(CHILD_SECONDS);
            work(round);
            (void)ap_trim();
            work(round + 1);
            exit(0);
        }
        expect_good_end(child);
    }
    end_workers();
}

static const struct mode modes[] = {
    {"comes_with_threads", comes_with_threads},
    {"never_comes", never_comes},
    {"comes_for_one_user", comes_for_one_user},
    {"takes_no_signals", takes_no_signals},
    {"changes_its_user", changes_its_user},
    {"sleeps_at_rest", sleeps_at_rest},
    {"goes_with_threads", goes_with_threads},
    {"comes_and_goes", comes_and_goes},
    {"forks", forks},
    {"forks_often", forks_often},
};

int main(int argc, char **argv)
{
    (void)argc;
    run_mode(modes, sizeof modes / sizeof *modes, argv[1]);
    return 0;
}
