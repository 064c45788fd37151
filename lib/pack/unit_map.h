/* SPDX-License-Identifier: MIT */
/*
 * unit_map.h: which units of a packed span belong to blocks.
 *
 * Two bitmaps of one bit a unit, whose words lie in turns, so that what is asked about a block is on one line of the
 * processor's cache. `used`: the unit belongs to a block. `last`: it is the last one of its block. So free
 * runs coalesce by themselves, and how long a block is does not depend on its neighbours: its owner may ask for it
 * without a lock. All else is for who holds the lock of the span's pool.
 * Invariant: a unit that is a last one is used. A block begins where a used unit follows on one that is free or a last
 * one.
 *
 * Idea: bitmapped fits, in Wilson et al., "Dynamic Storage Allocation: A Survey", 1995.
 */
#ifndef AP_PACK_UNIT_MAP_H
#define AP_PACK_UNIT_MAP_H

#include <stdatomic.h>

#include "base/bits.h"
#include "heap/span.h"

enum {
    AP_UNIT_SHIFT = 7, /* 128 bytes: what a block's length is a multiple of, and its address */
    AP_UNIT_BYTES = 1 << AP_UNIT_SHIFT,
    AP_UNIT_WORD_BITS = 64,
    AP_UNIT_MAPS = 2, /* from a word to the next one of the same bitmap */
};

typedef _Atomic(uint64_t) ap__unit_word;

struct ap__unit_map {
    ap__unit_word *used;
    ap__unit_word *last;
    unsigned units; /* a multiple of 64 */
};

/* Bytes of both bitmaps of a span. */
static inline size_t ap__unit_map_bytes(unsigned units)
{
    return (size_t)AP_UNIT_MAPS * units / 8;
}

static inline unsigned ap__span_units(const struct ap__span *span)
{
    return (unsigned)(ap__span_bytes(span) >> AP_UNIT_SHIFT);
}

/* The bitmaps whose first word is at `words`. */
static inline struct ap__unit_map ap__unit_map_at(ap__unit_word *words, unsigned units)
{
    return (struct ap__unit_map){words, words + 1, units};
}

/* The bitmaps of a packed span. */
static inline struct ap__unit_map ap__unit_map_of(const struct ap__span *span)
{
    /* relaxed: whoever may ask has the pool's lock, under which they were set. */
    return ap__unit_map_at(atomic_load_explicit(&span->unit_map, memory_order_relaxed),
                           ap__span_units(span));
}

/* ------------------------------------------------------------ bits */

/* acquire: pairs with the release in ap__unit_store(), for who looks at a neighbour's units without the lock. */
static AP_ALWAYS_INLINE uint64_t ap__unit_load(const ap__unit_word *map, unsigned unit)
{
    return atomic_load_explicit(&map[unit / AP_UNIT_WORD_BITS * AP_UNIT_MAPS],
                                memory_order_acquire);
}

/* Words are written under a lock. */
static inline void ap__unit_store(ap__unit_word *map, unsigned unit, uint64_t bits)
{
    atomic_store_explicit(&map[unit / AP_UNIT_WORD_BITS * AP_UNIT_MAPS], bits,
                          memory_order_release);
}

static inline bool ap__unit_is(const ap__unit_word *map, unsigned unit)
{
    return ap__unit_load(map, unit) >> unit % AP_UNIT_WORD_BITS & 1;
}

static inline void ap__unit_set(ap__unit_word *map, unsigned unit, bool one)
{
    uint64_t bit = UINT64_C(1) << unit % AP_UNIT_WORD_BITS;
    uint64_t before = ap__unit_load(map, unit);
    ap__unit_store(map, unit, one ? before | bit : before & ~bit);
}

/* `count` units from `unit` on become used, or free. */
static inline void ap__unit_map_use(const struct ap__unit_map *map, unsigned unit, unsigned count,
                                    bool used)
{
    while (count != 0) {
        unsigned at = unit % AP_UNIT_WORD_BITS;
        unsigned here = (unsigned)ap__min(count, AP_UNIT_WORD_BITS - at);
        uint64_t bits = ~UINT64_C(0) >> (AP_UNIT_WORD_BITS - here) << at;
        uint64_t before = ap__unit_load(map->used, unit);
        ap__unit_store(map->used, unit, used ? before | bits : before & ~bits);
        unit += here;
        count -= here;
    }
}

/* The first unit from `unit` on, below `end`, whose bit is `one`; `end` if there is none. */
static AP_ALWAYS_INLINE unsigned ap__unit_next(const ap__unit_word *map, unsigned unit,
                                               unsigned end, bool one)
{
    uint64_t mask = ~UINT64_C(0) << unit % AP_UNIT_WORD_BITS;
    for (unit -= unit % AP_UNIT_WORD_BITS; unit < end; unit += AP_UNIT_WORD_BITS) {
        uint64_t word = ap__unit_load(map, unit);
        uint64_t bits = (one ? word : ~word) & mask;
        if (bits != 0) {
            return (unsigned)ap__min(unit + ap__lowest_bit(bits), end);
        }
        mask = ~UINT64_C(0);
    }
    return end;
}

/* ------------------------------------------------------------ blocks */

/* Units of the block that begins at `unit`. Its owner may ask without the lock. */
static AP_ALWAYS_INLINE unsigned ap__unit_map_length(const struct ap__unit_map *map, unsigned unit)
{
    return ap__unit_next(map->last, unit, map->units - 1, true) + 1 - unit;
}

/*
 * Whether a block begins at `unit`. Without the lock `true` can be relied on if the block is the caller's; `false` may
 * be seen while what lies in front of it changes: in `last` first when it becomes a block, in `used` first when it is
 * none any more.
 */
static inline bool ap__unit_map_is_start(const struct ap__unit_map *map, unsigned unit)
{
    return ap__unit_is(map->used, unit) &&
           (unit == 0 || !ap__unit_is(map->used, unit - 1) || ap__unit_is(map->last, unit - 1));
}

/* Whether the unit in front is free, or the last of its block; of a unit in these words. They were read in the order in
 * which they are written where the one in front becomes a block, or is none any more: see ap__unit_map_is_start(). */
static AP_ALWAYS_INLINE bool ap__unit_is_behind_end(const struct ap__unit_map *map, unsigned unit,
                                                    uint64_t used, uint64_t last)
{
    unsigned at = unit % AP_UNIT_WORD_BITS;
    if (AP_LIKELY(at != 0)) {
        return (~used | last) >> (at - 1) & 1;
    }
    return unit == 0 || !ap__unit_is(map->used, unit - 1) || ap__unit_is(map->last, unit - 1);
}

/*
 * Units of the block that begins at `unit`; 0: none begins there, as ap__unit_map_is_start() has it. What both functions
 * say, of up to 64 units without a branch for where the end of the block lies, which is nothing that processors foresee.
 */
static AP_ALWAYS_INLINE unsigned ap__unit_map_block(const struct ap__unit_map *map, unsigned unit)
{
    unsigned at = unit % AP_UNIT_WORD_BITS;
    uint64_t used = ap__unit_load(map->used, unit);
    uint64_t last = ap__unit_load(map->last, unit);
    if (AP_UNLIKELY(!(used >> at & 1) || !ap__unit_is_behind_end(map, unit, used, last))) {
        return 0;
    }
    /* The 64 units from this one on. In the last word nothing is wanted of the next: each block ends before. */
    unsigned next = (unsigned)ap__min(unit + AP_UNIT_WORD_BITS, map->units - 1);
    uint64_t ends = last >> at | ap__unit_load(map->last, next)
                                     << 1 << (AP_UNIT_WORD_BITS - 1 - at);
    return AP_LIKELY(ends != 0) ? ap__lowest_bit(ends) + 1 : ap__unit_map_length(map, unit);
}

/*
 * The first `units` free ones side by side of which the first lies in [from, to); `to` if there are none: *longest is
 * then how many there are at most, none of them counted that lie in front of `from`.
 */
static inline unsigned ap__unit_map_find(const struct ap__unit_map *map, unsigned from, unsigned to,
                                         unsigned units, unsigned *longest)
{
    *longest = 0;
    for (unsigned at = from;;) {
        at = ap__unit_next(map->used, at, to, false);
        if (at >= to) {
            return to;
        }
        unsigned most = (unsigned)ap__min(at + units, map->units);
        unsigned end = ap__unit_next(map->used, at, most, true);
        if (end - at == units) {
            return at;
        }
        *longest = (unsigned)ap__max(*longest, end - at);
        at = end;
    }
}

/* Free units become a block. */
static inline void ap__unit_map_claim(const struct ap__unit_map *map, unsigned unit, unsigned units)
{
    ap__unit_set(map->last, unit + units - 1, true);
    ap__unit_map_use(map, unit, units, true);
}

/* The block becomes free. */
static inline void ap__unit_map_release(const struct ap__unit_map *map, unsigned unit,
                                        unsigned units)
{
    ap__unit_map_use(map, unit, units, false);
    ap__unit_set(map->last, unit + units - 1, false);
}

/* The block of `before` units is to have `units`. `false`: what lies behind it is not free so far, nothing changed. */
static inline bool ap__unit_map_resize(const struct ap__unit_map *map, unsigned unit,
                                       unsigned before, unsigned units)
{
    unsigned end = unit + before;
    unsigned new_end = unit + units;
    if (new_end > map->units ||
        (units > before && ap__unit_next(map->used, end, new_end, true) != new_end)) {
        return false;
    }
    if (units > before) {
        ap__unit_map_claim(map, end, units - before);
        ap__unit_set(map->last, end - 1, false);
    } else if (units < before) {
        ap__unit_set(map->last, new_end - 1, true);
        ap__unit_map_release(map, new_end, before - units);
    }
    return true;
}

/* The first unit of the free run that `unit` lies in; if that is `most` units in front of it or more, any one of the run
 * that is so, too. */
static inline unsigned ap__unit_map_run_begin(const struct ap__unit_map *map, unsigned unit,
                                              unsigned most)
{
    unsigned begin = unit;
    while (begin > 0 && unit - begin < most) {
        unsigned below = begin - 1;
        unsigned above = AP_UNIT_WORD_BITS - 1 - below % AP_UNIT_WORD_BITS;
        uint64_t bits = ap__unit_load(map->used, below)
                        << above; /* the unit below is the highest */
        if (bits != 0) {
            return begin - (AP_UNIT_WORD_BITS - 1 - ap__highest_bit(bits));
        }
        begin -= below % AP_UNIT_WORD_BITS + 1;
    }
    return begin;
}

#endif
