/* SPDX-License-Identifier: MIT */
/*
 * slot_word.h: what a slot of the large-object table holds, in one 64-bit word.
 *
 * Pure functions of a word; the picture of its fields and the life of a slot are in large_table.c.
 * Included by that file alone.
 */
#ifndef AP_TABLE_SLOT_WORD_H
#define AP_TABLE_SLOT_WORD_H

#include <stdatomic.h>

#include "base/compiler.h"
#include "table/large_table.h"

typedef _Atomic uint64_t slot_t;

#define TAG_BITS 2
#define RECORD_BITS 22
#define GRANULE_SHIFT (TAG_BITS + RECORD_BITS)
#define TAG_MASK ((UINT64_C(1) << TAG_BITS) - 1)
#define RECORD_MASK ((UINT64_C(1) << RECORD_BITS) - 1)

_Static_assert(GRANULE_SHIFT + AP__LARGE_TABLE_KEY_BITS == 64, "the fields fill the word");
_Static_assert(AP__LARGE_TABLE_RECORDS_MAX == RECORD_MASK + 1, "a record's index fits its field");
_Static_assert(sizeof(uintptr_t) == 8, "addresses have more bits than a 32-bit system's");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a slot is changed by one instruction");

/* Words without an address. */
#define EMPTY UINT64_C(0)
#define TOMB UINT64_C(1)
#define CLOSED UINT64_C(2)

/* Words with an address. */
enum tag { TAG_LIVE, TAG_FROZEN, TAG_MOVED, TAG_PEND };

static inline uint64_t make_word(uint64_t granule, uint32_t record)
{
    return granule << GRANULE_SHIFT | (uint64_t)record << TAG_BITS | TAG_LIVE;
}

static inline uint64_t with_tag(uint64_t word, enum tag tag)
{
    return (word & ~TAG_MASK) | (uint64_t)tag;
}

/* 0 for EMPTY, TOMB and CLOSED. */
static inline uint64_t granule_of(uint64_t word)
{
    return word >> GRANULE_SHIFT;
}

static inline uint32_t record_of(uint64_t word)
{
    return (uint32_t)(word >> TAG_BITS & RECORD_MASK);
}

/* Meaningful for words with an address. */
static inline enum tag tag_of(uint64_t word)
{
    return (enum tag)(word & TAG_MASK);
}

static inline bool is_free(uint64_t word)
{
    return word == EMPTY || word == TOMB;
}

/* Whether a slot in this state shows that its table is being migrated. */
static inline bool is_closing(uint64_t word)
{
    if (granule_of(word) == 0) {
        return word == CLOSED;
    }
    return tag_of(word) == TAG_FROZEN || tag_of(word) == TAG_MOVED;
}

#endif
