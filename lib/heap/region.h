/* SPDX-License-Identifier: MIT */
/*
 * region.h: the one reserved range of addresses that spans live in, and its maps by granule.
 *
 *   base                                                                  base + reserved
 *   | class map | clean map | span map | guard | granules in use ... | not yet usable ... |
 *
 * Does: reserves, makes granules usable in order, and holds three maps: granule -> size class (all
 * that free's hit path reads), granule -> known to be zero, granule -> span. The maps are made usable
 * along with the granules they describe; their unused ends are guards.
 * Does not: know which granules are free; that is the page heap's.
 * Granules are counted from `base`, so the first ones lie under the maps and are never handed out.
 *
 * Callers: reads from any thread without a lock. Init under the init lock; growth and writes to the
 * maps under the page heap's lock.
 * Invariant: every granule below the limit has usable map entries.
 *
 * Idea: Bonwick and Adams' vmem arena under a page map like tcmalloc's, but flat and in one piece.
 */
#ifndef AP_HEAP_REGION_H
#define AP_HEAP_REGION_H

#include <stdatomic.h>

#include "base/bits.h"
#include "base/compiler.h"
#include "base/size_class.h"
#include "os/check.h"

struct ap__span;

/*
 * What the hit path of free reads: two variables of one cache line (region.c), apart from each other
 * because compilers address single variables without a register for their common base.
 *
 * Start of the reservation, which is the class map. Written once, by init.
 */
extern AP_HIDDEN _Atomic(_Atomic(uint8_t) *) ap__region_class_map;
/*
 * Offset from base at which usable memory ends, in units of 16 bytes. Grows only; the page heap writes
 * it. Whoever holds a block has it from somebody who saw the limit above that block, so relaxed
 * reads suffice.
 */
extern AP_HIDDEN size_t ap__region_limit;

/* Reserves `reserve_bytes`, or half of it, and so on. `false`: nothing could be reserved. */
bool ap__region_init(size_t reserve_bytes);

/* Makes the next `granules` usable and returns the first of them, 0 if that failed. */
size_t ap__region_grow(size_t granules);

/* Granules that growth could still add. */
size_t ap__region_granules_left(void);

/* Reserved bytes that are not usable yet, of granules and of maps. */
size_t ap__region_unused_bytes(void);

/* Bytes made usable for spans so far, the maps not counted. */
size_t ap__region_usable_bytes(void);

/* The first granule that spans may use; 0 before init, constant afterwards. */
extern AP_HIDDEN size_t ap__region_first;

static inline size_t ap__region_first_granule(void)
{
    return ap__region_first;
}

static inline uintptr_t ap__region_base(void)
{
    /* relaxed: written once, before the first block exists. */
    return (uintptr_t)atomic_load_explicit(&ap__region_class_map, memory_order_relaxed);
}

/*
 * The limit. A plain load of an aligned word is atomic on every processor there is; it is written as
 * one because compilers do not fold an atomic load into the comparison that uses it, which costs
 * free's hit path an instruction. ThreadSanitizer is told the truth.
 */
static inline size_t ap__region_limit_16(void)
{
#ifdef AP_THREAD_SANITIZER
    return __atomic_load_n(&ap__region_limit, __ATOMIC_RELAXED);
#else
    return ap__region_limit;
#endif
}

/* Granules counted from base that are usable (those under the maps included). */
static inline size_t ap__region_limit_granules(void)
{
    return ap__region_limit_16() >> (AP_PAGE_HEAP_GRANULE_SHIFT - 4);
}

/* Number of the granule an address lies in; not below the limit for addresses out of the region. */
static inline size_t ap__region_granule_of(uintptr_t address)
{
    return (address - ap__region_base()) >> AP_PAGE_HEAP_GRANULE_SHIFT;
}

static inline uintptr_t ap__region_address_of(size_t granule)
{
    return ap__region_base() + (granule << AP_PAGE_HEAP_GRANULE_SHIFT);
}

static inline bool ap__region_contains(uintptr_t address)
{
    return ap__region_granule_of(address) < ap__region_limit_granules();
}

/* Size class of the blocks in a granule below the limit; 0: no small blocks. */
static inline unsigned ap__region_class_of(size_t granule)
{
    /* relaxed: the class was stored before any block of the span was handed out. */
    return atomic_load_explicit(
        &atomic_load_explicit(&ap__region_class_map, memory_order_relaxed)[granule],
        memory_order_relaxed);
}

/* Sets the class of `granules` granules from `first` on. Page heap only. */
void ap__region_set_class(size_t first, size_t granules, unsigned size_class);

/* Start of the span map. Written once, by init. */
extern AP_HIDDEN _Atomic(_Atomic(struct ap__span *) *) ap__region_span_map;

/* The span that a granule below the limit belongs to. Exact for every granule of a span of small or
 * packed blocks and for the first and last granule of any other; elsewhere it may be a stale record. */
static inline struct ap__span *ap__region_span_of(size_t granule)
{
    AP_ASSERT(granule < ap__region_limit_granules());
    /* acquire: pairs with the releases in region.c, for pointers that came here without any other order
     * (misuse); the record behind it then at least is one. The map itself, relaxed: as the class map. */
    return atomic_load_explicit(
        &atomic_load_explicit(&ap__region_span_map, memory_order_relaxed)[granule],
        memory_order_acquire);
}

/* Page heap only: for all granules of a span, or for the first and the last only. */
void ap__region_set_span(size_t first, size_t granules, struct ap__span *span);
void ap__region_set_span_ends(size_t first, size_t granules, struct ap__span *span);

/* Known to read as zero. The owner of the granule may ask and change it, nobody else. */
bool ap__region_is_clean(size_t granule);
void ap__region_set_clean(size_t first, size_t granules, bool clean);
size_t ap__region_count_dirty(size_t first, size_t granules);
/* Behind the last granule of [first, end) that is not clean; `first` if all are. */
size_t ap__region_dirty_end(size_t first, size_t end);

#endif
