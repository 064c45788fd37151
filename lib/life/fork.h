/* SPDX-License-Identifier: MIT */
/*
 * fork.h: fork() from a process with many threads leaves both sides usable.
 */
#ifndef AP_LIFE_FORK_H
#define AP_LIFE_FORK_H

struct ap__lock;

/* Registers the fork handlers; once. `init_lock` is the one lock that this file cannot name. */
void ap__fork_watch(struct ap__lock *init_lock);

#endif
