/* SPDX-License-Identifier: MIT */
/* span_lists.c: insert, remove, move. Cost: a few words, and one division when a span changes its bucket. */
#include "central/span_lists.h"

#include "heap/span_ring.h"

static unsigned bucket_of(const struct ap__span *span)
{
    unsigned slots = ap__size_class[span->size_class].slots;
    return span->slots.free_slots == 0
               ? AP_SPAN_NO_BUCKET
               : (unsigned)(span->slots.free_slots - 1) * AP_SPAN_BUCKETS / slots;
}

/* Says where a span is, and how many free slots keep it there: the smallest and the largest number of which
 * bucket_of() is this one. Whoever changes the number need not divide to see that nothing else changes. */
static void set_bucket(struct ap__span *span, unsigned bucket)
{
    unsigned slots = ap__size_class[span->size_class].slots;
    unsigned least = 0;
    unsigned most = 0; /* NO_BUCKET */
    if (bucket < AP_SPAN_BUCKETS) {
        least = 1 + (bucket * slots + AP_SPAN_BUCKETS - 1) / AP_SPAN_BUCKETS;
        most = 1 + ((bucket + 1) * slots - 1) / AP_SPAN_BUCKETS;
    } else if (bucket == AP_SPAN_AWAY) {
        most = UINT16_MAX;
    }
    span->slots.bucket = (uint8_t)bucket;
    span->slots.bucket_least = (uint16_t)least;
    span->slots.bucket_most = (uint16_t)most;
}

void ap__span_lists_say_off(struct ap__span *span, unsigned why)
{
    set_bucket(span, why);
}

struct ap__span *ap__span_lists_second(const struct ap__span_lists *lists)
{
    struct ap__span *first = ap__span_lists_first(lists);
    if (first == NULL || first->link.next != first) {
        return first != NULL ? first->link.next : NULL;
    }
    unsigned others = lists->occupied & (lists->occupied - 1u);
    return others != 0 ? lists->buckets[ap__lowest_bit(others)] : NULL;
}

/* After each change: whether there are two lists, or one with two spans. */
static inline void note_spare(struct ap__span_lists *lists)
{
    unsigned occupied = lists->occupied;
    bool has_spare = (occupied & (occupied - 1)) != 0;
    if (!has_spare && occupied != 0) {
        const struct ap__span *first = lists->buckets[ap__lowest_bit(occupied)];
        has_spare = first->link.next != first;
    }
    /* relaxed: a hint. */
    atomic_store_explicit(&lists->has_spare, has_spare, memory_order_relaxed);
}

void ap__span_lists_insert(struct ap__span_lists *lists, struct ap__span *span)
{
    unsigned bucket = bucket_of(span);
    set_bucket(span, bucket);
    if (bucket == AP_SPAN_NO_BUCKET) {
        return;
    }
    ap__span_ring_insert(&lists->buckets[bucket], span, !span->slots.is_purged);
    lists->occupied |= (uint8_t)(1u << bucket);
    note_spare(lists);
}

void ap__span_lists_remove(struct ap__span_lists *lists, struct ap__span *span)
{
    unsigned bucket = span->slots.bucket;
    ap__span_ring_remove(&lists->buckets[bucket], span);
    if (lists->buckets[bucket] == NULL) {
        lists->occupied &= (uint8_t) ~(1u << bucket);
    }
    note_spare(lists);
}

AP_NOINLINE void ap__span_lists_move(struct ap__span_lists *lists, struct ap__span *span)
{
    if (span->slots.bucket != AP_SPAN_NO_BUCKET) {
        ap__span_lists_remove(lists, span);
    }
    ap__span_lists_insert(lists, span);
}
