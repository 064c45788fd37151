/* SPDX-License-Identifier: MIT */
/*
 * recycle.h: whether packed blocks as long as a class are kept in thread caches, set by a test.
 */
#ifndef TEST_RECYCLE_H
#define TEST_RECYCLE_H

#include "base/size_class.h"
#include "pack/pack.h"

static inline void recycle(unsigned size_class, bool is_recycled)
{
    size_t units = ap__size_class[size_class].size >> AP_UNIT_SHIFT;
    atomic_store(&ap__pack_classes_to_keep[units], is_recycled ? size_class : 0);
    atomic_store(&ap__pack_recycling, true);
}

static inline void recycle_none(void)
{
    for (unsigned units = 0; units < AP_ARRAY_LENGTH(ap__pack_classes_to_keep); units++) {
        atomic_store(&ap__pack_classes_to_keep[units], 0);
    }
    atomic_store(&ap__pack_recycling, false);
}

#endif
