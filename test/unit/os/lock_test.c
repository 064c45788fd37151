/* SPDX-License-Identifier: MIT */
/*
 * lock_test.c: the lock with a rank and an owner.
 * Goal: it excludes, knows its owner, refuses recursion outside of the fork window and wrong order
 * in debug builds, and is free in a forked child. Method: threads counting under it; fatal uses in
 * a child.
 */
#include "os/lock.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/check.h"
#include "support/child.h"

enum { THREADS = 4, ROUNDS = 20000 };

static struct ap__lock low = AP_LOCK_INIT(AP__RANK_CENTRAL);
static struct ap__lock high = AP_LOCK_INIT(AP__RANK_META);
static unsigned long counter; /* under `low` */

static void *count_under_lock(void *unused)
{
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        ap__lock_take(&low);
        counter++;
        ap__lock_release(&low);
    }
    return NULL;
}

static void *ask_whether_mine(void *answer)
{
    *(bool *)answer = ap__lock_is_mine(&low);
    return NULL;
}

static void run_thread(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, body, argument), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
}

Test(lock, excludes_other_threads, .timeout = 60)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        cr_assert_eq(pthread_create(&threads[i], NULL, count_under_lock, NULL), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
    }
    cr_assert_eq(counter, (unsigned long)THREADS * ROUNDS);
}

Test(lock, belongs_to_the_thread_that_took_it)
{
    bool others = true;
    cr_assert_not(ap__lock_is_mine(&low));
    ap__lock_take(&low);
    cr_assert(ap__lock_is_mine(&low));
    run_thread(ask_whether_mine, &others);
    cr_assert_not(others);
    ap__lock_release(&low);
    cr_assert_not(ap__lock_is_mine(&low));
}

Test(lock, initialised_at_run_time_is_like_a_static_one)
{
    struct ap__lock lock;
    memset(&lock, 0xA5, sizeof lock);
    ap__lock_init(&lock, AP__RANK_PAGE_HEAP);
    cr_assert_not(ap__lock_is_mine(&lock));
    ap__lock_take(&lock);
    cr_assert(ap__lock_is_mine(&lock));
    ap__lock_release(&lock);
}

static void take_twice(void *unused)
{
    (void)unused;
    ap__lock_take(&low);
    ap__lock_take(&low);
}

Test(lock, taken_twice_by_one_thread_ends_the_process)
{
    struct child_result result;
    child_run(&result, take_twice, NULL);
    cr_assert_eq(result.signal, SIGABRT);
    cr_assert_not_null(strstr(result.text, "a signal handler that had interrupted the allocator"));
}

static void take_against_the_order(void *unused)
{
    (void)unused;
    ap__lock_take(&high);
    ap__lock_take(&low);
}

static void take_two_of_one_rank(void *unused)
{
    static struct ap__lock twin = AP_LOCK_INIT(AP__RANK_CENTRAL);
    (void)unused;
    ap__lock_take(&low);
    ap__lock_take(&twin);
}

Test(lock, debug_builds_stop_when_a_rank_does_not_rise)
{
    void (*const bodies[])(void *) = {take_against_the_order, take_two_of_one_rank};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct child_result result;
        child_run(&result, bodies[i], NULL);
        cr_assert_eq(result.signal, AP_DEBUG ? SIGABRT : 0, "%zu: %s", i, result.text);
        cr_assert_eq(strstr(result.text, "internal error") != NULL, AP_DEBUG != 0);
    }
}

Test(lock, rising_ranks_are_allowed_again_and_again)
{
    for (int i = 0; i < 3; i++) {
        ap__lock_take(&low);
        ap__lock_take(&high);
        ap__lock_release(&low); /* the order of release is free */
        ap__lock_release(&high);
    }
}

Test(lock, fork_window_allows_recursion_and_any_order)
{
    ap__lock_take(&low);
    ap__lock_take(&high);
    ap__lock_fork_window_open();
    ap__lock_take(&high);
    ap__lock_take(&low);
    ap__lock_take(&low);
    ap__lock_release(&low);
    ap__lock_release(&low);
    ap__lock_release(&high);
    cr_assert(ap__lock_is_mine(&low), "inner releases keep the outer hold");
    cr_assert(ap__lock_is_mine(&high));
    ap__lock_fork_window_close();
    ap__lock_release(&high);
    ap__lock_release(&low);
    cr_assert_not(ap__lock_is_mine(&low));
    run_thread(count_under_lock, NULL); /* and others get it */
    cr_assert_eq(counter, (unsigned long)ROUNDS);
}

static atomic_bool other_entered;

static void *enter_later(void *unused)
{
    (void)unused;
    ap__lock_take(&low);
    atomic_store(&other_entered, true);
    ap__lock_release(&low);
    return NULL;
}

Test(lock, fork_window_of_one_thread_keeps_others_out, .timeout = 60)
{
    pthread_t thread;
    ap__lock_take(&low);
    ap__lock_fork_window_open();
    cr_assert_eq(pthread_create(&thread, NULL, enter_later, NULL), 0);
    for (int i = 0; i < 100; i++) {
        ap__lock_take(&low);
        sched_yield();
        ap__lock_release(&low);
        cr_assert_not(atomic_load(&other_entered));
    }
    ap__lock_fork_window_close();
    ap__lock_release(&low);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert(atomic_load(&other_entered));
}

static atomic_bool held_by_other, let_go;

static void *hold_until_told(void *unused)
{
    (void)unused;
    ap__lock_take(&low);
    atomic_store(&held_by_other, true);
    while (!atomic_load(&let_go)) {
        sched_yield();
    }
    ap__lock_release(&low);
    return NULL;
}

Test(lock, reset_in_a_child_frees_what_another_thread_held, .timeout = 60)
{
    pthread_t thread;
    int status = -1;
    cr_assert_eq(pthread_create(&thread, NULL, hold_until_told, NULL), 0);
    while (!atomic_load(&held_by_other)) {
        sched_yield();
    }
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        (void)alarm(30);
        ap__lock_reset_in_child(&low);
        ap__lock_take(&low);
        bool mine = ap__lock_is_mine(&low);
        ap__lock_release(&low);
        _exit(mine ? 0 : 1);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    atomic_store(&let_go, true);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", (unsigned)status);
}

static void open_window_in_child(void *unused)
{
    (void)unused;
    /* The forking thread held everything; the child starts from scratch and can nest in order. */
    ap__lock_reset_in_child(&high);
    ap__lock_reset_in_child(&low);
    ap__lock_fork_window_close();
    ap__lock_take(&low);
    ap__lock_take(&high);
    ap__lock_release(&high);
    ap__lock_release(&low);
}

Test(lock, a_child_can_use_locks_its_own_thread_held_at_fork)
{
    struct child_result result;
    ap__lock_take(&low);
    ap__lock_take(&high);
    ap__lock_fork_window_open();
    child_run(&result, open_window_in_child, NULL);
    ap__lock_fork_window_close();
    ap__lock_release(&high);
    ap__lock_release(&low);
    cr_assert_eq(result.signal, 0, "%s", result.text);
    cr_assert_eq(result.status, 0);
}

Test(lock, counts_how_often_it_was_taken_and_that_others_had_it, .timeout = 60)
{
    struct ap__lock_stats before = {0};
    struct ap__lock_stats after = {0};
    ap__lock_add_stats(&low, &before);
    for (int i = 0; i < 100; i++) {
        ap__lock_take(&low);
        ap__lock_release(&low);
    }
    ap__lock_add_stats(&low, &after);
    cr_assert_eq(after.taken - before.taken, 100);
    cr_assert_eq(after.contended, before.contended, "nobody else was there");
    /* A thread that waits cannot be told from one that is about to: so until one has been. */
    while (after.contended == before.contended) {
        pthread_t thread;
        ap__lock_take(&low);
        cr_assert_eq(pthread_create(&thread, NULL, enter_later, NULL), 0);
        usleep(1000);
        ap__lock_release(&low);
        cr_assert_eq(pthread_join(thread, NULL), 0);
        after = (struct ap__lock_stats){0};
        ap__lock_add_stats(&low, &after);
    }
}
