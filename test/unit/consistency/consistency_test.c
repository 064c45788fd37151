/* SPDX-License-Identifier: MIT */
/*
 * consistency_test.c: the walk of consistency.h finds what it says it looks for.
 * Goal: no fault in a heap of everything; each invariant, damaged alone, is named. Method: a child builds the
 * heap (build.c), walks it, spoils one word (spoil.h), walks it again. Run with a region so small that some spans are
 * outside.
 */
#include "support/consistency.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "apmalloc.h"
#include "damage.h"
#include "spoil.h"
#include "support/child.h"

TestSuite(consistency, .timeout = 120);

static void spoil_and_find(void *argument)
{
    const struct spoil *damage = argument;
    build();
    const char *fault = consistency_find_fault();
    if (fault != NULL) {
        fprintf(stderr, "before: %s", fault);
        _exit(1);
    }
    damage->spoil();
    fault = consistency_find_fault();
    if (fault == NULL || strstr(fault, damage->text) == NULL) {
        fprintf(stderr, "found: %s", fault != NULL ? fault : "nothing");
        _exit(1);
    }
}

static void expect_all_found(const struct spoils *spoils)
{
    for (size_t i = 0; i < spoils->count; i++) {
        struct child_result result;
        struct spoil damage = spoils->all[i];
        child_run(&result, spoil_and_find, &damage);
        cr_expect(result.signal == 0 && result.status == 0, "\"%s\": signal %d, status %d: %s",
                  damage.text, result.signal, result.status, result.text);
    }
}

Test(consistency, each_damage_is_found_and_named)
{
    expect_all_found(&spoils_of_meta);
    expect_all_found(&spoils_of_page_heap);
    expect_all_found(&spoils_of_central);
    expect_all_found(&spoils_of_table);
    expect_all_found(&spoils_of_caches);
    expect_all_found(&spoils_of_locks);
}

Test(consistency, the_sums_are_those_of_what_the_program_has)
{
    enum { COUNT = 500 };
    static void *blocks[COUNT];
    cr_assert_null(consistency_find_fault());
    struct consistency_sums before = consistency_sums();
    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = ap_malloc(1 + i);
    }
    cr_assert_null(consistency_find_fault());
    cr_assert_eq(consistency_sums().live_blocks, before.live_blocks + COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        ap_free(blocks[i]);
    }
    cr_assert_null(consistency_find_fault());
    cr_assert_eq(consistency_sums().live_blocks, before.live_blocks);
    cr_assert_gt(consistency_sums().cached_blocks, 0);
    ap_thread_idle();
    cr_assert_null(consistency_find_fault());
    cr_assert_eq(consistency_sums().cached_blocks, 0);
    cr_assert_eq(consistency_sums().live_blocks, before.live_blocks);
}

/* ------------------------------------------------------------ a forked child */

static pthread_barrier_t has_cache;

static void *keep_cache(void *unused)
{
    for (size_t size = 16; size < 3000; size += 100) {
        ap_free(ap_malloc(size));
    }
    (void)pthread_barrier_wait(&has_cache);
    (void)pthread_barrier_wait(&has_cache);
    return unused;
}

static void walk_in_child(void *unused)
{
    (void)unused;
    build();
    const char *fault = consistency_find_fault_in_child();
    if (fault != NULL) {
        fprintf(stderr, "%s", fault);
        _exit(1);
    }
    if (consistency_find_fault() == NULL) { /* the other thread's blocks are nobody's */
        _exit(2);
    }
    damage_central_count(built.small_class, DAMAGE_CLAIMED);
    if (consistency_find_fault_in_child() == NULL) {
        _exit(3);
    }
}

Test(consistency, a_forked_child_may_have_lost_what_other_threads_had_and_no_more)
{
    pthread_t thread;
    struct child_result result;
    (void)pthread_barrier_init(&has_cache, NULL, 2);
    cr_assert_eq(pthread_create(&thread, NULL, keep_cache, NULL), 0);
    (void)pthread_barrier_wait(&has_cache);
    child_run(&result, walk_in_child, NULL);
    cr_assert(result.signal == 0 && result.status == 0, "signal %d, status %d: %s", result.signal,
              result.status, result.text);
    (void)pthread_barrier_wait(&has_cache);
    (void)pthread_join(thread, NULL);
    cr_assert_null(consistency_find_fault());
}
