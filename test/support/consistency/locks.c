/* SPDX-License-Identifier: MIT */
/*
 * locks.c: the walk has all locks, or says which it cannot have.
 *
 * They are taken as a fork takes them: all by rank, with the window open in which this thread passes through its own,
 * so that the layers' functions can be called meanwhile. A lock that cannot be had for a long time is a fault, not
 * a hang.
 */
#include "support/consistency/walk.h"

#include <pthread.h>
#include <time.h>

#include "base/size_class.h"
#include "cache/thread.h"
#include "central/central_free_list.h"
#include "central/shards.h"
#include "central/transfer_cache.h"
#include "heap/page_heap.h"
#include "meta/meta.h"
#include "os/lock.h"
#include "pack/pack_pools.h"

unsigned consistency_lock_seconds = 20;

static const struct timespec pause_1_ms = {0, 1000000};

#ifdef AP_THREAD_SANITIZER
/* Its search for deadlocks ends the program where a thread holds 64 locks. Debug builds see to the order. */
__attribute__((used)) const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "detect_deadlocks=0";
}
#endif

typedef void lock_function(struct ap__lock *lock);

static void for_each_lock(lock_function *function)
{
    function(ap__thread_lock());
    for (unsigned shard = 0; shard < ap__transfer_shards(); shard++) {
        for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
            function(ap__transfer_lock(shard, c));
        }
    }
    for (unsigned number = 0; number < AP_PACK_POOLS; number++) {
        function(&ap__pack_pools[number].lock);
    }
    for (unsigned shard = 0; shard < AP_CENTRAL_SHARDS_MAX; shard++) {
        for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
            if (shard < ap__central_shards(c)) {
                function(ap__central_lock(shard, c));
            }
        }
    }
    function(ap__page_heap_lock());
    function(ap__meta_lock());
}

static time_t now_seconds(void)
{
    struct timespec now = {0, 0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static void check_lock(struct ap__lock *lock)
{
    if (walk.found ||
        !walk_check(!ap__lock_is_mine(lock), "this thread holds a lock", lock, lock->rank)) {
        return;
    }
    time_t end = now_seconds() + (time_t)consistency_lock_seconds;
    while (pthread_mutex_trylock(&lock->mutex) != 0) {
        if (now_seconds() > end) {
            walk_fault("a lock is never released", lock, lock->rank);
            return;
        }
        (void)nanosleep(&pause_1_ms, NULL);
    }
    (void)walk_check(lock->recursion == 0, "a free lock has been taken twice", lock,
                     lock->recursion);
    (void)walk_check(atomic_load(&lock->owner) == 0, "a free lock has an owner", lock, lock->rank);
    (void)pthread_mutex_unlock(&lock->mutex);
}

void walk_check_locks(void)
{
    for_each_lock(check_lock);
}

void walk_take_locks(void)
{
    ap__lock_fork_window_open();
    for_each_lock(ap__lock_take);
}

/* A class whose first shard has been released may get another one. */
static void release_mine(struct ap__lock *lock)
{
    if (ap__lock_is_mine(lock)) {
        ap__lock_release(lock);
    }
}

void walk_release_locks(void)
{
    for_each_lock(release_mine);
    ap__lock_fork_window_close();
}
