/* SPDX-License-Identifier: MIT */
/*
 * span_lists.h: spans of one class that have free slots, in lists by how full they are.
 *
 * Bucket 0 holds the fullest, the last one the emptiest. Lists are circular: the head's `previous` is the tail. Spans
 * whose free pages have been given back go to the tail, all others to the head, so that a list holds those that may
 * be purged first, then those that are, and claims prefer memory that is there.
 * Does not: lock, or know what the slots are for. The caller holds the lock that guards the lists.
 */
#ifndef AP_CENTRAL_SPAN_LISTS_H
#define AP_CENTRAL_SPAN_LISTS_H

#include <stdatomic.h>

#include "base/bits.h"
#include "heap/span.h"

enum {
    AP_SPAN_BUCKETS = 6,
    AP_SPAN_NO_BUCKET = AP_SPAN_BUCKETS, /* no free slot: on no list */
    AP_SPAN_AWAY /* being purged: on no list, so that nothing is claimed from it */
};

struct ap__span_lists {
    struct ap__span *buckets[AP_SPAN_BUCKETS];
    uint8_t occupied; /* bit b: bucket b is not empty */
    /* There is more than one span. Written with the lock; a look without it may be late. */
    _Atomic(bool) has_spare;
    uint32_t
        members; /* spans that belong here, those on no list included; counted by the caller, kept here for room */
};

/* Puts a span that is on no list onto the one of its free slots, or onto none if it has none. */
void ap__span_lists_insert(struct ap__span_lists *lists, struct ap__span *span);

/* Takes a span off its list; what it says of its bucket is the caller's to change. */
void ap__span_lists_remove(struct ap__span_lists *lists, struct ap__span *span);

/* Says that a span which is on no list has none, and why: AP_SPAN_NO_BUCKET or AP_SPAN_AWAY. */
void ap__span_lists_say_off(struct ap__span *span, unsigned why);

/* The next to claim from: of the fullest spans, one whose pages are there, if any is. NULL: there is no span. */
static inline struct ap__span *ap__span_lists_first(const struct ap__span_lists *lists)
{
    return lists->occupied != 0 ? lists->buckets[ap__lowest_bit(lists->occupied)] : NULL;
}

/* The one after it. NULL: there is none. */
struct ap__span *ap__span_lists_second(const struct ap__span_lists *lists);

/* Puts a span that is not away anew onto the list where it belongs: its number of free slots has left the range of its
 * bucket, or its pages are there again. */
void ap__span_lists_move(struct ap__span_lists *lists, struct ap__span *span);

/* Puts a span whose number of free slots has changed on the list where it belongs. */
static inline void ap__span_lists_relist(struct ap__span_lists *lists, struct ap__span *span)
{
    unsigned free_slots = span->slots.free_slots;
    if (AP_UNLIKELY(free_slots < span->slots.bucket_least ||
                    free_slots > span->slots.bucket_most)) {
        ap__span_lists_move(lists, span);
    }
}

#endif
