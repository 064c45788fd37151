/* SPDX-License-Identifier: MIT */
/*
 * fine_classes.h: which size class serves a size now.
 *
 * Does: keeps the tables that the hit paths read, and opens a fine class (base/size_class.h) once the blocks of its
 * sizes would lose a 128th of the small blocks' memory, and 128 KiB at least, in the next larger class.
 * Until then that one serves them: half as many classes mean half as many spans and pages begun, and half as many
 * streams of addresses for the processor's caches to foresee. Does not: close a class again; move blocks.
 *
 * Invariants (tested over all sizes): the class that serves a size holds it; it is the smallest, or the next one if
 * the smallest is fine and not open.
 * Callers: any thread, no lock. What is read may be late by a moment: both classes hold the size.
 *
 * Cost: nothing on the hit paths, where the tables are in any case. A slow path notes whether the size that it was
 * called for would have fitted a fine class; a visit of the lists looks at these notes.
 */
#ifndef AP_CACHE_FINE_CLASSES_H
#define AP_CACHE_FINE_CLASSES_H

#include <stdatomic.h>

#include "base/size_class.h"
#include "config/options.h"

/* The two tables of the hit paths have 16-byte and 128-byte steps, and are exact: every class is a multiple of the step
 * of its table. */
enum { AP_BY_16_SHIFT = 4, AP_BY_16_MAX = 1024, AP_BY_128_SHIFT = 7, AP_BY_128_MAX = 32768 };

/* Classes by size and by smallest class, on cache lines of their own. relaxed, each access: an entry means what it
 * says alone. */
struct ap__routes {
    _Atomic(uint8_t) by_16[(AP_BY_16_MAX >> AP_BY_16_SHIFT) + 1];
    _Atomic(uint8_t) by_128[(AP_BY_128_MAX >> AP_BY_128_SHIFT) + 1];
    _Atomic(uint8_t) by_class[AP_CLASS_COUNT];
} AP_CACHE_ALIGNED;

extern AP_HIDDEN struct ap__routes ap__routes; /* generated: no fine class is open */

/* auto: as said above; always: all are open from now on; never: none will be. At start, when the options are read. */
void ap__fine_classes_init(enum ap__when when);

/* The class of a size of 0 to AP_BY_16_MAX bytes. */
static inline unsigned ap__class_by_16(size_t size)
{
    return atomic_load_explicit(&ap__routes.by_16[(size + 15) >> AP_BY_16_SHIFT],
                                memory_order_relaxed);
}

/* Of a size of up to AP_BY_128_MAX bytes. */
static inline unsigned ap__class_by_128(size_t size)
{
    return atomic_load_explicit(&ap__routes.by_128[(size + 127) >> AP_BY_128_SHIFT],
                                memory_order_relaxed);
}

/* Of a size of up to AP_SMALL_SIZE_MAX bytes. By the tables as far as they go: whether a size is linear is a branch
 * that mixed sizes mispredict: it was a quarter of the time of aligned allocation. */
static inline unsigned ap__class_for(size_t size)
{
    if (AP_LIKELY(size <= AP_BY_16_MAX)) {
        return ap__class_by_16(size);
    }
    return size <= AP_BY_128_MAX
               ? ap__class_by_128(size)
               : atomic_load_explicit(&ap__routes.by_class[ap__class_of_size(size)],
                                      memory_order_relaxed);
}

/* A class of at least `size` bytes whose every block is aligned to `alignment` (a power of two), 0 if there is none. */
static inline unsigned ap__class_for_aligned(size_t alignment, size_t size)
{
    size_t rounded = ap__size_for_aligned(alignment, size);
    return rounded != SIZE_MAX ? ap__class_for(rounded) : 0;
}

/*
 * Notes that `size` bytes were asked for where `size_class` serves them. *fitting: of 255 such requests, how many the
 * fine class below would have held, in a mean that forgets an eighth each time.
 */
static inline void ap__fine_classes_note(uint8_t *fitting, unsigned size_class, size_t size)
{
    bool would_fit = size <= ap__size_class[size_class - 1].size;
    unsigned before = *fitting;
    *fitting = (uint8_t)(would_fit ? before + (UINT8_MAX - before) / 8 : before - before / 8);
}

/* Bytes that a fine class has to save to be opened, as the heap is now; SIZE_MAX: none shall be. */
size_t ap__fine_classes_worth(void);

/* Opens the fine class below `size_class`, of which `fitting` was noted, if it saves `worth` bytes. */
void ap__fine_classes_consider(unsigned size_class, uint8_t fitting, size_t worth);

#endif
