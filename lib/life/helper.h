/* SPDX-License-Identifier: MIT */
/*
 * helper.h: the thread that gives memory back while the program does something else, or nothing.
 *
 * Does: starts when a process has threads of its own, so that a program of one thread stays one;
 * sleeps without a timeout when nothing is left to do; ends with the threads it works for. Does not:
 * allocate, hold a lock while it sleeps, or take signals.
 * Where it is refused (by limits, by a sandbox) or not wanted (`helper:false`), memory goes back on the
 * program's own slow paths.
 */
#ifndef AP_LIFE_HELPER_H
#define AP_LIFE_HELPER_H

#include "base/compiler.h"

/* Whether the options want one: they are not to do without, and something goes back by time. */
bool ap__helper_is_wanted(void);

/* Whether helpers may start from now on. Called by the constructor, when libc is ready for threads. */
void ap__helper_allow(bool allowed);

/* On slow paths, holding no lock: starts the helper if it is time to. */
void ap__helper_consider(void);

/* A forked child has no helper; one starts when the child has two threads that allocate. */
void ap__helper_after_fork_in_child(void);

#endif
