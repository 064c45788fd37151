/* SPDX-License-Identifier: MIT */
/*
 * fine_classes.c: when a fine class opens.
 *
 * What it would save is estimated without a look at any block: the blocks of the next class that are in use, times the
 * part of one thread's last requests for them that it would hold, times the difference. Where blocks that stay and
 * blocks that come and go differ in size, or threads do, a class may open for nothing: which costs what an open class
 * costs, a few begun spans. Against the gain stand these, begun pages, and lines of the processor's caches. The bound
 * decides little: from a 64th to a 256th the peaks of 13 programs are the same to a thousandth; at a 512th a heap of
 * all sizes opens most classes, and has 1.4 % more.
 */
#include "cache/fine_classes.h"

#include "central/central_free_list.h"
#include "pack/pack.h"

enum { SAVED_PART_MIN = 128 }; /* of the memory in small blocks */
#define SAVED_BYTES_MIN ((size_t)128 << 10)

static enum ap__when when_to_open;

/* The entries of one table that lead to `fine`: its sizes up to `size_max`. From the largest down: who is told that a
 * size is rounded up to the class' (ap_good_size) and asks for that is to get it. */
static void route(_Atomic(uint8_t) *table, unsigned shift, size_t size_max, unsigned fine)
{
    size_t below = ap__size_class[fine - 1].size >> shift;
    for (size_t i = ap__min(ap__size_class[fine].size, size_max) >> shift; i > below; i--) {
        atomic_store_explicit(&table[i], (uint8_t)fine, memory_order_relaxed);
    }
}

/* By several threads at once as well: they write the same. */
static void open_class(unsigned fine)
{
    route(ap__routes.by_16, AP_BY_16_SHIFT, AP_BY_16_MAX, fine);
    route(ap__routes.by_128, AP_BY_128_SHIFT, AP_BY_128_MAX, fine);
    atomic_store_explicit(&ap__routes.by_class[fine], (uint8_t)fine, memory_order_relaxed);
    ap__pack_note_open(fine);
}

void ap__fine_classes_init(enum ap__when when)
{
    when_to_open = when;
    for (unsigned c = 1; when == AP__WHEN_ALWAYS && c < AP_CLASS_COUNT; c++) {
        if (ap__class_is_fine(c)) {
            open_class(c);
        }
    }
}

/* What is not fine always is. */
static bool is_open(unsigned fine)
{
    return atomic_load_explicit(&ap__routes.by_class[fine], memory_order_relaxed) == fine;
}

size_t ap__fine_classes_worth(void)
{
    if (when_to_open != AP__WHEN_AUTO) {
        return SIZE_MAX;
    }
    /* In small blocks, those that thread caches hold included. */
    size_t bytes = ap__pack_block_bytes();
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        bytes += ap__central_claimed(c) * ap__size_class[c].size;
    }
    return ap__max(bytes / SAVED_PART_MIN, SAVED_BYTES_MIN);
}

/* What the fine class below `size_class` would save. */
static size_t bytes_to_save(unsigned size_class, uint8_t fitting)
{
    size_t step = ap__size_class[size_class].size - ap__size_class[size_class - 1].size;
    return ap__central_claimed(size_class) * fitting / UINT8_MAX * step;
}

void ap__fine_classes_consider(unsigned size_class, uint8_t fitting, size_t worth)
{
    unsigned fine = size_class - 1;
    if (bytes_to_save(size_class, fitting) >= worth && !is_open(fine)) {
        open_class(fine);
    }
}
