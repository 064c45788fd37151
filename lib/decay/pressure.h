/* SPDX-License-Identifier: MIT */
/*
 * pressure.h: tells the program that its memory runs short.
 *
 * Does: calls the program's function once when the heap has grown above its soft limit, and again only
 * after it has been below. Does not: free anything; what the program can spare it knows best.
 */
#ifndef AP_DECAY_PRESSURE_H
#define AP_DECAY_PRESSURE_H

#include "base/compiler.h"

struct ap__lock;

typedef void ap__pressure_callback(void *context, size_t used_bytes, size_t limit_bytes);

/* NULL: nobody is told. Any thread. */
void ap__pressure_set_callback(ap__pressure_callback *callback, void *context);

/* By the thread that does a step, holding no lock: the function may allocate and free. */
void ap__pressure_tell(void);

/* For fork only. */
struct ap__lock *ap__pressure_lock(void);

#endif
