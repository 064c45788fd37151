/* SPDX-License-Identifier: MIT */
/*
 * heap_limits.h: how large the heap may be, and how near it is.
 *
 * Does: keeps two bounds and one word that says how the heap stands to them. The hard one refuses spans
 * beyond it. The soft one refuses nothing: above it unused memory is given back at once, thread
 * caches get little room, and the program is told. Does not: count; the page heap does.
 * Callers of pressure(): any thread, no lock.
 */
#ifndef AP_HEAP_HEAP_LIMITS_H
#define AP_HEAP_HEAP_LIMITS_H

#include "base/compiler.h"

enum ap__pressure {
    AP__PRESSURE_NONE,
    AP__PRESSURE_UNUSED, /* above the soft limit because of memory that nobody uses */
    AP__PRESSURE_USED    /* spans in use alone are above it */
};

/* Bounds in bytes, SIZE_MAX for none. Any time; takes effect with the next span taken or given. */
void ap__heap_limits_set_hard(size_t bytes);
void ap__heap_limits_set_soft(size_t bytes);
size_t ap__heap_limits_hard(void);
size_t ap__heap_limits_soft(void);

/* Page heap only, under its lock: what is in use, and what is resident perhaps, in bytes. */
void ap__heap_limits_note(size_t used_bytes, size_t dirty_bytes);

/* Bytes in spans in use, as they were when the last span was taken or given under pressure. */
size_t ap__heap_limits_used(void);

/* How it stood when the last span was taken or given. */
enum ap__pressure ap__heap_limits_pressure(void);

#endif
