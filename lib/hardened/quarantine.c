/* SPDX-License-Identifier: MIT */
/*
 * quarantine.c: a ring of entries under one lock.
 *
 * The ring has one place for each RING_BYTES of the bound, so that of small blocks the places
 * are what runs out first: then the oldest has to leave early.
 */
#include "hardened/quarantine.h"

#include "base/bits.h"
#include "heap/span.h"
#include "meta/meta.h"
#include "os/lock.h"

enum { RING_BYTES = 64, PLACES_MIN = 1024, PLACES_MAX = 1 << 20 };

static struct ap__lock lock = AP_LOCK_INIT(AP__RANK_QUARANTINE);
static size_t bound_bytes; /* constant */
/* All below: under `lock`. */
static struct ap__quarantined *ring;
static size_t places; /* a power of two; 0: no ring yet */
static size_t oldest; /* counts up; its place is the rest modulo `places` */
static size_t newest; /* one behind the last */
static size_t held_bytes;
static struct ap__quarantine_stats figures;

struct ap__lock *ap__quarantine_lock(void)
{
    return &lock;
}

void ap__quarantine_init(size_t bytes_most)
{
    bound_bytes = bytes_most;
}

static bool make_ring_locked(void)
{
    size_t wanted = ap__max(ap__min(bound_bytes / RING_BYTES, PLACES_MAX), PLACES_MIN);
    wanted = ap__power_of_two_ceiling(wanted);
    ring = ap__meta_map(wanted * sizeof *ring);
    places = ring != NULL ? wanted : 0;
    return ring != NULL;
}

static void count(struct ap__quarantined entry, size_t sign)
{
    held_bytes += sign * entry.bytes;
    if (entry.size_class != 0) {
        figures.blocks += sign;
        figures.block_bytes += sign * entry.bytes;
    } else {
        figures.large += sign;
        figures.large_bytes += sign * ap__span_bytes(entry.p);
    }
}

bool ap__quarantine_push(struct ap__quarantined entry)
{
    if (entry.bytes > bound_bytes) {
        return false;
    }
    ap__lock_take(&lock);
    bool has_place = (places != 0 || make_ring_locked()) && newest - oldest < places;
    if (has_place) {
        ring[newest++ & (places - 1)] = entry;
        count(entry, 1);
    }
    ap__lock_release(&lock);
    return has_place;
}

static bool must_leave_locked(bool everything)
{
    return newest != oldest &&
           (everything || held_bytes > bound_bytes || newest - oldest == places);
}

unsigned ap__quarantine_pop(struct ap__quarantined *entries, unsigned most, bool everything)
{
    unsigned got = 0;
    ap__lock_take(&lock);
    while (got < most && must_leave_locked(everything)) {
        struct ap__quarantined entry = ring[oldest++ & (places - 1)];
        count(entry, SIZE_MAX); /* minus one */
        entries[got++] = entry;
    }
    ap__lock_release(&lock);
    return got;
}

void ap__quarantine_stats(struct ap__quarantine_stats *stats)
{
    ap__lock_take(&lock);
    *stats = figures;
    ap__lock_release(&lock);
}
