/* SPDX-License-Identifier: MIT */
/*
 * fork.h: fork() from a process with many threads leaves both sides usable.
 */
#ifndef AP_LIFE_FORK_H
#define AP_LIFE_FORK_H

struct ap__lock;

/* Registers the fork handlers, at its first call. Any time, any thread. */
void ap__fork_watch(void);

/*
 * Around the registration of somebody's handlers: not while another thread is at a fork, which waits for those that
 * have begun. libc holds the lock of its list meanwhile, and allocates when the list grows; the thread that forks
 * needs that lock again when it has ours.
 */
void ap__fork_registration_begin(void);
void ap__fork_registration_end(void);

/* The one lock that this file cannot name; once. */
void ap__fork_set_init_lock(struct ap__lock *lock);

#endif
