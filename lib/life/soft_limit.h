/* SPDX-License-Identifier: MIT */
/*
 * soft_limit.h: where the soft limit of the heap comes from: the option, and the control group.
 *
 * Does: nine tenths of what the group still has room for, or the option if that is less. Does not: open
 * files at any time but when it is told to: a program may have forbidden itself to open files since it
 * started, on pain of death. So the constructor opens them, and ap_update_limits(). Where they have a limit, the files
 * of the group that is nearest to its own stay open, and the helper reads those again.
 * Callers: any thread, holding no lock.
 */
#ifndef AP_LIFE_SOFT_LIMIT_H
#define AP_LIFE_SOFT_LIMIT_H

#include "base/compiler.h"

struct ap__lock;

/* Sets the limit of the option. Once, before the heap is used. */
void ap__soft_limit_init(void);

/* Sets the limit from the option and the control group as they are now. Opens files. */
void ap__soft_limit_update(void);

/* The same from the files that are open, if it is time for that. By the helper. */
void ap__soft_limit_update_now_and_then(uint64_t now_ms);

/* For fork only. */
struct ap__lock *ap__soft_limit_lock(void);

#endif
