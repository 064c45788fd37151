/* SPDX-License-Identifier: MIT */
/*
 * pack.h: blocks of a kilobyte to a granule, as long as they were asked to be, side by side in spans they share.
 *
 * A size class of such blocks costs memory twice: each block is as long as the class, a tenth more than it was asked for
 * in the mean; and what the class has free nobody else can use. Here a block is as long as it was asked to be, in units
 * of 128 bytes, and what is free serves any size. But each call takes one lock and searches a bitmap; blocks that come
 * and go belong into thread caches. So a class has its own spans first (AP__PACK_BOUND_BYTES of them), which its caches
 * serve; only what goes beyond, where a heap grows, is packed. If it turns out that such blocks replace each other, too
 * (pack_traffic.h), the class gets AP__PACK_RAISED_BYTES, for good; or, in a heap that has many packed blocks already, its
 * packed blocks become as long as the class and are kept in thread caches with the others, whose lists so hold blocks of
 * both kinds. There a hit costs what it always does, and a free some hundred instructions, no lock.
 *
 * Does: takes and gives one block; resizes it in place; finds wrong pointers and double frees at once. Does not: cache;
 * align to more than a unit; use memory outside of the region.
 * Callers: any thread, no lock held. Spans are AP__PACK_SPAN_GRANULES long; a drained one goes back to
 * the page heap at once.
 *
 * Cost: one lock and some 150 to 300 instructions.
 */
#ifndef AP_PACK_PACK_H
#define AP_PACK_PACK_H

#include "config/options.h"
#include "guard/misuse.h"
#include "heap/span.h"
#include "pack/unit_map.h"

enum {
    AP__PACK_SIZE_MIN = 1025,  /* bytes: below, pages hold so many that few are ever free */
    AP__PACK_SIZE_MAX = 65536, /* above, a block is granules, or nearly */
    AP__PACK_SPAN_GRANULES = 16,
};
#define AP__PACK_BOUND_BYTES ((size_t)1 << 20)
#define AP__PACK_RAISED_BYTES ((size_t)16 << 20)
#define AP__PACK_RAISE_BYTES_MAX ((size_t)16 << 20) /* packed blocks in all */

/* auto: as above; always: classes of these sizes have no spans of their own; never: no block is packed. At start. */
void ap__pack_init(enum ap__when when, bool populate);

/* Whether a block of this size and alignment may be packed at all. */
static inline bool ap__pack_may(size_t alignment, size_t size_bytes)
{
    return size_bytes - AP__PACK_SIZE_MIN <= AP__PACK_SIZE_MAX - AP__PACK_SIZE_MIN &&
           alignment <= AP_UNIT_BYTES;
}

/* By units: the class in whose lists packed blocks of so many are kept, with those of its spans; 0: none, so of 0 units. */
extern AP_HIDDEN _Atomic(uint8_t) ap__pack_classes_to_keep[AP__PACK_SIZE_MAX / AP_UNIT_BYTES + 1];
extern AP_HIDDEN _Atomic(bool) ap__pack_recycling;

/* Whether there is any such class. */
static inline bool ap__pack_recycles_any(void)
{
    return atomic_load_explicit(&ap__pack_recycling, memory_order_relaxed);
}

static inline unsigned ap__pack_class_to_keep(size_t units)
{
    /* relaxed, both: who does not know yet gives its block to its pool. */
    return AP_LIKELY(units <= AP__PACK_SIZE_MAX / AP_UNIT_BYTES)
               ? atomic_load_explicit(&ap__pack_classes_to_keep[units], memory_order_relaxed)
               : 0;
}

/* Whether the lists of the class may hold packed blocks. */
static inline bool ap__pack_is_recycled(unsigned size_class)
{
    /* Whoever has such a block has seen it, or has it from one who has. */
    return ap__pack_class_to_keep(ap__size_class[size_class].size >> AP_UNIT_SHIFT) == size_class;
}

/* A fine class (cache/fine_classes.h) serves its sizes from now on. Any thread, holding no lock. */
void ap__pack_note_open(unsigned fine);

/* Takes blocks of a class back, of its spans and packed ones as long as it. What is neither is misuse of `function`. */
void ap__pack_give_kept(unsigned size_class, void *const *blocks, unsigned count,
                        const char *function);

/* The same of all that transfer caches hold of the class. `false`: nothing. */
bool ap__pack_empty_transfers(unsigned size_class, const char *function);

/* Ends the process if one of the blocks, kept as such, is neither. Holding no lock: it may take a pool's. */
void ap__pack_check_kept(unsigned size_class, void *const *blocks, unsigned count,
                         const char *function);

/* A block of a size that may be packed, for the thread of a number (pack_pools.h). NULL: no memory. */
void *ap__pack_take(size_t size_bytes, unsigned thread);

/* Takes back the block at `p`, which lies in `span`; what is none is misuse of `function`. `true` now and
 * then: it is time for a look at the clock. */
bool ap__pack_give(struct ap__span *span, void *p, const char *function);

/* Why an address in a packed span is no live block. The span need not be one any more. */
AP_COLD enum ap__misuse_cause ap__pack_why_no_block(const struct ap__span *span, const void *p);

/* Usable bytes of the live block at `p`, which lies in `span`; 0: it is none, perhaps since the span is packed no more.
 * Takes no lock. Where others free the block meanwhile, any length: but so many bytes can be read. */
size_t ap__pack_usable_size(const struct ap__span *span, const void *p);

/* Makes the live block at `p`, which lies in `span` and has `before_bytes`, as long as `size_bytes` need, where it lies.
 * `false`: it cannot; nothing changed. */
bool ap__pack_resize(struct ap__span *span, const void *p, size_t before_bytes, size_t size_bytes);

/* As ap__central_purge(), for packed spans. */
size_t ap__pack_purge(unsigned age_least, unsigned age_most, bool *pending);

struct ap__pack_stats {
    size_t spans;
    size_t span_bytes;
    size_t blocks;
    size_t block_bytes; /* usable */
};
void ap__pack_stats(struct ap__pack_stats *stats);

/* Bytes of all packed blocks. Takes no lock, may be late. */
size_t ap__pack_block_bytes(void);

#endif
