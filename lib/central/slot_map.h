/* SPDX-License-Identifier: MIT */
/*
 * slot_map.h: one span's occupancy bitmap: a set bit is a free slot.
 *
 * Pure functions over the bitmap of a span of small blocks; the caller holds the lock of the span's shard.
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

/* The lowest `count` bits, of 1 to 64. */
static inline uint64_t ap__slot_map_ones(unsigned count)
{
    return ~UINT64_C(0) >> (AP_SLOT_WORD_BITS - count);
}

/* Writes the addresses of `count` slots side by side below `end`, downwards, four at a time: most blocks come by
 * here. */
static inline void ap__slot_map_write_run(void **end, uintptr_t first, size_t size_bytes,
                                          unsigned count)
{
    uintptr_t p = first;
    for (; count >= 4; count -= 4, end -= 4, p += 4 * size_bytes) {
        end[-1] = (void *)p;
        end[-2] = (void *)(p + size_bytes);
        end[-3] = (void *)(p + 2 * size_bytes);
        end[-4] = (void *)(p + 3 * size_bytes);
    }
    for (; count != 0; count--, p += size_bytes) {
        *--end = (void *)p;
    }
}

/* Claims up to `most` of the slots of one word, lowest first, and writes their addresses below `end`, downwards.
 * Returns how many, the bits that are left in *bits. */
static inline unsigned ap__slot_map_claim_word(uint64_t *bits, uintptr_t base, size_t size_bytes,
                                               void **end, unsigned most)
{
    uint64_t left = *bits;
    void **to = end;
    unsigned first = ap__lowest_bit(left);
    uint64_t run = left >> first;
    if ((run & (run + 1)) == 0) {
        /* Side by side, as in a fresh span, or after what was allocated in order has been freed in order. */
        unsigned length = run + 1 == 0 ? AP_SLOT_WORD_BITS : ap__lowest_bit(run + 1);
        length = length < most ? length : most;
        ap__slot_map_write_run(end, base + first * size_bytes, size_bytes, length);
        to -= length;
        left &= ~(ap__slot_map_ones(length) << first);
    } else {
        for (; left != 0 && to > end - most; left &= left - 1) {
            *--to = (void *)(base + ap__lowest_bit(left) * size_bytes);
        }
    }
    *bits = left;
    return (unsigned)(end - to);
}

/* Claims up to `count` slots, lowest first, and writes their addresses below `end`, downwards: so the lowest is on
 * top of a stack. Returns how many. */
static inline unsigned ap__slot_map_claim(struct ap__span *span, size_t size_bytes, void **end,
                                          unsigned count)
{
    unsigned wanted = count < span->slots.free_slots ? count : span->slots.free_slots;
    unsigned word = span->slots.first_word;
    unsigned got = 0;
    while (got < wanted) {
        uint64_t bits = span->slots.bitmap[word];
        uintptr_t base = span->start + (uintptr_t)word * AP_SLOT_WORD_BITS * size_bytes;
        if (bits != 0) {
            got += ap__slot_map_claim_word(&bits, base, size_bytes, end - got, wanted - got);
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

/* Frees `count` slots side by side, of 1 to 64. `false`: one of them was free already; nothing has changed. */
static inline bool ap__slot_map_release_run(struct ap__slot_release *release, unsigned first,
                                            unsigned count)
{
    unsigned word = first / AP_SLOT_WORD_BITS;
    unsigned shift = first % AP_SLOT_WORD_BITS;
    uint64_t ones = ap__slot_map_ones(count);
    uint64_t low = ones << shift;
    uint64_t high = shift + count > AP_SLOT_WORD_BITS ? ones >> (AP_SLOT_WORD_BITS - shift) : 0;
    uint64_t *bits = &release->bitmap[word];
    if (AP_MISUSED((bits[0] & low) != 0 || (high != 0 && (bits[1] & high) != 0))) {
        return false;
    }
    bits[0] |= low;
    if (high != 0) {
        bits[1] |= high;
    }
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
