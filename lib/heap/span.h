/* SPDX-License-Identifier: MIT */
/*
 * span.h: the record of a span, and the arena the records live in.
 *
 * A record never goes away once it exists: it is recycled. So its address and its index stay
 * readable for whoever came by them without a lock.
 *
 * State and who may change the fields:
 *   FREE    on the page heap's tree              page heap, under its lock
 *   PURGING being given back to the kernel       the purging thread, without a lock
 *   SMALL   carved into blocks of one class      central free list of that class, under its shard's lock
 *   LARGE   one large object                     whoever owns the object
 *   PACKED  blocks of many sizes side by side    packed spans' lock
 */
#ifndef AP_HEAP_SPAN_H
#define AP_HEAP_SPAN_H

#include <stdatomic.h>

#include "base/compiler.h"
#include "base/size_class.h"

enum ap__span_state {
    AP__SPAN_UNUSED = 0, /* a recycled record without a span */
    AP__SPAN_FREE,
    AP__SPAN_PURGING,
    AP__SPAN_SMALL,
    AP__SPAN_LARGE,
    AP__SPAN_PACKED
};

struct ap__span_link {
    struct ap__span *next;
    struct ap__span *previous;
};

struct ap__span {
    uintptr_t start;    /* address of the first granule */
    size_t granules;    /* length */
    uint32_t index;     /* of this record in the arena; constant */
    uint8_t state;      /* enum ap__span_state */
    uint8_t size_class; /* SMALL only */
    bool outside;       /* not in the region: a mapping of its own */
    bool moved; /* its pages came by mremap: its mapping does not merge with the neighbours' */
    /* SMALL: the class and its shard whose lock guards the span, as ap__shard_name() has it; 0: none yet, or no more.
     * Kept by central; read by anyone who frees a block. */
    _Atomic(uint16_t) shard;
    struct ap__span_link
        link; /* FREE: dirty list; SMALL, PACKED: their layer's; UNUSED: next record */
    /* PACKED: its two bitmaps (pack/unit_map.h), else NULL. Not one of those below, which a record without a lock may be
     * read as although it is another's by now: this is never anything but bitmaps. */
    _Atomic(_Atomic(uint64_t) *) unit_map;
    union {
        struct { /* FREE */
            struct ap__span *left;
            struct ap__span *right;
            uint64_t priority;
            size_t dirty_granules;
        } tree;
        struct {              /* SMALL */
            uint64_t *bitmap; /* one bit a slot, 1 = free */
            uint16_t free_slots;
            uint16_t first_word;   /* no free slot in the bitmap's words before this one */
            uint16_t bucket_least; /* free slots with which it stays on the list that it is on */
            uint16_t bucket_most;
            uint8_t bucket;      /* which of central's lists it is on */
            uint8_t fresh;       /* granules before this one need no populating any more */
            bool is_purged;      /* no block has come back since its free pages were given back */
            uint8_t claim_epoch; /* when a block of it was last handed out */
        } slots;
        struct {               /* LARGE */
            size_t size_bytes; /* as the program asked */
            size_t alignment;
            uint8_t guard; /* enum ap__guard: what makes the end of the span inaccessible */
        } large;
        struct { /* PACKED */
            uint16_t free_units;
            /* Units of the longest free run, or more: of what lies in each eighth of the span, and of all. */
            uint16_t part_most[8];
            uint16_t longest_most;
            uint8_t bucket; /* which of the lists of packed spans it is on */
            uint8_t fresh;  /* the three of slots, to the same effect */
            bool is_purged;
            uint8_t claim_epoch;
        } packed;
    };
};
_Static_assert(sizeof(struct ap__span) <= 128, "two cache lines a record");

/* Invariants of a record that no list or lock is needed to see; for assertions. */
bool ap__span_is_valid(const struct ap__span *span);

/* A record, UNUSED. NULL: no memory. Under the page heap's lock. */
struct ap__span *ap__span_record_take(void);

/* Gives a record back. Under the page heap's lock. */
void ap__span_record_give(struct ap__span *span);

/* The record of an index that the arena has given out. Any thread, no lock. */
struct ap__span *ap__span_by_index(uint32_t index);

/* For tests and debuggers, under the page heap's lock: how many records there are (all indices are below
 * it), and the recycled ones, linked by link.next. */
uint32_t ap__span_record_count(void);
const struct ap__span *ap__span_recycled(void);

/*
 * Who has a wrong pointer reads `state` and `start` without a lock, while the record may become another span's. So they
 * are stored and loaded whole, and each load is one: what was checked is what is used. Plain fields, since a lock or a
 * live block is all that others need; of aligned words a plain access is atomic on every processor there is.
 * relaxed, all four: stores pair with these loads, which promise no more than that the record said so once.
 */
static inline void ap__span_set_state(struct ap__span *span, enum ap__span_state state)
{
    __atomic_store_n(&span->state, (uint8_t)state, __ATOMIC_RELAXED);
}

static inline void ap__span_set_start(struct ap__span *span, uintptr_t start)
{
    __atomic_store_n(&span->start, start, __ATOMIC_RELAXED);
}

static inline enum ap__span_state ap__span_peek_state(const struct ap__span *span)
{
    return (enum ap__span_state)__atomic_load_n(&span->state, __ATOMIC_RELAXED);
}

static inline uintptr_t ap__span_peek_start(const struct ap__span *span)
{
    return __atomic_load_n(&span->start, __ATOMIC_RELAXED);
}

static inline size_t ap__span_bytes(const struct ap__span *span)
{
    return span->granules << AP_PAGE_HEAP_GRANULE_SHIFT;
}

#endif
