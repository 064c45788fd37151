/* SPDX-License-Identifier: MIT */
/*
 * fork.c: all locks by rank before a fork, and the repair of the child.
 *
 * Before: every lock is taken, in the order of enum ap__lock_rank, so that no structure is copied while
 * another thread changes it. libc runs handlers that were registered before ours after it, and they may
 * allocate: in the fork window the forking thread passes through its own locks.
 *
 * Nobody may wait for another's lock with ours in hand: its owner may allocate. So ours come last, as those of libc's
 * own malloc do: our handlers are registered before all others where that is possible (fork_order.c), and
 * the one lock that libc takes after all handlers, and others hold while they wait for a stream whose owner
 * allocates, is taken before ours here: it is recursive. Left: the lock of the name service, which libc
 * takes for a moment then, and holds while it allocates when it reads its configuration. And the list of
 * handlers has a lock, under which it grows: registrations and forks wait for each other.
 *
 * Parent: all are released. Child: all are made anew, since their other users are gone.
 *
 * A signal handler may fork when it has interrupted the allocator in the middle of its work. Taking the
 * other locks then could wait for a thread that waits for ours, so none is taken: such a child can rely
 * on nothing but async-signal-safe functions anyway, and the parent must go on. The same when it has
 * interrupted a fork: the locks and the fork window are then the outer fork's, which goes on with them.
 *
 * What a child loses: the blocks in the caches of the parent's other threads, and spans those
 * threads were carrying between two layers. Once per fork, bounded by the caches' bounds.
 */
#include "life/fork.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "cache/thread.h"
#include "central/central_free_list.h"
#include "central/transfer_cache.h"
#include "decay/decay.h"
#include "decay/pressure.h"
#include "hardened/quarantine.h"
#include "hardened/sampled.h"
#include "heap/page_heap.h"
#include "life/helper.h"
#include "life/soft_limit.h"
#include "meta/meta.h"
#include "os/fork_gate.h"
#include "os/lock.h"
#include "os/stack_trace.h"
#include "pack/pack_pools.h"
#include "table/large_table.h"

/* libc's list of streams; absent from programs without streams, and perhaps from a later libc. */
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));

static struct ap__lock *init_lock; /* NULL: not yet */

static _Atomic(bool) is_watching;

/* This thread took all locks in before_fork(). Of the outermost fork. */
static AP_TLS bool took_locks;
static AP_TLS bool took_streams; /* the lock of the list of them */

/* Forks that this thread is at work on: more than one if handlers of signals fork, too. Volatile: these
 * read what they have interrupted. */
static AP_TLS volatile unsigned forks_under_way;

/* Threads that register handlers are inside. libc before 2.36 holds its list's lock while handlers run, for which these
 * wait then: so a fork must not wait for them for ever. */
static struct ap__fork_gate registrations;

void ap__fork_registration_begin(void)
{
    if (forks_under_way != 0) {
        return; /* a handler registers more */
    }
    while (!ap__fork_gate_enter(&registrations)) {
        ap__fork_gate_leave(&registrations);
        (void)sched_yield();
    }
}

void ap__fork_registration_end(void)
{
    if (forks_under_way == 0) {
        ap__fork_gate_leave(&registrations);
    }
}

typedef void lock_function(struct ap__lock *lock);

static void for_each_lock_of_rank(enum ap__lock_rank rank, lock_function *function)
{
    switch (rank) {
    case AP__RANK_INIT:
        if (init_lock != NULL) {
            function(init_lock);
        }
        break;
    case AP__RANK_THREADS:
        function(ap__thread_lock());
        break;
    case AP__RANK_QUARANTINE:
        function(ap__quarantine_lock());
        break;
    case AP__RANK_SAMPLED:
        function(ap__sampled_lock());
        break;
    case AP__RANK_PRESSURE:
        function(ap__pressure_lock());
        break;
    case AP__RANK_LIMITS:
        function(ap__soft_limit_lock());
        break;
    case AP__RANK_TRANSFER_CACHE:
        for (unsigned shard = 0; shard < ap__transfer_shards(); shard++) {
            for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
                function(ap__transfer_lock(shard, c));
            }
        }
        break;
    case AP__RANK_PACK ... AP__RANK_PACK_LAST:
        function(&ap__pack_pools[(unsigned)rank - AP__RANK_PACK].lock);
        break;
    case AP__RANK_CENTRAL ... AP__RANK_CENTRAL_LAST:
        for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
            unsigned shard = (unsigned)rank - AP__RANK_CENTRAL;
            if (shard < ap__central_shards(c)) {
                function(ap__central_lock(shard, c));
            }
        }
        break;
    case AP__RANK_PAGE_HEAP:
        function(ap__page_heap_lock());
        break;
    case AP__RANK_META:
        function(ap__meta_lock());
        break;
    case AP__RANK_COUNT:
        break;
    }
}

static void for_each_lock(lock_function *function)
{
    for (int rank = 0; rank < AP__RANK_COUNT; rank++) {
        for_each_lock_of_rank((enum ap__lock_rank)rank, function);
    }
}

/* What the first use of the library in the fork window has made is not ours. */
static void release_mine(struct ap__lock *lock)
{
    if (ap__lock_is_mine(lock)) {
        ap__lock_release(lock);
    }
}

static void take_streams(void)
{
    took_streams = _IO_list_lock != NULL && _IO_list_unlock != NULL && _IO_list_resetlock != NULL;
    if (took_streams) {
        _IO_list_lock();
    }
}

static void release_streams(void)
{
    if (took_streams) {
        took_streams = false;
        _IO_list_unlock();
    }
}

/* libc has made the lock anew, if it knew of other threads: nothing is left to release, for an outer fork either. */
static void forget_streams_in_child(void)
{
    if (took_streams) {
        took_streams = false;
        _IO_list_resetlock();
    }
}

static void before_fork(void)
{
    if (forks_under_way++ != 0) {
        return;
    }
    ap__fork_gate_close(&registrations, 0);
    ap__stack_trace_before_fork(); /* both first: who is waited for may need our locks */
    took_locks = !ap__lock_is_at_work();
    if (took_locks) {
        take_streams();
    }
    ap__lock_fork_window_open();
    if (took_locks) {
        for_each_lock(ap__lock_take);
    }
}

static void after_fork_in_parent(void)
{
    if (forks_under_way == 1) {
        if (took_locks) {
            for_each_lock(release_mine);
        }
        ap__lock_fork_window_close();
        release_streams();
        ap__stack_trace_after_fork_in_parent();
        ap__fork_gate_open(&registrations);
    }
    forks_under_way--;
}

static void after_fork_in_child(void)
{
    bool is_nested = --forks_under_way != 0;
    ap__fork_gate_reset_in_child(&registrations, 0, is_nested);
    for_each_lock(ap__lock_reset_in_child);
    if (took_locks && !is_nested) {
        ap__lock_none_held_in_child();
    }
    if (!is_nested) {
        ap__lock_fork_window_close();
    }
    forget_streams_in_child();
    ap__stack_trace_after_fork_in_child(is_nested);
    ap__large_table_after_fork_in_child();
    ap__thread_after_fork_in_child();
    ap__decay_after_fork_in_child();
    ap__helper_after_fork_in_child();
}

void ap__fork_set_init_lock(struct ap__lock *lock)
{
    init_lock = lock;
}

void ap__fork_watch(void)
{
    /* acq_rel: one thread registers; it comes by here again when libc's function is ours. */
    if (!atomic_exchange_explicit(&is_watching, true, memory_order_acq_rel) &&
        pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) != 0) {
        atomic_store_explicit(&is_watching, false,
                              memory_order_release); /* no memory: another time */
    }
}
