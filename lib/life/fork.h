/* SPDX-License-Identifier: MIT */
/*
 * fork.h: fork() from a process with many threads leaves both sides usable.
 */
#ifndef AP_LIFE_FORK_H
#define AP_LIFE_FORK_H

struct ap__lock;

/* Registers the fork handlers, at its first call. Any time, any thread. */
void ap__fork_watch(void);

/* The one lock that this file cannot name; once. */
void ap__fork_set_init_lock(struct ap__lock *lock);

#endif
