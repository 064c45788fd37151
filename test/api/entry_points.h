/* SPDX-License-Identifier: MIT */
/*
 * entry_points.h: both sets of names, libc's and ap_, as tables of functions.
 *
 * A contract is tested over both by one loop. The calls go through pointers in another
 * translation unit, so no compiler replaces, merges or removes them.
 */
#ifndef TEST_API_ENTRY_POINTS_H
#define TEST_API_ENTRY_POINTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "apmalloc.h"

struct entry_points {
    const char *set; /* "libc" or "ap" */
    void *(*malloc)(size_t size);
    void *(*calloc)(size_t count, size_t size);
    void *(*realloc)(void *p, size_t size);
    void *(*reallocarray)(void *p, size_t count, size_t size);
    void (*free)(void *p);
    void (*cfree)(void *p);
    void (*free_sized)(void *p, size_t size);
    void (*free_aligned_sized)(void *p, size_t alignment, size_t size);
    void *(*aligned_alloc)(size_t alignment, size_t size);
    int (*posix_memalign)(void **result, size_t alignment, size_t size);
    void *(*memalign)(size_t alignment, size_t size);
    void *(*valloc)(size_t size);
    void *(*pvalloc)(size_t size);
    size_t (*usable_size)(void *p);
    int (*malloc_trim)(size_t pad);
    int (*mallopt)(int parameter, int value);
    struct ap_mallinfo (*mallinfo)(void);
    struct ap_mallinfo2 (*mallinfo2)(void);
    int (*malloc_info)(int options, FILE *stream);
    void (*malloc_stats)(void);
};

enum { ENTRY_POINT_SETS = 2 };
extern const struct entry_points entry_points[ENTRY_POINT_SETS];

#define FOR_EACH_SET(e)                                                                            \
    for (const struct entry_points *e = entry_points; e < entry_points + ENTRY_POINT_SETS; e++)

/* Every function that returns a new block, as one of (size); alignment is 64 where there is one. */
enum { ALLOCATORS = 10 };
const char *allocator_name(unsigned which);
void *allocate(const struct entry_points *e, unsigned which, size_t size);

/* No error has this number. */
enum { STALE_ERRNO = 1789 };

/* A pointer of which the compiler knows nothing. */
static inline void *opaque(const void *p)
{
    __asm__ volatile("" : "+r"(p) : : "memory");
    return (void *)(uintptr_t)p;
}

/* A pattern that depends on the place and on `seed`; and whether it is still there. */
void fill(void *p, size_t size, unsigned seed);
bool is_filled(const void *p, size_t size, unsigned seed);
bool is_zero(const void *p, size_t size);

/* Path of a helper program or library in the folder of the test program; valid until the
 * next call. */
const char *beside_test(const char *name);

#endif
