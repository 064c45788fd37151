/* SPDX-License-Identifier: MIT */
/*
 * size_class.h: size -> class -> block size, span length, batch.
 *
 * Does: answers from constant tables, which size_class_gen.c computes at build time. Does not: keep
 * state. Any caller, any time.
 *
 * Classes: 16-byte steps to 128 bytes, then 8 classes per doubling to 256 KiB; worst internal waste a ninth of
 * the block, so that a program's memory is not lost between sizes. Every second one of those is "fine": its sizes may
 * as well be served by the next, which wastes a fifth at worst; which of them are in use is for
 * cache/fine_classes.h to say. Class 0 is "not a small block".
 *
 * Invariants (tested over all sizes): the class of a size is the smallest that holds it; every block
 * size is a multiple of 16; slots * size fits into the span; the reciprocal is exact for every
 * offset inside a span.
 *
 * Source: the geometric spacing of jemalloc and tcmalloc; reciprocal division as in Granlund and
 * Montgomery, "Division by Invariant Integers using Multiplication", 1994.
 */
#ifndef AP_BASE_SIZE_CLASS_H
#define AP_BASE_SIZE_CLASS_H

#include "base/bits.h"
#include "base/compiler.h"

#define AP_MIN_ALIGNMENT ((size_t)16)
#define AP_PAGE_HEAP_GRANULE_SHIFT 16
#define AP_GRANULE ((size_t)1 << AP_PAGE_HEAP_GRANULE_SHIFT)

enum {
    AP_LINEAR_CLASSES = 8,    /* 16, 32, ... 128 */
    AP_LINEAR_SIZE_MAX = 128, /* bytes */
    AP_CLASSES_PER_DOUBLING = 8,
    AP_DOUBLINGS = 11, /* 128 bytes to 256 KiB */
    AP_CLASS_COUNT = 1 + AP_LINEAR_CLASSES + AP_CLASSES_PER_DOUBLING * AP_DOUBLINGS,
    AP_SMALL_SIZE_MAX = AP_LINEAR_SIZE_MAX << AP_DOUBLINGS, /* bytes: the largest class */

    AP_BATCH_MAX = 64,   /* blocks that travel together at most */
    AP_SLOTS_MAX = 4096, /* blocks in a span at most: 64 KiB of 16 bytes */
    AP_RECIPROCAL_SHIFT = 44
};
/* What lies in caches on both sides and in between is a few batches a class: 64 KiB brought no more speed and two to
 * four times the memory to producers and consumers. */
#define AP_BATCH_BYTES_MAX ((size_t)8 << 10)
_Static_assert(AP_SMALL_SIZE_MAX == 256 << 10, "eleven doublings of 128 bytes");

struct ap__size_class {
    uint64_t reciprocal;   /* ceil(2^AP_RECIPROCAL_SHIFT / size) */
    uint32_t size;         /* bytes of a block */
    uint16_t slots;        /* blocks in a span */
    uint8_t span_granules; /* length of a span */
    uint8_t batch;         /* blocks that travel together */
};

extern AP_HIDDEN const struct ap__size_class ap__size_class[AP_CLASS_COUNT];

/* Whether the next class has twice the distance to the one before it, and holds this one's sizes too. */
static inline bool ap__class_is_fine(unsigned size_class)
{
    return size_class > AP_LINEAR_CLASSES && (size_class - AP_LINEAR_CLASSES) % 2 != 0;
}

/* A class that holds the sizes of this one, at every alignment that it has, and few larger ones; 0: there is none. */
static inline unsigned ap__class_above_fine(unsigned size_class)
{
    return ap__class_is_fine(size_class) ? size_class + 1 : 0;
}

/* The class of a size of 0 to AP_SMALL_SIZE_MAX bytes, by arithmetic: the smallest that holds it. 0 bytes is
 * the first class. */
static inline unsigned ap__class_of_size(size_t size)
{
    if (size <= AP_LINEAR_SIZE_MAX) {
        return size == 0 ? 1 : (unsigned)((size + AP_MIN_ALIGNMENT - 1) / AP_MIN_ALIGNMENT);
    }
    /* size - 1 lies in [2^h, 2^(h+1)): its three bits below the highest pick the class. */
    unsigned high = ap__highest_bit(size - 1);
    unsigned doubling = high - 7;
    unsigned step = (unsigned)((size - 1) >> (high - 3)) & 7u;
    return 1 + AP_LINEAR_CLASSES + doubling * AP_CLASSES_PER_DOUBLING + step;
}

/* Which block of its span an offset in bytes lies in. Exact for offsets inside a span. */
static inline unsigned ap__slot_of_offset(const struct ap__size_class *info, size_t offset)
{
    return (unsigned)((offset * info->reciprocal) >> AP_RECIPROCAL_SHIFT);
}

/* Whether a block of the class starts at an offset in bytes inside a span; *slot: which one, if so. */
static inline bool ap__slot_starts_at(const struct ap__size_class *info, size_t offset,
                                      unsigned *slot)
{
    *slot = ap__slot_of_offset(info, offset);
    return *slot < info->slots && *slot * (size_t)info->size == offset;
}

/*
 * The size to ask for so that blocks of the class that serves it are aligned to `alignment` (a power of two) and hold
 * `size` bytes; SIZE_MAX if there is no such class. Spans start at granules, so a block is aligned if its size is a
 * multiple. And it is: within a doubling, classes are multiples of one power of two, those that are not fine of
 * twice that. Where that is at least the alignment any class will do; where it is less, a multiple of the alignment
 * is a class itself, and not a fine one unless its own step is a multiple.
 */
static inline size_t ap__size_for_aligned(size_t alignment, size_t size)
{
    if (alignment > AP_GRANULE || size > AP_SMALL_SIZE_MAX) {
        return SIZE_MAX;
    }
    size_t rounded = ap__align_up(ap__max(size, alignment), alignment);
    return rounded <= AP_SMALL_SIZE_MAX ? rounded : SIZE_MAX;
}

#endif
