/* SPDX-License-Identifier: MIT */
/*
 * soft_limit.h: where the soft limit of the heap comes from: the option, and the control group.
 *
 * Does: nine tenths of what the group still has room for, or the option if that is less. Does not: read
 * files at any time but when it is told to: a program may have forbidden itself to open files since it
 * started, on pain of death. So the constructor reads them, ap_update_limits(), and the helper as often as
 * option cgroup_check_ms says, if it does.
 * Callers: any thread, holding no lock.
 */
#ifndef AP_LIFE_SOFT_LIMIT_H
#define AP_LIFE_SOFT_LIMIT_H

/* Sets the limit of the option. Once, before the heap is used. */
void ap__soft_limit_init(void);

/* Sets the limit from the option and the control group as they are now. */
void ap__soft_limit_update(void);

#endif
