/* SPDX-License-Identifier: MIT */
/*
 * anchor.c: compiled into programs that use the library, so that they refer to it.
 *
 * A linker told --as-needed drops a library none of whose names it has seen used; whether malloc()
 * counts depends on the order of libraries. This reference does not.
 */
#include "apmalloc.h"

extern const char *(*const ap_anchor)(void);
__attribute__((used, visibility("hidden"))) const char *(*const ap_anchor)(void) = ap_version;
