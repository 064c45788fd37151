/* SPDX-License-Identifier: MIT */
/*
 * helper_edges_program.c: the rare moments of the helper thread's life.
 * Goal: it goes when the last other thread has left no work; the process never ends on it; a process that
 * shares our memory does not get it; what two threads free at once goes back at once. Method: one
 * mode a run, named on the command line; status 0 or a line that says what is wrong.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "entry_points.h"
#include "expect.h"
#include "good_end.h"
#include "modes.h"
#include "support/process_view.h"

#define MIB ((size_t)1 << 20)

enum order { WORK, REST, END };
static atomic_int order;
static pthread_t second;

static void work(void)
{
    void *blocks[300];
    for (size_t i = 0; i < 300; i++) {
        size_t size = i % 50 == 0 ? 1000000 : i * 31;
        blocks[i] = memset(ap_malloc(size), 1, size);
    }
    for (size_t i = 0; i < 300; i++) {
        ap_free(blocks[i]);
    }
}

static void *follow_orders(void *unused)
{
    while (order != END) {
        if (order == WORK) {
            work();
        } else {
            ap_thread_idle();
            view_sleep_ms(5);
        }
    }
    return unused;
}

static bool has_helper_at_work(void)
{
    work();
    return view_helper() != 0;
}

static bool is_single(void)
{
    return view_threads() == 1;
}

static void start_second(void)
{
    expect(pthread_create(&second, NULL, follow_orders, NULL) == 0, "a thread");
    expect(view_wait(has_helper_at_work, 30000) >= 0, "two threads at work have a helper");
}

static void end_second(void)
{
    order = END;
    expect(pthread_join(second, NULL) == 0, "the thread ends");
}

/* decay_ms:200. The last other thread ends with an empty cache, long after there was anything to do. */
static void leaves_asleep(void)
{
    start_second();
    order = REST;
    view_sleep_ms(100);
    ap_thread_idle();
    view_sleep_ms(1500);
    end_second();
    expect(view_wait(is_single, 30000) >= 0, "the helper goes when one thread is left");
}

static void expect_not_on_helper(void)
{
    char name[16] = "";
    (void)prctl(PR_GET_NAME, name);
    expect(strcmp(name, "apmalloc") != 0, "exit handlers do not run on the helper");
}

/* decay_ms:20. The main thread leaves about when the helper goes by itself. */
static void last_but_one(void)
{
    expect(atexit(expect_not_on_helper) == 0, "an exit handler");
    start_second();
    end_second();
    view_sleep_ms((unsigned)getpid() % 60);
    pthread_exit(NULL);
}

static atomic_bool may_end;

static void *hold_one_block(void *unused)
{
    void *p = ap_malloc(10);
    while (!may_end) {
        view_sleep_ms(5);
    }
    ap_free(p);
    return unused;
}

static int work_much(void *unused)
{
    (void)unused;
    for (int i = 0; i < 300; i++) {
        work();
    }
    return 0;
}

/* A process that shares our memory works while nobody else does: it would be the one to start the helper. */
static void clone_vm(void)
{
    enum { STACK = 1 << 20 };
    int status = -1;
    expect(pthread_create(&second, NULL, hold_one_block, NULL) == 0, "a thread");
    view_sleep_ms(50);
    char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pid_t pid = clone(work_much, stack + STACK, CLONE_VM | CLONE_FS | CLONE_FILES | SIGCHLD, NULL);
    expect(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0,
           "the process with our memory ends");
    expect(view_wait(has_helper_at_work, 30000) >= 0, "the helper is still to be had");
    may_end = true;
    expect(pthread_join(second, NULL) == 0, "the thread ends");
}

static size_t resident_at_first;

static bool is_back(void)
{
    work();
    return view_resident_bytes() < resident_at_first + 16 * MIB;
}

static void expect_decay_alone(void)
{
    enum { BLOCKS = 20000 };
    static void *blocks[BLOCKS];
    resident_at_first = view_resident_bytes();
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = memset(ap_malloc(3000), 1, 3000);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        ap_free(blocks[i]);
    }
    expect(view_wait(is_back, 20000) >= 0, "a child without a helper gives memory back itself");
}

/* decay_ms:200. A child made without libc's handlers has the memory of one that has a helper, and no helper. */
static void raw_fork(void)
{
    start_second();
    order = REST;
    view_sleep_ms(1500); /* nobody holds a lock */
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    expect(pid >= 0, "a child");
    if (pid == 0) {
        expect_decay_alone();
        _exit(0);
    }
    expect_good_end(pid);
    end_second();
}

static pthread_barrier_t gate;

static void *free_at_the_gate(void *p)
{
    (void)pthread_barrier_wait(&gate);
    ap_free(p);
    return NULL;
}

/* decay_ms:0 */
static void two_at_once(void)
{
    size_t size = 64 * MIB;
    expect(pthread_barrier_init(&gate, NULL, 2) == 0, "a barrier");
    for (int round = 0; round < 50; round++) {
        void *p = memset(ap_malloc(size), 1, size);
        void *q = memset(ap_malloc(size), 1, size);
        expect(pthread_create(&second, NULL, free_at_the_gate, p) == 0, "a thread");
        (void)free_at_the_gate(q);
        expect(pthread_join(second, NULL) == 0, "the thread ends");
        expect(view_resident_bytes() < 48 * MIB, "all that was freed is gone");
    }
}

static const struct mode modes[] = {
    {"leaves_asleep", leaves_asleep}, {"last_but_one", last_but_one}, {"clone_vm", clone_vm},
    {"raw_fork", raw_fork},           {"two_at_once", two_at_once},
};

int main(int argc, char **argv)
{
    (void)argc;
    run_mode(modes, sizeof modes / sizeof *modes, argv[1]);
    return 0;
}
