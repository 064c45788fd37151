/* SPDX-License-Identifier: MIT */
/*
 * lock.h: the one kind of lock, and the one order in which locks are taken.
 *
 * Does: a pthread mutex with a rank and an owner. Does not: allocate, or need initialisation at
 * run time (AP_LOCK_INIT is static, so it works before constructors).
 * The order is the enum below, lowest first; a thread takes a lock only while every lock it
 * holds has a lower rank. Debug builds stop when a rank does not rise. life/fork.c walks this
 * same enum.
 *
 * The owner makes two things possible: the thread that forks can go on allocating while it holds
 * every lock (libc runs other libraries' fork handlers then), and a fork from a signal handler that
 * interrupted the allocator finds out that it holds a lock already instead of waiting for itself.
 *
 * Idea of ranks: jemalloc's witness.h and section 6 of illumos' umem.c.
 */
#ifndef AP_OS_LOCK_H
#define AP_OS_LOCK_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/compiler.h"
#include "os/check.h"

enum ap__lock_rank {
    AP__RANK_INIT,           /* first use of the library, once */
    AP__RANK_THREADS,        /* registry of thread caches */
    AP__RANK_PRESSURE,       /* the program's pressure function */
    AP__RANK_LIMITS,         /* what is read of the control group */
    AP__RANK_QUARANTINE,     /* freed memory that waits, with `hardened` */
    AP__RANK_SAMPLED,        /* the pool of guarded blocks */
    AP__RANK_TRANSFER_CACHE, /* one per class and shard; never two at once, but in fork */
    AP__RANK_PACK,           /* packed spans; a rank for each pool */
    AP__RANK_PACK_LAST = AP__RANK_PACK + 7,
    AP__RANK_CENTRAL, /* one per class and shard: a rank for each shard; of one class at a time, but in fork */
    AP__RANK_CENTRAL_LAST = AP__RANK_CENTRAL + 7,
    AP__RANK_PAGE_HEAP, /* the page heap and its records */
    AP__RANK_META,      /* leaf: memory for the allocator's own records */
    AP__RANK_COUNT
};

struct ap__lock {
    pthread_mutex_t mutex;
    /* Address of a thread-local of the owner, 0 when free. Written by the owner; read by any. */
    _Atomic(uintptr_t) owner;
    /* Statistics: written by the owner; read by any, maybe late. */
    _Atomic(uint64_t) taken;
    _Atomic(uint32_t) contended; /* of these, how often another thread was seen to have it */
    /* How often the owner took it beyond the first time; only in the fork window. Owner only. */
    uint16_t recursion;
    uint8_t rank; /* enum ap__lock_rank, constant; debug builds only */
};

/* Release builds look at no rank: all zero, so that arrays of locks cost no page until they are used. */
#define AP_LOCK_INIT(rank_)                                                                        \
    {                                                                                              \
        .mutex = PTHREAD_MUTEX_INITIALIZER, .owner = 0, .taken = 0, .contended = 0,                \
        .recursion = 0, .rank = AP_DEBUG ? (rank_) : 0                                             \
    }

void ap__lock_init(struct ap__lock *lock, enum ap__lock_rank rank);
void ap__lock_take(struct ap__lock *lock);
void ap__lock_release(struct ap__lock *lock);

/* Takes a second one of an array whose ranks rise: the lower first, so `held` may be free in between. */
void ap__lock_take_second(struct ap__lock *held, struct ap__lock *second);

struct ap__lock_stats {
    uint64_t taken, contended;
};

/* Adds one lock's figures. Any thread; late, never wild. */
void ap__lock_add_stats(const struct ap__lock *lock, struct ap__lock_stats *sums);

/* This thread, as locks know it: an address that is no other living thread's, the same in a forked child. */
uintptr_t ap__lock_self(void);

/* Whether this thread holds the lock. */
bool ap__lock_is_mine(const struct ap__lock *lock);

/* Whether this thread holds a lock, waits for one or is releasing one: in a signal handler, that it has
 * interrupted the allocator. */
bool ap__lock_is_at_work(void);

/* In a forked child, by its only thread: the lock is free again, whoever held it in the parent. */
void ap__lock_reset_in_child(struct ap__lock *lock);

/* In a forked child whose thread had taken the locks for the fork alone: it holds none any more. */
void ap__lock_none_held_in_child(void);

/* Between these two, this thread may take locks it holds already, in any order. */
void ap__lock_fork_window_open(void);
void ap__lock_fork_window_close(void);

#endif
