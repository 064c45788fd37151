/* SPDX-License-Identifier: MIT */
/*
 * last_thread_program.c: a program with a helper thread comes to its end. Helper of helper_test.c.
 * Goal: the process ends as if the helper were not there: with the last of its own threads, with its own
 * status, and its exit handlers run on one of its own threads. Method: one way out per mode, while the
 * helper has something to do; the exit handler says that it ran.
 *
 * last_thread_program MODE
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "entry_points.h"
#include "expect.h"
#include "modes.h"
#include "support/process_view.h"

enum { WORKERS = 2, WAIT_MS = 10000, STATUS = 7 };

static atomic_bool may_end;

static void work(void)
{
    enum { BLOCKS = 300 };
    void *blocks[BLOCKS];
    for (unsigned i = 0; i < BLOCKS; i++) {
        size_t size = i % 50 == 0 ? 2000000 : i * 31;
        blocks[i] = ap_malloc(size);
        expect(blocks[i] != NULL, "a block is had");
        memset(blocks[i], 1, size);
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        ap_free(blocks[i]);
    }
}

static void *work_until_told(void *unused)
{
    while (!atomic_load(&may_end)) {
        work();
    }
    return unused;
}

static void *work_for_ever(void *unused)
{
    for (;;) {
        work();
    }
    return unused;
}

static void *only_sleep(void *ms)
{
    view_sleep_ms(*(const int64_t *)ms);
    return NULL;
}

static void start(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    expect(pthread_create(&thread, NULL, body, argument) == 0, "a thread");
    expect(pthread_detach(thread) == 0, "a detached thread");
}

static bool has_helper(void)
{
    return view_helper() != 0;
}

static void wait_for_helper(void)
{
    work();
    expect(view_wait(has_helper, WAIT_MS) >= 0, "there is a helper");
}

static void start_workers(void *(*body)(void *))
{
    for (int i = 0; i < WORKERS; i++) {
        start(body, NULL);
    }
    wait_for_helper();
}

/* The program's own code runs on its own threads: not on the helper's small stack, deaf to signals. */
static void at_exit(void)
{
    char name[16] = "";
    sigset_t mask;
    (void)prctl(PR_GET_NAME, name);
    expect(strcmp(name, "apmalloc") != 0, "exit handlers do not run on the helper");
    expect(pthread_sigmask(SIG_BLOCK, NULL, &mask) == 0 && sigismember(&mask, SIGTERM) == 0,
           "signals are not blocked");
    work();
    static const char text[] = "from an exit handler\n";
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
}

/* ------------------------------------------------------------ the ways out */

/* The last worker ends the process. */
static void leave(void)
{
    start_workers(work_until_told);
    atomic_store(&may_end, true);
    pthread_exit(NULL);
}

/* The last thread has no cache that it could give back. */
static void leave_to_sleeper(void)
{
    static const int64_t sleep_ms = 100;
    start(only_sleep, (void *)&sleep_ms);
    start_workers(work_until_told);
    atomic_store(&may_end, true);
    pthread_exit(NULL);
}

static void *end_process(void *unused)
{
    pthread_exit(unused);
}

/* The last thread with a cache is the main thread. */
static void leave_last(void)
{
    start_workers(work_until_told);
    atomic_store(&may_end, true);
    view_sleep_ms(20);
    start(end_process, NULL);
    work();
    pthread_exit(NULL);
}

static void leave_by_exit(void)
{
    start_workers(work_for_ever);
    exit(STATUS);
}

static void leave_by_underscore_exit(void)
{
    start_workers(work_for_ever);
    _exit(STATUS);
}

static void leave_by_abort(void)
{
    start_workers(work_for_ever);
    abort();
}

static void *call_exit(void *unused)
{
    exit(STATUS);
    return unused;
}

/* By another thread, after the main thread has left. */
static void leave_and_exit(void)
{
    start_workers(work_for_ever);
    start(call_exit, NULL);
    pthread_exit(NULL);
}

static const struct mode modes[] = {
    {"leave", leave},
    {"leave_to_sleeper", leave_to_sleeper},
    {"leave_last", leave_last},
    {"exit", leave_by_exit},
    {"_exit", leave_by_underscore_exit},
    {"abort", leave_by_abort},
    {"leave_and_exit", leave_and_exit},
};

int main(int argc, char **argv)
{
    (void)argc;
    expect(atexit(at_exit) == 0, "an exit handler");
    run_mode(modes, sizeof modes / sizeof *modes, argv[1]);
    return 2; /* none returns */
}
