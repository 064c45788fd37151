/* SPDX-License-Identifier: MIT */
/* pack_lists.c: insert, remove, find. Cost: a few words; find() looks at eight spans at most. */
#include "pack/pack_lists.h"

#include "heap/span_ring.h"

#include <limits.h>

enum { TRIES = 8 }; /* spans of a list some of which have too short runs */

/* The list of spans whose longest run has `units`, not 0. */
static unsigned bucket_of(unsigned units)
{
    unsigned high = ap__highest_bit(units);
    if (high < AP_PACK_RUN_SHIFT) {
        return AP_PACK_NO_BUCKET;
    }
    return (high - AP_PACK_RUN_SHIFT) * 4 + (units >> (high - 2) & 3);
}

static unsigned bucket_of_span(const struct ap__span *span)
{
    unsigned units = span->packed.longest_most;
    return units == 0 ? AP_PACK_NO_BUCKET : bucket_of(units);
}

void ap__pack_lists_insert(struct ap__pack_lists *lists, struct ap__span *span)
{
    unsigned bucket = bucket_of_span(span);
    span->packed.bucket = (uint8_t)bucket;
    if (bucket == AP_PACK_NO_BUCKET) {
        return;
    }
    ap__span_ring_insert(&lists->buckets[bucket], span, !span->packed.is_purged);
    lists->occupied |= UINT32_C(1) << bucket;
}

void ap__pack_lists_remove(struct ap__pack_lists *lists, struct ap__span *span, unsigned why)
{
    unsigned bucket = span->packed.bucket;
    span->packed.bucket = (uint8_t)why;
    if (bucket >= AP_PACK_BUCKETS) {
        return;
    }
    ap__span_ring_remove(&lists->buckets[bucket], span);
    if (lists->buckets[bucket] == NULL) {
        lists->occupied &= ~(UINT32_C(1) << bucket);
    }
}

bool ap__pack_lists_is_misplaced(const struct ap__span *span)
{
    return span->packed.bucket != bucket_of_span(span);
}

void ap__pack_lists_move(struct ap__pack_lists *lists, struct ap__span *span)
{
    ap__pack_lists_remove(lists, span, AP_PACK_NO_BUCKET);
    ap__pack_lists_insert(lists, span);
}

/* Of a list whose spans may have too short runs, one of the first `most`. */
static struct ap__span *find_in(struct ap__span *head, unsigned units, unsigned most)
{
    struct ap__span *span = head;
    for (unsigned tries = 0; tries < most && span != NULL; tries++) {
        if (span->packed.longest_most >= units) {
            return span;
        }
        span = span->link.next != head ? span->link.next : NULL;
    }
    return NULL;
}

static struct ap__span *find(const struct ap__pack_lists *lists, unsigned units, unsigned most)
{
    unsigned bucket = bucket_of(units);
    struct ap__span *span = find_in(lists->buckets[bucket], units, most);
    uint32_t above = lists->occupied & ~UINT32_C(1) << bucket;
    if (span == NULL && above != 0) {
        span = lists->buckets[ap__lowest_bit(above)];
    }
    return span;
}

struct ap__span *ap__pack_lists_find(const struct ap__pack_lists *lists, unsigned units)
{
    return find(lists, units, TRIES);
}

struct ap__span *ap__pack_lists_find_any(const struct ap__pack_lists *lists, unsigned units)
{
    return find(lists, units, UINT_MAX);
}
