/* SPDX-License-Identifier: MIT */
/*
 * central_purge.c: the free pages inside partly used spans go back to the kernel.
 *
 * A span from which no block was taken for some epochs is taken off its list, so that nobody claims from it, and listed
 * again when its free pages have gone: the lock is free for the system calls, and blocks may come back meanwhile.
 */
#include "central/central_free_list.h"
#include "central/shards.h"
#include "central/span_lists.h"
#include "central/span_pages.h"
#include "heap/page_runs.h"
#include "os/os.h"

enum { AWAY_MAX = 64 }; /* spans that are away at a time */

static _Atomic(uint8_t) epoch;

void ap__central_set_epoch(unsigned now)
{
    /* relaxed, as in ap__central_epoch(): late by an epoch is as good. */
    atomic_store_explicit(&epoch, (uint8_t)now, memory_order_relaxed);
}

uint8_t ap__central_epoch(void)
{
    return atomic_load_explicit(&epoch, memory_order_relaxed);
}

/* Epochs since a block of the span was last handed out; wraps, which makes it look younger at worst. */
static unsigned age_of(const struct ap__span *span)
{
    return (uint8_t)(ap__central_epoch() - span->slots.claim_epoch);
}

/* The spans of one purge: those of a class that have been left alone for some epochs. */
struct purge {
    struct ap__shard *shard;
    unsigned age_least, age_most;
    bool refused; /* by the kernel: locked pages, say; trying again would not help */
    bool pending; /* there are spans to purge later */
    unsigned count;
    struct ap__span *spans[AWAY_MAX];
};

static bool is_due(const struct purge *purge, const struct ap__span *span)
{
    unsigned drawn = span->index % (purge->age_most - purge->age_least + 1);
    return age_of(span) >= purge->age_least + drawn;
}

/* Takes spans off a list: those that have had blocks back since they were purged, which come first. */
static void take_away_from_locked(struct purge *purge, unsigned bucket)
{
    struct ap__span *span = purge->shard->lists.buckets[bucket];
    struct ap__span *tail = span != NULL ? span->link.previous : NULL;
    for (bool more = span != NULL; more && !span->slots.is_purged && purge->count < AWAY_MAX;) {
        struct ap__span *next = span->link.next;
        more = span != tail;
        if (!is_due(purge, span)) {
            purge->pending = true;
        } else {
            ap__span_lists_remove(&purge->shard->lists, span);
            ap__span_lists_say_off(span, AP_SPAN_AWAY);
            purge->spans[purge->count++] = span;
        }
        span = next;
    }
}

/* The emptiest first. */
static bool take_away_locked(struct purge *purge)
{
    purge->count = 0;
    for (unsigned bucket = AP_SPAN_BUCKETS; bucket-- > 0;) {
        take_away_from_locked(purge, bucket);
    }
    return purge->count != 0;
}

static unsigned collect_runs_locked(const struct ap__span *span, struct ap__page_run *runs)
{
    const struct ap__size_class *info = &ap__size_class[span->size_class];
    size_t page_bytes = ap__os_page_size();
    unsigned slot = 0;
    unsigned count = 0;
    while (count < AP_SPAN_RUNS_MAX &&
           (runs[count] = ap__span_free_pages(span, info, page_bytes, &slot)).bytes != 0) {
        count++;
    }
    return count;
}

/* Gives the free pages of a span that is away back, and lists it again. Enters and leaves with the lock,
 * which is free in between. */
static size_t purge_span_locked(struct purge *purge, struct ap__span *span)
{
    struct ap__shard *shard = purge->shard;
    size_t purged = 0;
    struct ap__page_run runs[AP_SPAN_RUNS_MAX];
    unsigned count = collect_runs_locked(span, runs);
    span->slots.is_purged = true;
    if (count != 0) {
        ap__lock_release(&shard->lock);
        purged = ap__page_runs_discard(runs, count, &purge->refused);
        ap__lock_take(&shard->lock);
    }
    ap__span_lists_say_off(span, AP_SPAN_NO_BUCKET);
    span->slots.is_purged &= !purge->refused;
    ap__shard_settle_locked(shard, span);
    return purged;
}

static size_t purge_shard(struct purge *purge)
{
    struct ap__shard *shard = purge->shard;
    size_t purged = 0;
    ap__lock_take(&shard->lock);
    /* Not more spans than there are now: others may go on freeing meanwhile. */
    for (size_t left = shard->lists.members;
         left > 0 && !purge->refused && take_away_locked(purge);) {
        for (unsigned i = 0; i < purge->count; i++) {
            purged += purge_span_locked(purge, purge->spans[i]);
        }
        left -= ap__min(left, purge->count);
    }
    ap__lock_release(&shard->lock);
    return purged;
}

size_t ap__central_purge(unsigned size_class, unsigned age_least, unsigned age_most, bool *pending)
{
    struct purge purge = {.age_least = age_least, .age_most = age_most};
    size_t purged = 0;
    for (unsigned number = 0; number < ap__central_shards(size_class) && !purge.refused; number++) {
        purge.shard = ap__shard_at(number, size_class);
        purged += purge_shard(&purge);
    }
    *pending |= purge.pending && !purge.refused;
    return purged;
}
