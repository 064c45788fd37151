/* SPDX-License-Identifier: MIT */
/*
 * fork_test.c: the fork handlers.
 * Goal: at the fork every lock is held by the forking thread, handlers of others may allocate on all sides, and no lock
 * is held afterwards; also while classes get more locks. Method: handlers registered before and after ours; threads
 * that allocate all the while.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "apmalloc.h"
#include "central/central_free_list.h"
#include "central/shards.h"
#include "central/transfer_cache.h"
#include "heap/page_heap.h"
#include "meta/meta.h"
#include "os/lock.h"

enum { FORKS = 200, THREADS = 3 };

static bool all_locks_are_mine(void)
{
    bool mine = ap__lock_is_mine(ap__page_heap_lock()) && ap__lock_is_mine(ap__meta_lock());
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        mine &= ap__lock_is_mine(ap__transfer_lock(0, c));
        for (unsigned shard = 0; shard < ap__central_shards(c); shard++) {
            mine &= ap__lock_is_mine(ap__central_lock(shard, c));
        }
    }
    return mine;
}

static bool no_lock_is_mine(void)
{
    bool mine = ap__lock_is_mine(ap__page_heap_lock()) || ap__lock_is_mine(ap__meta_lock());
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        mine |= ap__lock_is_mine(ap__transfer_lock(0, c));
        for (unsigned shard = 0; shard < ap__central_shards(c); shard++) {
            mine |= ap__lock_is_mine(ap__central_lock(shard, c));
        }
    }
    return !mine;
}

static void allocate_all_kinds(void)
{
    for (size_t size = 8; size < 4 << 20; size = size * 3 + 1) {
        char *p = ap_malloc(size);
        cr_assert_not_null(p);
        p[0] = p[size - 1] = 1;
        p = ap_realloc(p, 2 * size);
        cr_assert_not_null(p);
        ap_free(p);
    }
}

static bool early_prepare_ran_under_all_locks;

static bool early_prepare_ran_without_some;

static void early_prepare(void)
{
    early_prepare_ran_under_all_locks = all_locks_are_mine();
    early_prepare_ran_without_some |= !early_prepare_ran_under_all_locks;
    allocate_all_kinds();
}

/* Registered before the library's constructor: its prepare handler runs after ours. */
__attribute__((constructor(101))) static void register_early(void)
{
    pthread_atfork(early_prepare, allocate_all_kinds, allocate_all_kinds);
}

static _Atomic(bool) stop;

static void *allocate_until_told(void *unused)
{
    (void)unused;
    while (!atomic_load(&stop)) {
        allocate_all_kinds();
    }
    return NULL;
}

static void *allocate_once(void *unused)
{
    (void)unused;
    allocate_all_kinds();
    return NULL;
}

/*
 * A thread at its start uses libc's allocator. AddressSanitizer's takes no part in forks: where one of the parent's
 * threads was about to start, ours among them, a thread of the child would wait for it for ever.
 */
static bool run_thread(void)
{
#ifdef __SANITIZE_ADDRESS__
    (void)allocate_once;
#else
    pthread_t thread;
    if (pthread_create(&thread, NULL, allocate_once, NULL) != 0) {
        return false;
    }
    pthread_join(thread, NULL);
#endif
    return true;
}

static int child(void *of_parent)
{
    if (!no_lock_is_mine()) {
        return 2;
    }
    ap_free(of_parent);
    allocate_all_kinds();
    if (!run_thread()) {
        return 3;
    }
    return ap__lock_is_at_work() ? 4 : 0; /* or its own forks would not lock */
}

Test(fork, both_sides_go_on_while_other_threads_allocate, .timeout = 100)
{
    pthread_t threads[THREADS];
    pthread_atfork(allocate_all_kinds, allocate_all_kinds, allocate_all_kinds);
    for (int i = 0; i < THREADS; i++) {
        cr_assert_eq(pthread_create(&threads[i], NULL, allocate_until_told, NULL), 0);
    }
    for (int i = 0; i < FORKS; i++) {
        void *p = ap_malloc(100 + (size_t)i * 5000);
        pid_t pid = fork();
        cr_assert_neq(pid, -1);
        if (pid == 0) {
            alarm(30);
            _exit(child(p));
        }
        cr_assert(no_lock_is_mine() && !ap__lock_is_at_work());
        int status;
        cr_assert_eq(waitpid(pid, &status, 0), pid);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "fork %d: status %x", i, status);
        ap_free(p);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
}

Test(fork, handlers_registered_before_ours_run_under_our_locks)
{
    pid_t pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    cr_assert(early_prepare_ran_under_all_locks);
    cr_assert(no_lock_is_mine());
}

/* ------------------------------------------------------------ while classes get more shards */

static _Atomic(unsigned) at_work;

/* Whatever the class' bound is. */
static unsigned claim(unsigned size_class, void **blocks, unsigned count)
{
    unsigned claimed;
    while ((claimed = ap__central_take(size_class, blocks, count)) == 0 &&
           ap__central_add_span(size_class)) {
    }
    return claimed;
}

/* Of each class that is ever divided, until it has all shards. What it claims is lost. */
static void *spread_classes(void *unused)
{
    void *blocks[AP_BATCH_MAX];
    ap_free(ap_malloc(1));
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        while (ap__central_shards(c) < ap__shards_of(c)) {
            cr_assert_neq(claim(c, blocks, AP_BATCH_MAX), 0);
        }
    }
    atomic_fetch_sub(&at_work, 1);
    return unused;
}

/* Every shard serves. */
static int claim_of_all_shards(void)
{
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        for (unsigned number = 0; number < AP_CENTRAL_SHARDS_MAX; number++) {
            void *block;
            ap__central_set_thread(number);
            if (claim(c, &block, 1) != 1) {
                return 2;
            }
            ap__central_give(c, &block, 1, "free");
        }
    }
    return no_lock_is_mine() && !ap__lock_is_at_work() ? 0 : 3;
}

Test(fork, all_locks_are_taken_while_classes_get_more_of_them, .timeout = 100)
{
    pthread_t threads[THREADS];
    ap_free(ap_malloc(1));
    atomic_store(&at_work, THREADS);
    for (int i = 0; i < THREADS; i++) {
        cr_assert_eq(pthread_create(&threads[i], NULL, spread_classes, NULL), 0);
    }
    do {
        pid_t pid = fork();
        cr_assert_neq(pid, -1);
        if (pid == 0) {
            alarm(30);
            _exit(claim_of_all_shards());
        }
        cr_assert(no_lock_is_mine() && !ap__lock_is_at_work());
        int status;
        cr_assert_eq(waitpid(pid, &status, 0), pid);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
    } while (atomic_load(&at_work) != 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    cr_assert(!early_prepare_ran_without_some);
}
