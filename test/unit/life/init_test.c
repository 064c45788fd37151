/* SPDX-License-Identifier: MIT */
/*
 * init_test.c: the first call.
 * Goal: one initialisation whoever comes first, and a heap that works without a region. Method: the
 * constructor has run before a test does, so races are run on what follows it; a program that starts
 * with no address space to be had is a child with faults set.
 */
#include "life/init.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>

#include "config/options.h"
#include "heap/region.h"
#include "os/os.h"
#include "support/child.h"

enum { THREADS = 16 };

static pthread_barrier_t barrier;

static void *enter(void *unused)
{
    (void)unused;
    pthread_barrier_wait(&barrier);
    struct ap__thread_cache *cache = ap__life_enter();
    pthread_barrier_wait(&barrier);
    return cache;
}

Test(init, the_constructor_has_set_everything_up)
{
    cr_assert_neq(ap__region_base(), 0);
    cr_assert_not_null(ap__thread_cache_or_null());
    cr_assert(ap__thread_cache_or_null()->exit_armed);
}

Test(init, threads_that_come_at_once_get_a_cache_each)
{
    pthread_t threads[THREADS];
    void *caches[THREADS];
    uintptr_t base = ap__region_base();
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        cr_assert_eq(pthread_create(&threads[i], NULL, enter, NULL), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &caches[i]);
        cr_assert_not_null(caches[i]);
        for (int k = 0; k < i; k++) {
            cr_assert_neq(caches[i], caches[k]);
        }
    }
    cr_assert_eq(ap__region_base(), base);
}

static void write_option(void *unused)
{
    (void)unused;
    ap__options.hardened = 0;
}

/* Whatever a program overwrites, its checks stay as they were chosen. */
Test(init, options_cannot_be_written_to_once_the_constructor_has_run)
{
    struct child_result result;
    if (ap__os_page_size() != AP__OPTIONS_PAGE) {
        cr_skip_test("pages are larger than what the options have to themselves");
    }
    child_run(&result, write_option, NULL);
    cr_assert_eq(result.signal, SIGSEGV);
}
