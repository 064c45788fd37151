/* SPDX-License-Identifier: MIT */
/*
 * own_lines.h: slots whose cache lines hold no other thread's blocks.
 *
 * Pure functions over a span's bitmap; the caller holds the lock of the span's shard. Threads that write to blocks on
 * one line slow each other down, and the lowest free slot may lie beside another thread's block.
 */
#ifndef AP_CENTRAL_OWN_LINES_H
#define AP_CENTRAL_OWN_LINES_H

#include "central/slot_map.h"

/* The number of slots after which one starts a cache line again: a power of two. */
static inline unsigned ap__slots_per_lines(size_t size_bytes)
{
    unsigned shift = ap__lowest_bit(size_bytes);
    return shift >= ap__lowest_bit(AP_CACHE_LINE) ? 1u : (unsigned)AP_CACHE_LINE >> shift;
}

static inline void ap__slot_map_claim_run(struct ap__span *span, size_t size_bytes, unsigned first,
                                          void **blocks, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        unsigned slot = first + i;
        span->slots.bitmap[slot / AP_SLOT_WORD_BITS] &=
            ~(UINT64_C(1) << (slot % AP_SLOT_WORD_BITS));
        blocks[count - 1 - i] = (void *)(span->start + slot * size_bytes);
    }
    span->slots.free_slots = (uint16_t)(span->slots.free_slots - count);
}

/*
 * Claims up to `count` slots side by side that fill whole lines, of which at least one group, the lowest into the last
 * place. Returns how many; 0 if there is no such run, or `count` is less than a group.
 */
static inline unsigned ap__slot_map_claim_lines(struct ap__span *span,
                                                const struct ap__size_class *info, void **blocks,
                                                unsigned count)
{
    unsigned group = ap__slots_per_lines(info->size);
    unsigned end = 0;
    for (unsigned slot = 0; slot < info->slots && count >= group; slot = end + 1) {
        unsigned first = ap__slot_map_next(span, slot, info->slots, true);
        end = ap__slot_map_next(span, first, info->slots, false);
        first = (unsigned)ap__align_up(first, group);
        if (first + group <= end) {
            unsigned got = (unsigned)ap__align_down(ap__min(count, end - first), group);
            ap__slot_map_claim_run(span, info->size, first, blocks, got);
            return got;
        }
    }
    return 0;
}

#endif
