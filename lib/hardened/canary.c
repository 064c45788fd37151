/* SPDX-License-Identifier: MIT */
/*
 * canary.c: trailers and slack.
 *
 * A trailer is ((size + 1) << 8) ^ key, the lowest byte replaced by one that is not zero. Sizes fit in 19
 * bits, so of the 56 bits above the lowest byte 37 must be right by chance for damage to go unseen.
 */
#include "hardened/canary.h"

#include <stdatomic.h>
#include <string.h>

#include "base/hash.h"

#define SIZE_SHIFT 8
#define FREED_FIELD (UINT64_C(1) << 40) /* no size */

typedef _Atomic(uint64_t) trailer_word;

static uint64_t secret;

void ap__canary_set_secret(uint64_t value)
{
    secret = value;
}

static uint64_t key_of(const void *slot)
{
    return ap__hash_address((uintptr_t)slot, secret);
}

/* Never zero: what the program's own zeros shall not look like. */
static unsigned char fill_byte(uint64_t key)
{
    return (unsigned char)(key >> 56 | 1);
}

static uint64_t trailer_with(const void *slot, uint64_t field)
{
    uint64_t key = key_of(slot);
    uint64_t hidden = (field << SIZE_SHIFT) ^ key;
    return (hidden & ~UINT64_C(0xFF)) | fill_byte(key);
}

static trailer_word *trailer_of(const void *slot, size_t slot_bytes)
{
    return (trailer_word *)((uintptr_t)slot + slot_bytes - AP__TRAILER_BYTES);
}

/* relaxed throughout: whoever holds a block has it from a thread that synchronised with this one; two
 * that free one block at once are told apart by the exchange alone. */
static uint64_t load(const void *slot, size_t slot_bytes)
{
    return atomic_load_explicit(trailer_of(slot, slot_bytes), memory_order_relaxed);
}

void ap__canary_set(void *slot, size_t slot_bytes, size_t size_bytes)
{
    size_t room = slot_bytes - AP__TRAILER_BYTES;
    memset((char *)slot + size_bytes, fill_byte(key_of(slot)), room - size_bytes);
    atomic_store_explicit(trailer_of(slot, slot_bytes), trailer_with(slot, size_bytes + 1),
                          memory_order_relaxed);
}

enum ap__canary_state ap__canary_look(const void *slot, size_t slot_bytes, size_t *size_bytes)
{
    uint64_t trailer = load(slot, slot_bytes);
    uint64_t field = (trailer ^ key_of(slot)) >> SIZE_SHIFT;
    if (trailer == 0) {
        return AP__CANARY_FREE;
    }
    if (trailer == trailer_with(slot, FREED_FIELD)) {
        return AP__CANARY_FREED;
    }
    if (trailer != trailer_with(slot, field) || field == 0 ||
        field - 1 > slot_bytes - AP__TRAILER_BYTES) {
        return AP__CANARY_DAMAGED;
    }
    *size_bytes = field - 1;
    return AP__CANARY_LIVE;
}

static bool is_all(const unsigned char *start, size_t size_bytes, unsigned char byte)
{
    /* Equal to itself shifted by one, and the first byte is right. */
    return size_bytes == 0 || (start[0] == byte && memcmp(start, start + 1, size_bytes - 1) == 0);
}

bool ap__canary_slack_is_whole(const void *slot, size_t slot_bytes, size_t size_bytes)
{
    return is_all((const unsigned char *)slot + size_bytes,
                  slot_bytes - AP__TRAILER_BYTES - size_bytes, fill_byte(key_of(slot)));
}

bool ap__canary_claim(void *slot, size_t slot_bytes, size_t size_bytes)
{
    uint64_t live = trailer_with(slot, size_bytes + 1);
    return atomic_compare_exchange_strong_explicit(trailer_of(slot, slot_bytes), &live,
                                                   trailer_with(slot, FREED_FIELD),
                                                   memory_order_relaxed, memory_order_relaxed);
}

void ap__canary_clear(void *slot, size_t slot_bytes)
{
    atomic_store_explicit(trailer_of(slot, slot_bytes), 0, memory_order_relaxed);
}

bool ap__is_zero(const void *start, size_t size_bytes)
{
    return is_all(start, size_bytes, 0);
}

void ap__canary_fill(void *start, size_t size_bytes)
{
    memset(start, fill_byte(key_of(start)), size_bytes);
}

bool ap__canary_is_filled(const void *start, size_t size_bytes)
{
    return is_all(start, size_bytes, fill_byte(key_of(start)));
}
