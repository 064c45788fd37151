/* SPDX-License-Identifier: MIT */
/*
 * size_class.c: the class of an aligned request.
 */
#include "base/size_class.h"

unsigned ap__class_of_aligned(size_t alignment, size_t size)
{
    if (alignment > AP_GRANULE || size > AP_SMALL_SIZE_MAX) {
        return 0;
    }
    /* Spans start at granules, so a block is aligned when its size is a multiple. Each power of two
     * from 128 bytes up is a class: the search ends after at most one doubling. */
    size_t rounded = ap__align_up(ap__max(size, alignment), alignment);
    for (unsigned c = rounded <= AP_SMALL_SIZE_MAX ? ap__class_of_size(rounded) : AP_CLASS_COUNT;
         c < AP_CLASS_COUNT; c++) {
        if (ap__size_class[c].size % alignment == 0) {
            return c;
        }
    }
    return 0;
}
