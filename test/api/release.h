/* SPDX-License-Identifier: MIT */
/*
 * release.h: every way to give a block back, and four sizes that take every way through the heap.
 *
 * For tests over all allocating functions (entry_points.h) times all releasing ones.
 */
#ifndef TEST_API_RELEASE_H
#define TEST_API_RELEASE_H

#include <string.h>

#include "entry_points.h"

/* The smallest class, a page, the largest class, a large object of many chunks. */
static const size_t four_sizes[] = {16, (size_t)4 << 10, (size_t)256 << 10, (size_t)64 << 20};
enum { FOUR_SIZES = sizeof four_sizes / sizeof four_sizes[0] };

static const char *const release_names[] = {
    "free",
    "cfree",
    "realloc(p, 0)",
    "reallocarray(p, 0, n)",
    "reallocarray(p, n, 0)",
    "free_sized",
    "free_aligned_sized",
};
enum { RELEASES = sizeof release_names / sizeof release_names[0] };
enum { RELEASE_SIZED = 5, RELEASE_ALIGNED_SIZED = 6 };

/* C23 allows each of the sized forms for blocks of some functions only; all others take any block. */
static inline bool release_fits(unsigned how, unsigned allocator)
{
    const char *name = allocator_name(allocator);
    bool aligned = strstr(name, "align") != NULL;
    bool whole_pages = strstr(name, "valloc") != NULL;
    return how == RELEASE_SIZED           ? !aligned && !whole_pages
           : how == RELEASE_ALIGNED_SIZED ? aligned
                                          : true;
}

/* `size` is what the block was asked for with. */
static inline void release(const struct entry_points *e, unsigned how, void *p, size_t size)
{
    switch (how) {
    case 0:
        e->free(p);
        break;
    case 1:
        e->cfree(p);
        break;
    case 2:
        (void)e->realloc(p, 0);
        break;
    case 3:
        (void)e->reallocarray(p, 0, size);
        break;
    case 4:
        (void)e->reallocarray(p, size, 0);
        break;
    case RELEASE_SIZED:
        e->free_sized(p, size);
        break;
    default:
        e->free_aligned_sized(p, 64, size); /* the alignment of allocate() */
        break;
    }
}

/* 64 marks evenly over a block and one at its end: as good as a pattern, where blocks are huge. */
static inline void mark(void *p, size_t size, unsigned seed)
{
    unsigned char *bytes = p;
    size_t step = size / 64 + 1;
    for (size_t at = 0; at < size; at += step) {
        bytes[at] = (unsigned char)(at / step + seed);
    }
    bytes[size - 1] = (unsigned char)seed;
}

/* The first `kept` bytes of a block marked when it had `size`. */
static inline bool is_marked(const void *p, size_t kept, size_t size, unsigned seed)
{
    const unsigned char *bytes = p;
    size_t step = size / 64 + 1;
    for (size_t at = 0; at < kept; at += step) {
        if (at != size - 1 && bytes[at] != (unsigned char)(at / step + seed)) {
            return false;
        }
    }
    return kept < size || bytes[size - 1] == (unsigned char)seed;
}

#endif
