/* SPDX-License-Identifier: MIT */
/*
 * in_force.c: bound by the dynamic linker, out of sight of the functions that look at it.
 */
#include "api/in_force.h"

ap__realloc_fn *const ap__realloc_in_force = realloc;
ap__reallocarray_fn *const ap__reallocarray_in_force = reallocarray;
