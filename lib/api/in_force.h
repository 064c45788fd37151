/* SPDX-License-Identifier: MIT */
/*
 * in_force.h: the functions that the names of libc stand for in this process.
 *
 * The names are ours to define and others' to take: a program, or a library before this one, may bring a malloc of its
 * own. Then every call by a name that it defines is its, also libc's calls, and what it does not define is ours.
 *
 * In a file of its own: where the compiler sees our definitions, it takes the names for these.
 */
#ifndef AP_API_IN_FORCE_H
#define AP_API_IN_FORCE_H

#include <stdlib.h>

#include "base/compiler.h"

typedef __typeof__(realloc) ap__realloc_fn;
typedef __typeof__(reallocarray) ap__reallocarray_fn;

/* As the dynamic linker binds them; constant from then on. NULL before that. */
extern AP_HIDDEN ap__realloc_fn *const ap__realloc_in_force;
extern AP_HIDDEN ap__reallocarray_fn *const ap__reallocarray_in_force;

#endif
