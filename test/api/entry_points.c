/* SPDX-License-Identifier: MIT */
/*
 * entry_points.c: the two tables, and small helpers of the contract tests.
 */
#include "entry_points.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Not in the headers of a libc that does not have them. */
extern void cfree(void *p);
extern void free_sized(void *p, size_t size);
extern void free_aligned_sized(void *p, size_t alignment, size_t size);

static struct ap_mallinfo2 libc_mallinfo2(void)
{
    struct mallinfo2 i = mallinfo2();
    return (struct ap_mallinfo2){i.arena,   i.ordblks, i.smblks,   i.hblks,    i.hblkhd,
                                 i.usmblks, i.fsmblks, i.uordblks, i.fordblks, i.keepcost};
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static struct ap_mallinfo libc_mallinfo(void)
{
    struct mallinfo i = mallinfo();
    return (struct ap_mallinfo){i.arena,   i.ordblks, i.smblks,   i.hblks,    i.hblkhd,
                                i.usmblks, i.fsmblks, i.uordblks, i.fordblks, i.keepcost};
}

const struct entry_points entry_points[ENTRY_POINT_SETS] = {
    {
        .set = "libc",
        .malloc = malloc,
        .calloc = calloc,
        .realloc = realloc,
        .reallocarray = reallocarray,
        .free = free,
        .cfree = cfree,
        .free_sized = free_sized,
        .free_aligned_sized = free_aligned_sized,
        .aligned_alloc = aligned_alloc,
        .posix_memalign = posix_memalign,
        .memalign = memalign,
        .valloc = valloc,
        .pvalloc = pvalloc,
        .usable_size = malloc_usable_size,
        .malloc_trim = malloc_trim,
        .mallopt = mallopt,
        .mallinfo = libc_mallinfo,
        .mallinfo2 = libc_mallinfo2,
        .malloc_info = malloc_info,
        .malloc_stats = malloc_stats,
    },
    {
        .set = "ap",
        .malloc = ap_malloc,
        .calloc = ap_calloc,
        .realloc = ap_realloc,
        .reallocarray = ap_reallocarray,
        .free = ap_free,
        .cfree = ap_cfree,
        .free_sized = ap_free_sized,
        .free_aligned_sized = ap_free_aligned_sized,
        .aligned_alloc = ap_aligned_alloc,
        .posix_memalign = ap_posix_memalign,
        .memalign = ap_memalign,
        .valloc = ap_valloc,
        .pvalloc = ap_pvalloc,
        .usable_size = ap_usable_size,
        .malloc_trim = ap_malloc_trim,
        .mallopt = ap_mallopt,
        .mallinfo = ap_mallinfo,
        .mallinfo2 = ap_mallinfo2,
        .malloc_info = ap_malloc_info,
        .malloc_stats = ap_malloc_stats,
    },
};
#pragma GCC diagnostic pop

static const char *const allocator_names[ALLOCATORS] = {
    "malloc",         "calloc",   "realloc", "reallocarray", "aligned_alloc",
    "posix_memalign", "memalign", "valloc",  "pvalloc",      "malloc after realloc(p, 0)",
};

const char *allocator_name(unsigned which)
{
    return allocator_names[which];
}

void *allocate(const struct entry_points *e, unsigned which, size_t size)
{
    enum { ALIGNMENT = 64 };
    void *p = NULL;
    switch (which) {
    case 0:
        return e->malloc(size);
    case 1:
        return e->calloc(1, size);
    case 2:
        return e->realloc(NULL, size);
    case 3:
        return e->reallocarray(NULL, 1, size);
    case 4:
        return e->aligned_alloc(ALIGNMENT, size);
    case 5:
        return e->posix_memalign(&p, ALIGNMENT, size) == 0 ? p : NULL;
    case 6:
        return e->memalign(ALIGNMENT, size);
    case 7:
        return e->valloc(size);
    case 8:
        return e->pvalloc(size);
    default:
        return e->realloc(e->malloc(1), 0) == NULL ? e->malloc(size) : NULL;
    }
}

/* Eight bytes of the pattern at word `index`. */
static uint64_t pattern(size_t index, unsigned seed)
{
    uint64_t x = (index + 1) * UINT64_C(0x9E3779B97F4A7C15) ^ (uint64_t)seed << 32;
    return x ^ x >> 29;
}

void fill(void *p, size_t size, unsigned seed)
{
    char *to = p;
    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t word = pattern(at / sizeof word, seed);
        memcpy(to + at, &word, size - at < sizeof word ? size - at : sizeof word);
    }
}

bool is_filled(const void *p, size_t size, unsigned seed)
{
    const char *from = p;
    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t word = pattern(at / sizeof word, seed);
        if (memcmp(from + at, &word, size - at < sizeof word ? size - at : sizeof word) != 0) {
            return false;
        }
    }
    return true;
}

bool is_zero(const void *p, size_t size)
{
    const char *bytes = p;
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

const char *beside_test(const char *name)
{
    static char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length < 0) {
        abort();
    }
    path[length] = '\0';
    char *slash = strrchr(path, '/');
    (void)snprintf(slash + 1, sizeof path - (size_t)(slash + 1 - path), "%s", name);
    return path;
}
