/* SPDX-License-Identifier: MIT */
/*
 * thread.h: which thread has which cache: the thread-local pointer, first use, exit, reuse.
 *
 * Does: keeps the registry of all caches; creates one when a thread first needs it, empties it when
 * the thread ends and hands the record to a later thread. Does not: initialise the library.
 * The thread-local pointer is never NULL: before the first use and after the thread's exit it points at
 * one static cache that is empty and full in every list, so the hit paths work on it and go to their
 * slow paths.
 */
#ifndef AP_CACHE_THREAD_H
#define AP_CACHE_THREAD_H

#include "cache/thread_cache.h"

struct ap__lock;

extern AP_HIDDEN AP_TLS struct ap__thread_cache *ap__thread_cache_current;

/* From now on the exit of threads is noticed. `false`: no key to be had; try again later. */
bool ap__thread_watch_exits(void);

/*
 * From now on the hit paths find all lists empty and full, so that every call takes a slow path. Called
 * while the process has one thread.
 */
void ap__thread_hide_caches(void);

/*
 * This thread's cache; made if this is its first use. NULL: the thread is past its destructors or
 * there is no memory for a cache; it then does without. The library must be initialised.
 */
struct ap__thread_cache *ap__thread_enter(void);

/*
 * The same for a thread that frees. NULL also for the first blocks freed by a thread that has no cache: many
 * threads free what they were given and allocate nothing, and the others shall not begin with
 * blocks that lie beside those of the giver.
 */
struct ap__thread_cache *ap__thread_enter_to_free(void);

/* This thread is the library's own: its cache, if it gets one, does not count. */
void ap__thread_be_uncounted(void);

/* Gives this thread's cache back, if it has one; it may get another later. */
void ap__thread_leave(void);

/*
 * This thread is about to end the process, and a handler of the program's may still run on it: if its cache is in the
 * middle of its work, it goes on without one.
 */
void ap__thread_drop_unfinished_cache(void);

/* This thread's cache if there is one already, else NULL. */
struct ap__thread_cache *ap__thread_cache_or_null(void);

/* Threads that have a cache. Any thread; exact for the thread that leaves last. */
unsigned ap__thread_count(void);

/* What the last thread with a cache calls when it has given it back. Once, before threads end. */
void ap__thread_on_last_exit(void (*function)(void));

/* All caches, also those that no thread uses; follow `next`. Any thread, no lock. */
struct ap__thread_cache *ap__thread_caches(void);

/* In a forked child: the caches of threads that exist no more are forgotten, with their blocks. */
void ap__thread_after_fork_in_child(void);

struct ap__lock *ap__thread_lock(void); /* for fork only */

#endif
