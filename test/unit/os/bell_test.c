/* SPDX-License-Identifier: MIT */
/*
 * bell_test.c: one sleeps, others ring.
 * Goal: a ring since listen() ends the sleep or keeps it from beginning; without one a timeout does; a ring
 * for nobody costs nothing and is not kept. Method: threads; errno is watched.
 */
#include "os/bell.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

TestSuite(bell, .timeout = 60);

static struct ap__bell bell;

Test(bell, a_ring_before_the_sleep_is_enough)
{
    ap__bell_listen(&bell);
    ap__bell_ring(&bell);
    ap__bell_sleep(&bell, -1);
}

Test(bell, a_ring_for_nobody_is_not_kept)
{
    errno = EXDEV;
    ap__bell_ring(&bell);
    ap__bell_listen(&bell);
    ap__bell_sleep(&bell, 20); /* the timeout ends it */
    cr_assert_eq(errno, EXDEV);
    cr_assert_eq(atomic_load(&bell.asleep), 0);
}

static void *sleep_thousand_times(void *rounds)
{
    for (int i = 0; i < 1000; i++) {
        ap__bell_listen(&bell);
        atomic_fetch_add((_Atomic(int) *)rounds, 1);
        ap__bell_sleep(&bell, -1);
    }
    return NULL;
}

Test(bell, rings_wake_whoever_listens_every_time)
{
    static _Atomic(int) rounds;
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, sleep_thousand_times, &rounds), 0);
    for (int i = 1; i <= 1000; i++) {
        while (atomic_load(&rounds) < i) {
            (void)usleep(10);
        }
        ap__bell_ring(&bell);
    }
    cr_assert_eq(pthread_join(thread, NULL), 0);
}
