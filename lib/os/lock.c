/* SPDX-License-Identifier: MIT */
/*
 * lock.c: pthread mutexes with rank and owner.
 *
 * The mutex is of the plain kind: unlocking it in a forked child is allowed though the child's
 * thread has another kernel id, and its uncontended cost is one compare-and-swap. The owner word is
 * stored after locking and cleared before unlocking, so a thread reads its own identity there
 * only while it holds the lock; what it reads of others is never acted upon.
 */
#include "os/lock.h"

#include "base/counter.h"
#include "os/check.h"
#include "os/yield.h"

#define FORK_WINDOW (1u << 31)
_Static_assert(AP__RANK_COUNT < 31, "a bit for each rank and one for the fork window");

/* Its address is this thread's identity, also in a forked child. Its value: FORK_WINDOW, and in debug
 * builds bit r while a lock of rank r is held. */
static AP_TLS unsigned thread_flags;

/* Locks this thread holds, waits for or is about to release. Volatile: read by its own signal handlers. */
static AP_TLS volatile unsigned at_work;

/* The lock this thread is between taking and owning, or between owning and releasing: only a signal
 * handler can find itself here. */
static AP_TLS struct ap__lock *volatile in_transition;

uintptr_t ap__lock_self(void)
{
    return (uintptr_t)&thread_flags;
}

static bool in_fork_window(void)
{
    return (thread_flags & FORK_WINDOW) != 0;
}

void ap__lock_init(struct ap__lock *lock, enum ap__lock_rank rank)
{
    static const pthread_mutex_t unlocked = PTHREAD_MUTEX_INITIALIZER;
    lock->mutex = unlocked;
    atomic_store_explicit(&lock->owner, 0, memory_order_relaxed);
    lock->recursion = 0;
    lock->rank = (uint8_t)rank;
}

bool ap__lock_is_mine(const struct ap__lock *lock)
{
    /* relaxed: equal only if this thread stored it; see the head comment. */
    return atomic_load_explicit(&lock->owner, memory_order_relaxed) == ap__lock_self();
}

/* The mutex orders the writers. */
static void count_taken(struct ap__lock *lock, bool contended)
{
    ap__counter_add(&lock->taken, 1);
    if (contended) {
        uint32_t before = atomic_load_explicit(&lock->contended, memory_order_relaxed);
        atomic_store_explicit(&lock->contended, before + 1, memory_order_relaxed);
    }
}

void ap__lock_add_stats(const struct ap__lock *lock, struct ap__lock_stats *sums)
{
    sums->taken += atomic_load_explicit(&lock->taken, memory_order_relaxed);
    sums->contended += atomic_load_explicit(&lock->contended, memory_order_relaxed);
}

void ap__lock_take(struct ap__lock *lock)
{
    if (AP_UNLIKELY(ap__lock_is_mine(lock))) {
        if (!in_fork_window()) {
            ap__reentered();
        }
        lock->recursion++;
        return;
    }
    AP_ASSERT(in_fork_window() || thread_flags < (1u << lock->rank));
    AP__YIELD_POINT();
    at_work++;
    struct ap__lock *interrupted = in_transition;
    if (AP_UNLIKELY(interrupted == lock)) {
        ap__reentered();
    }
    in_transition = lock;
    /* relaxed: only a figure. Not pthread_mutex_trylock(), which would say it exactly: its jump table lies
     * on a page of libc that many programs do not touch otherwise, and with it come fifteen more. */
    bool contended = atomic_load_explicit(&lock->owner, memory_order_relaxed) != 0;
    pthread_mutex_lock(&lock->mutex);
    count_taken(lock, contended);
    /* relaxed: for this thread's own eyes. */
    atomic_store_explicit(&lock->owner, ap__lock_self(), memory_order_relaxed);
    in_transition = interrupted;
    if (AP_DEBUG) {
        thread_flags |= 1u << lock->rank;
    }
}

void ap__lock_release(struct ap__lock *lock)
{
    if (AP_UNLIKELY(lock->recursion != 0)) {
        lock->recursion--;
        return;
    }
    if (AP_DEBUG) {
        thread_flags &= ~(1u << lock->rank);
    }
    struct ap__lock *interrupted = in_transition;
    in_transition = lock;
    atomic_store_explicit(&lock->owner, 0, memory_order_relaxed);
    pthread_mutex_unlock(&lock->mutex);
    in_transition = interrupted;
    at_work--;
    AP__YIELD_POINT();
}

void ap__lock_take_second(struct ap__lock *held, struct ap__lock *second)
{
    if (second < held) {
        ap__lock_release(held);
        AP__YIELD_POINT();
        ap__lock_take(second);
        ap__lock_take(held);
    } else {
        ap__lock_take(second);
    }
}

bool ap__lock_is_at_work(void)
{
    return at_work != 0;
}

void ap__lock_none_held_in_child(void)
{
    at_work = 0;
    in_transition = NULL;
}

void ap__lock_reset_in_child(struct ap__lock *lock)
{
    ap__lock_init(lock, (enum ap__lock_rank)lock->rank);
    thread_flags &= FORK_WINDOW;
}

void ap__lock_fork_window_open(void)
{
    thread_flags |= FORK_WINDOW;
}

void ap__lock_fork_window_close(void)
{
    thread_flags &= ~FORK_WINDOW;
}
