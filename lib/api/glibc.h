/* SPDX-License-Identifier: MIT */
/*
 * glibc.h: the functions glibc adds to malloc, and this library's own, behind their names.
 */
#ifndef AP_API_GLIBC_H
#define AP_API_GLIBC_H

#include <stdio.h>

#include "apmalloc.h"
#include "base/compiler.h"

/* Empties this thread's cache. */
void ap__thread_idle(void);

/* Gives back to the kernel what can be given back; the bytes. */
size_t ap__trim(void);

int ap__mallopt(int parameter, int value);
struct ap_mallinfo2 ap__mallinfo2(void);
struct ap_mallinfo ap__mallinfo(void);
int ap__malloc_info(int options, FILE *stream);
void ap__malloc_stats(void);

#endif
