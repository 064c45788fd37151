/* SPDX-License-Identifier: MIT */
/*
 * aligned.c: aligned_alloc, posix_memalign, memalign, valloc, pvalloc.
 *
 * Spans start at granules, so blocks of a class whose size is a multiple of the alignment are aligned;
 * alignments without such a class are the page heap's.
 */
#include <errno.h>

#include "api/fast_path.h"
#include "api/malloc.h"
#include "base/bits.h"
#include "large/large.h"
#include "os/os.h"
#include "pack/pack.h"

/* A packed block among those of the class; or none at all, an address inside of one that was freed: it is reported. */
static AP_NOINLINE void give_misaligned(unsigned size_class, void *p)
{
    ap__pack_give_kept(size_class, &p, 1, "aligned_alloc");
}

void *ap__aligned(size_t alignment, size_t size)
{
    if (size > AP__LARGE_SIZE_MAX) {
        return NULL;
    }
    unsigned size_class = ap__class_for_aligned(alignment, size);
    if (size_class != 0) {
        void *p = ap__take_in_sight(size_class);
        if (AP_UNLIKELY(((uintptr_t)p & (alignment - 1)) != 0)) {
            give_misaligned(size_class, p);
            p = NULL;
        }
        return AP_LIKELY(p != NULL) ? p : ap__take_quiet(alignment, size, size_class);
    }
    return ap__take_large(alignment, ap__max(size, 1), false);
}

static void *aligned_or_no_memory(size_t alignment, size_t size)
{
    void *p = ap__aligned(alignment, size);
    return AP_LIKELY(p != NULL) ? p : ap__no_memory();
}

static void *invalid(void)
{
    errno = EINVAL;
    return NULL;
}

void *ap__aligned_alloc(size_t alignment, size_t size)
{
    return ap__is_power_of_two(alignment) ? aligned_or_no_memory(alignment, size) : invalid();
}

int ap__posix_memalign(void **result, size_t alignment, size_t size)
{
    if (!ap__is_power_of_two(alignment) || alignment % sizeof(void *) != 0) {
        return EINVAL;
    }
    void *p = aligned_or_no_memory(alignment, size);
    if (p == NULL) {
        return ENOMEM;
    }
    *result = p;
    return 0;
}

void *ap__memalign(size_t alignment, size_t size)
{
    if (alignment > SIZE_MAX / 2 + 1) {
        return invalid();
    }
    return aligned_or_no_memory(ap__power_of_two_ceiling(alignment), size);
}

void *ap__valloc(size_t size)
{
    return aligned_or_no_memory(ap__os_page_size(), size);
}

void *ap__pvalloc(size_t size)
{
    size_t page = ap__os_page_size();
    if (size > SIZE_MAX - page) {
        return ap__no_memory();
    }
    return aligned_or_no_memory(page, ap__align_up(ap__max(size, 1), page));
}
