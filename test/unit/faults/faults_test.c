/* SPDX-License-Identifier: MIT */
/*
 * faults_test.c: the kernel refuses the n-th call of a kind, for every n.
 * Goal: an allocation fails with NULL and ENOMEM or succeeds another way; nothing is lost or locked, other
 * allocations go on, and once memory is back so is service. Method: each scenario runs in a child for
 * n = 1, 2, ... until it makes fewer calls than n; afterwards the whole heap is checked.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "apmalloc.h"
#include "support/child.h"
#include "support/heap_check.h"
#include "support/os_faults.h"

enum { HELD_MAX = 4000, CALLS_MAX = 400, EXIT_FEWER_CALLS = 77 };

static unsigned char *held[HELD_MAX];
static size_t sizes[HELD_MAX];
static size_t held_count;

static void require(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "broken: %s\n", what);
        abort();
    }
}

/* Notes a result that may be a refusal. */
static void hold(void *p, size_t size)
{
    if (p == NULL) {
        require(errno == ENOMEM, "NULL without ENOMEM");
        errno = 0;
        return;
    }
    require(held_count < HELD_MAX, "the test holds too much");
    memset(p, (int)(held_count % 251), size);
    held[held_count] = p;
    sizes[held_count++] = size;
}

static void check_and_free_all(void)
{
    for (size_t i = 0; i < held_count; i++) {
        require(held[i][0] == i % 251 && held[i][sizes[i] - 1] == i % 251, "contents");
        ap_free(held[i]);
    }
    held_count = 0;
}

static void small_blocks(void)
{
    for (size_t i = 0; i < 3000; i++) {
        size_t size = 1 + i * 37 % 5000;
        hold(ap_malloc(size), size);
    }
}

static void large_objects(void)
{
    for (size_t i = 0; i < 600; i++) { /* more than the first table holds */
        void *p = ap_calloc(1, 262145 + i * 64);
        require(p == NULL || ((char *)p)[262144] == 0, "zeroed");
        if (p == NULL) {
            hold(p, 0);
        } else {
            memset(p, 0, 1);
            held[held_count] = p;
            *held[held_count] = (unsigned char)(held_count % 251);
            sizes[held_count++] = 1;
        }
    }
}

static void reallocations(void)
{
    size_t size = 100;
    unsigned char *p = ap_malloc(size);
    void *wall = NULL;
    for (int i = 0; i < 30 && p != NULL; i++) {
        memset(p, 5, size);
        size_t wanted = size * 3 / 2 + 1;
        unsigned char *grown = ap_realloc(p, wanted);
        require(grown != NULL || errno == ENOMEM, "NULL without ENOMEM");
        p = grown != NULL ? grown : p;
        require(p[0] == 5 && p[size - 1] == 5, "contents kept");
        size = grown != NULL ? wanted : size;
        ap_free(wall);
        wall = ap_malloc(300000); /* keeps the next growth from staying in place */
    }
    ap_free(wall);
    ap_free(p);
}

static void aligned_blocks(void)
{
    for (size_t alignment = 16; alignment <= 8 << 20; alignment *= 2) {
        void *p = NULL;
        int error = ap_posix_memalign(&p, alignment, 100);
        require(error == 0 || (error == ENOMEM && p == NULL), "posix_memalign");
        errno = error;
        hold(p, 100);
    }
}

static void purge(void)
{
    large_objects();
    check_and_free_all();
    (void)ap_trim();
    small_blocks();
}

static void *in_thread(void *unused)
{
    ap_free(ap_malloc(100));
    ap_free(ap_malloc(5000));
    return unused;
}

static void threads(void)
{
    for (int i = 0; i < 8; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, in_thread, NULL) == 0) {
            pthread_join(thread, NULL);
        }
    }
}

static void statistics(void)
{
    small_blocks();
    (void)ap_mallinfo2();
    require(ap_good_size(100) == 112, "good size");
}

/* What must work after any failure. */
static void service_is_back(void)
{
    os_faults_reset();
    check_and_free_all();
    small_blocks();
    large_objects();
    require(held_count == 3600, "all allocations succeed again");
    check_and_free_all();
    ap_thread_idle();
    (void)ap_trim();
    heap_check();
    pid_t pid = fork(); /* takes every lock */
    if (pid == 0) {
        ap_free(ap_malloc(1 << 20));
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    require(WIFEXITED(status) && WEXITSTATUS(status) == 0, "fork");
}

struct trial {
    void (*scenario)(void);
    enum os_faults_call call;
    unsigned long n; /* 0: every call fails */
};

static void run_trial(void *argument)
{
    const struct trial *trial = argument;
    if (trial->n == 0) {
        os_faults_fail_always(trial->call);
    } else {
        os_faults_fail_nth(trial->call, trial->n);
    }
    trial->scenario();
    bool fewer = os_faults_count(trial->call) < trial->n;
    service_is_back();
    _exit(fewer ? EXIT_FEWER_CALLS : 0);
}

static bool survives(struct trial trial)
{
    struct child_result result;
    child_run(&result, run_trial, &trial);
    cr_assert(result.signal == 0 && (result.status == 0 || result.status == EXIT_FEWER_CALLS),
              "call %d, n %lu: signal %d, status %d: %s", trial.call, trial.n, result.signal,
              result.status, result.text);
    return result.status == 0;
}

static void fail_every_call_once(void (*scenario)(void))
{
    for (int call = 0; call < OS_FAULTS_CALLS; call++) {
        unsigned long n = 1;
        while (survives((struct trial){scenario, (enum os_faults_call)call, n})) {
            n++;
            cr_assert_lt(n, CALLS_MAX);
        }
        (void)survives((struct trial){scenario, (enum os_faults_call)call, 0});
    }
}

Test(faults, small_blocks, .timeout = 120)
{
    fail_every_call_once(small_blocks);
}

Test(faults, large_objects, .timeout = 120)
{
    fail_every_call_once(large_objects);
}

Test(faults, reallocations, .timeout = 120)
{
    fail_every_call_once(reallocations);
}

Test(faults, aligned_blocks, .timeout = 120)
{
    fail_every_call_once(aligned_blocks);
}

Test(faults, purge, .timeout = 120)
{
    fail_every_call_once(purge);
}

Test(faults, threads, .timeout = 120)
{
    fail_every_call_once(threads);
}

Test(faults, statistics, .timeout = 120)
{
    fail_every_call_once(statistics);
}
