/* SPDX-License-Identifier: MIT */
/*
 * init.h: start-up order, and how a slow path gets at its thread's cache.
 *
 * Does: initialises the layers once, on the first call that needs them, which may come from the dynamic
 * loader, before libc is set up. That step allocates nothing through libc, registers nothing and takes
 * no lock of libc's. The constructor does what needs libc: the environment, the thread-exit key,
 * the fork handlers.
 */
#ifndef AP_LIFE_INIT_H
#define AP_LIFE_INIT_H

#include "cache/thread.h"

/*
 * For slow paths: the library is initialised when this returns. This thread's cache, or NULL if it
 * has to do without one (see ap__thread_enter()).
 */
struct ap__thread_cache *ap__life_enter(void);

/* The same for a thread that frees; see ap__thread_enter_to_free(). */
struct ap__thread_cache *ap__life_enter_to_free(void);

/* Initialises if need be, without giving the thread a cache. */
void ap__life_init(void);

#endif
