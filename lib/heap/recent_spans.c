/* SPDX-License-Identifier: MIT */
/*
 * recent_spans.c: one word a slot: the span's length and its record's index.
 *
 * The length stands in the word because the record may not be looked at before it is ours: another thread may
 * have taken the span, and the page heap may be at work on it. An exchange or a compare-and-swap passes a span
 * on, whole. That the same word may have gone and come back in between does no harm: it is the same span, and it
 * is in the slot.
 */
#include "heap/recent_spans.h"

#include <stdatomic.h>

#include "os/lock.h"
#include "os/thread_sanitizer.h"
#include "os/yield.h"

enum { SLOTS_SHIFT = 4, SLOTS = 1 << SLOTS_SHIFT, INDEX_BITS = 32 };
#define EMPTY UINT64_C(0)

static struct {
    _Atomic(uint64_t) word;
} AP_CACHE_ALIGNED slots[SLOTS];

static _Atomic(uint64_t) *mine(void)
{
    /* The golden ratio spreads addresses that differ in few bits (Knuth, "Sorting and Searching", 6.4). */
    uint64_t hash = (uint64_t)ap__lock_self() * UINT64_C(0x9E3779B97F4A7C15);
    return &slots[hash >> (64 - SLOTS_SHIFT)].word;
}

static uint64_t word_of(const struct ap__span *span)
{
    return (uint64_t)span->granules << INDEX_BITS | span->index;
}

static struct ap__span *span_of(uint64_t word)
{
    return word == EMPTY ? NULL : ap__span_by_index((uint32_t)word);
}

struct ap__span *ap__recent_spans_take(size_t granules)
{
    _Atomic(uint64_t) *slot = mine();
    /* relaxed: only whether it is worth a try. */
    uint64_t word = atomic_load_explicit(slot, memory_order_relaxed);
    if (word == EMPTY || word >> INDEX_BITS != granules) {
        return NULL;
    }
    AP__YIELD_POINT();
    /* acquire: what its last owner wrote to the record; pairs with the release in exchange(). */
    bool taken = atomic_compare_exchange_strong_explicit(slot, &word, EMPTY, memory_order_acquire,
                                                         memory_order_relaxed);
    if (!taken) {
        return NULL;
    }
    ap__tsan_find(slot);
    return span_of(word);
}

struct ap__span *ap__recent_spans_exchange(struct ap__span *span)
{
    if (span->granules > AP_RECENT_GRANULES_MAX) {
        return span;
    }
    _Atomic(uint64_t) *slot = mine();
    AP__YIELD_POINT();
    ap__tsan_leave(slot);
    /* release: the record, for who takes the span; acquire: the record of the one that was there. */
    uint64_t before = atomic_exchange_explicit(slot, word_of(span), memory_order_acq_rel);
    ap__tsan_find(slot);
    return span_of(before);
}

struct ap__span *ap__recent_spans_take_any(void)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        /* relaxed: an empty slot is not written to. */
        if (atomic_load_explicit(&slots[i].word, memory_order_relaxed) != EMPTY) {
            AP__YIELD_POINT();
            /* acquire: as in take(). */
            uint64_t word = atomic_exchange_explicit(&slots[i].word, EMPTY, memory_order_acquire);
            if (word != EMPTY) {
                ap__tsan_find(&slots[i].word);
                return span_of(word);
            }
        }
    }
    return NULL;
}
