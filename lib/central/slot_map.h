/* SPDX-License-Identifier: MIT */
/*
 * slot_map.h: one span's occupancy bitmap: a set bit is a free slot.
 *
 * Pure functions over the bitmap of a span of small blocks; the caller holds the class' lock.
 * Invariant: no bit is set in words before first_word; free_slots is the number of set bits.
 */
#ifndef AP_CENTRAL_SLOT_MAP_H
#define AP_CENTRAL_SLOT_MAP_H

#include "base/bits.h"
#include "heap/span.h"
#include "os/check.h"

enum { AP_SLOT_WORD_BITS = 64 };

static inline unsigned ap__slot_map_words(unsigned slots)
{
    return (slots + AP_SLOT_WORD_BITS - 1) / AP_SLOT_WORD_BITS;
}

/* All slots free. */
static inline void ap__slot_map_fill(struct ap__span *span, unsigned slots)
{
    unsigned words = ap__slot_map_words(slots);
    for (unsigned i = 0; i < words; i++) {
        span->slots.bitmap[i] = ~UINT64_C(0);
    }
    if (slots % AP_SLOT_WORD_BITS != 0) {
        span->slots.bitmap[words - 1] = (UINT64_C(1) << (slots % AP_SLOT_WORD_BITS)) - 1;
    }
    span->slots.free_slots = (uint16_t)slots;
    span->slots.first_word = 0;
}

static inline bool ap__slot_map_is_free(const struct ap__span *span, unsigned slot)
{
    return (span->slots.bitmap[slot / AP_SLOT_WORD_BITS] >> (slot % AP_SLOT_WORD_BITS)) & 1;
}

/* Claims up to `count` slots, lowest first, and writes their addresses. Returns how many. */
static inline unsigned ap__slot_map_claim(struct ap__span *span, size_t size_bytes, void **blocks,
                                          unsigned count)
{
    unsigned wanted = count < span->slots.free_slots ? count : span->slots.free_slots;
    unsigned word = span->slots.first_word;
    unsigned got = 0;
    while (got < wanted) {
        uint64_t bits = span->slots.bitmap[word];
        uintptr_t base = span->start + (uintptr_t)word * AP_SLOT_WORD_BITS * size_bytes;
        for (; bits != 0 && got < wanted; bits &= bits - 1) {
            blocks[got++] = (void *)(base + ap__lowest_bit(bits) * size_bytes);
        }
        span->slots.bitmap[word] = bits;
        word += bits == 0;
    }
    span->slots.first_word = (uint16_t)word;
    span->slots.free_slots = (uint16_t)(span->slots.free_slots - got);
    return got;
}

/* The first slot at or after `slot` that is free (or is not, if `free` is false); `slots` if none is. */
static inline unsigned ap__slot_map_next(const struct ap__span *span, unsigned slot, unsigned slots,
                                         bool free)
{
    while (slot < slots) {
        uint64_t word = span->slots.bitmap[slot / AP_SLOT_WORD_BITS];
        uint64_t bits = (free ? word : ~word) >> (slot % AP_SLOT_WORD_BITS);
        if (bits != 0) {
            unsigned found = slot + ap__lowest_bit(bits);
            return found < slots ? found : slots;
        }
        slot = (slot / AP_SLOT_WORD_BITS + 1) * AP_SLOT_WORD_BITS;
    }
    return slots;
}

/* Slots of one span that are freed together: what changes with each stays in registers. */
struct ap__slot_release {
    uint64_t *bitmap;
    unsigned first_word;
};

static inline struct ap__slot_release ap__slot_map_release_begin(const struct ap__span *span)
{
    return (struct ap__slot_release){span->slots.bitmap, span->slots.first_word};
}

/* Frees a slot. `false`: it was free already; nothing has changed. */
static inline bool ap__slot_map_release(struct ap__slot_release *release, unsigned slot)
{
    unsigned word = slot / AP_SLOT_WORD_BITS;
    uint64_t bit = UINT64_C(1) << (slot % AP_SLOT_WORD_BITS);
    uint64_t bits = release->bitmap[word];
    if (AP_MISUSED((bits & bit) != 0)) {
        return false;
    }
    release->bitmap[word] = bits | bit;
    release->first_word = word < release->first_word ? word : release->first_word;
    return true;
}

/* `count`: slots that were freed since the begin. */
static inline void ap__slot_map_release_end(struct ap__span *span,
                                            const struct ap__slot_release *release, unsigned count)
{
    span->slots.free_slots = (uint16_t)(span->slots.free_slots + count);
    span->slots.first_word = (uint16_t)release->first_word;
}

#endif
