/* SPDX-License-Identifier: MIT */
/*
 * central_free_list.c: spans of one class in lists by how full they are.
 *
 * Bucket 0 holds the fullest spans that still have a free slot, the last one the emptiest. Blocks are
 * taken from the lowest non-empty bucket, so that sparse spans drain and can go back to the page heap.
 * A fully used span is on no list, and a drained one goes back to the page heap at once: threads' lists
 * keep what a program that frees and allocates around a span's boundary needs. Refused: one drained span
 * kept for each class; no fewer instructions, and a tenth more memory where sizes shift.
 *
 * Cost: one lock a batch. A block costs a bit scan on the way out, two multiplications on the way in; less where
 * blocks lie side by side.
 */
#include "central/central_free_list.h"

#include <string.h>

#include "base/counter.h"
#include "central/own_lines.h"
#include "central/span_pages.h"
#include "guard/misuse.h"
#include "heap/huge_pages.h"
#include "heap/page_heap.h"
#include "heap/region.h"
#include "meta/meta.h"
#include "os/bell.h"
#include "os/lock.h"
#include "os/os.h"

enum {
    BUCKETS = 6,
    NO_BUCKET = BUCKETS,
    AWAY,                      /* being purged: on no list, so that nothing is claimed from it */
    AWAY_MAX = 64,             /* spans that are away at a time */
    RUNS_MAX = 32,             /* page runs that are given back without the lock at a time */
    BLOCKS_BETWEEN_LOOKS = 16, /* so that looking for runs costs little where there are none */
    POPULATE_SPANS_MIN = 8,    /* so that a class holds at most an eighth more than it uses */
    BUCKET_MASK = (1 << BUCKETS) - 1,
};

struct central {
    struct ap__lock lock;
    /* All below: under `lock`. */
    struct ap__span *buckets[BUCKETS];
    uint32_t occupied; /* bit b: bucket b is not empty */
    uint32_t spans;
    _Atomic(uint64_t) claimed; /* blocks; read without the lock, too */
} AP_CACHE_ALIGNED;
_Static_assert(sizeof(struct central) == (size_t)2 * AP_CACHE_LINE,
               "one pair of cache lines a class");

static struct central centrals[AP_CLASS_COUNT] = {
    [0 ... AP_CLASS_COUNT - 1] = {.lock = AP_LOCK_INIT(AP__RANK_CENTRAL)}};

/* Set by init, constant afterwards. */
static bool populates;

static _Atomic(uint8_t) epoch;

void ap__central_init(bool populate)
{
    populates = populate;
}

struct ap__lock *ap__central_lock(unsigned size_class)
{
    return &centrals[size_class].lock;
}

size_t ap__central_claimed(unsigned size_class)
{
    return atomic_load_explicit(&centrals[size_class].claimed, memory_order_relaxed);
}

static unsigned bucket_of(const struct ap__span *span)
{
    unsigned slots = ap__size_class[span->size_class].slots;
    return span->slots.free_slots == 0 ? NO_BUCKET
                                       : (unsigned)(span->slots.free_slots - 1) * BUCKETS / slots;
}

/* Says where a span is, and how many free slots keep it there: the smallest and the largest number of which
 * bucket_of() is this one. Whoever changes the number need not divide to see that nothing else changes. */
static void set_bucket(struct ap__span *span, unsigned bucket)
{
    unsigned slots = ap__size_class[span->size_class].slots;
    unsigned least = 0;
    unsigned most = 0; /* NO_BUCKET */
    if (bucket < BUCKETS) {
        least = 1 + (bucket * slots + BUCKETS - 1) / BUCKETS;
        most = 1 + ((bucket + 1) * slots - 1) / BUCKETS;
    } else if (bucket == AWAY) {
        most = UINT16_MAX;
    }
    span->slots.bucket = (uint8_t)bucket;
    span->slots.bucket_least = (uint16_t)least;
    span->slots.bucket_most = (uint16_t)most;
}

/* Lists are circular: the head's `previous` is the tail. Spans whose free pages have been given back go
 * to the tail, all others to the head, so that a list holds those that may be purged first, then those
 * that are, and claims prefer memory that is there. */
static void list_insert(struct central *central, struct ap__span *span, unsigned bucket)
{
    struct ap__span *head = central->buckets[bucket];
    set_bucket(span, bucket);
    if (head == NULL) {
        span->link = (struct ap__span_link){span, span};
    } else {
        span->link = (struct ap__span_link){.next = head, .previous = head->link.previous};
        head->link.previous->link.next = span;
        head->link.previous = span;
    }
    if (head == NULL || !span->slots.is_purged) {
        central->buckets[bucket] = span;
    }
    central->occupied |= (1u << bucket) & BUCKET_MASK;
}

static void list_remove(struct central *central, struct ap__span *span)
{
    unsigned bucket = span->slots.bucket;
    struct ap__span *next = span->link.next;
    if (next == span) {
        central->buckets[bucket] = NULL;
        central->occupied &= ~(1u << bucket) & BUCKET_MASK;
        return;
    }
    next->link.previous = span->link.previous;
    span->link.previous->link.next = next;
    if (central->buckets[bucket] == span) {
        central->buckets[bucket] = next;
    }
}

static AP_NOINLINE void move_to_its_bucket(struct central *central, struct ap__span *span)
{
    unsigned bucket = bucket_of(span);
    if (span->slots.bucket != NO_BUCKET) {
        list_remove(central, span);
    }
    if (bucket < BUCKETS) {
        list_insert(central, span, bucket);
    } else {
        set_bucket(span, NO_BUCKET);
    }
}

/* Puts a span whose number of free slots has changed on the list where it belongs. */
static inline void relist(struct central *central, struct ap__span *span)
{
    unsigned free_slots = span->slots.free_slots;
    if (AP_UNLIKELY(free_slots < span->slots.bucket_least ||
                    free_slots > span->slots.bucket_most)) {
        move_to_its_bucket(central, span);
    }
}

static size_t bitmap_bytes(unsigned slots)
{
    return ap__slot_map_words(slots) * sizeof(uint64_t);
}

void ap__central_set_epoch(unsigned now)
{
    /* relaxed, as in ap__central_epoch(): late by an epoch is as good. */
    atomic_store_explicit(&epoch, (uint8_t)now, memory_order_relaxed);
}

uint8_t ap__central_epoch(void)
{
    return atomic_load_explicit(&epoch, memory_order_relaxed);
}

static void note_claim(struct ap__span *span)
{
    span->slots.claim_epoch = ap__central_epoch();
}

/* Epochs since a block of the span was last handed out; wraps, which makes it look younger at worst. */
static unsigned age_of(const struct ap__span *span)
{
    return (uint8_t)(ap__central_epoch() - span->slots.claim_epoch);
}

static bool is_drained(const struct ap__span *span)
{
    return span->slots.free_slots == ap__size_class[span->size_class].slots;
}

/* Whether nothing of the span can be resident yet. */
static bool is_clean(const struct ap__span *span)
{
    return !span->outside &&
           ap__region_count_dirty(ap__region_granule_of(span->start), span->granules) == 0;
}

static bool add_span_locked(struct central *central, unsigned size_class)
{
    const struct ap__size_class *info = &ap__size_class[size_class];
    uint64_t *bitmap = ap__meta_take(bitmap_bytes(info->slots));
    if (bitmap == NULL) {
        return false;
    }
    struct ap__span *span = ap__page_heap_take(info->span_granules, AP_GRANULE, size_class);
    if (span == NULL) {
        ap__meta_give(bitmap, bitmap_bytes(info->slots));
        return false;
    }
    span->slots.bitmap = bitmap;
    span->slots.is_new = true;
    span->slots.is_purged = is_clean(span);
    note_claim(span);
    ap__slot_map_fill(span, info->slots);
    list_insert(central, span, bucket_of(span));
    central->spans++;
    return true;
}

static void remove_span_locked(struct central *central, struct ap__span *span)
{
    uint64_t *bitmap = span->slots.bitmap;
    unsigned slots = ap__size_class[span->size_class].slots;
    list_remove(central, span);
    central->spans--;
    ap__page_heap_give(span);
    ap__meta_give(bitmap, bitmap_bytes(slots));
}

/*
 * A fault a page is most of what a growing heap pays. A class that has many spans will fill this one
 * too: one call brings all of its pages.
 */
static bool is_worth_populating(const struct central *central, const struct ap__span *span)
{
    return populates && central->spans >= POPULATE_SPANS_MIN &&
           !ap__huge_pages_expected(span->start) && is_clean(span);
}

/* Free pages of it may be resident from now on: it belongs to the head of its list. */
static void become_unpurged_locked(struct central *central, struct ap__span *span)
{
    if (span->slots.is_purged) {
        span->slots.is_purged = false;
        if (span->slots.bucket < BUCKETS) {
            list_remove(central, span);
            set_bucket(span, NO_BUCKET);
        }
    }
}

unsigned ap__central_take(unsigned size_class, void **blocks, unsigned count)
{
    struct ap__span *fresh = NULL;
    void **end = blocks + count;
    struct central *central = &centrals[size_class];
    const struct ap__size_class *info = &ap__size_class[size_class];
    unsigned got = 0;
    ap__lock_take(&central->lock);
    while (got < count && (central->occupied != 0 || add_span_locked(central, size_class))) {
        struct ap__span *span = central->buckets[ap__lowest_bit(central->occupied)];
        if (span->slots.is_new) {
            span->slots.is_new = false;
            if (is_worth_populating(central, span)) {
                become_unpurged_locked(central, span);
                fresh = span;
            }
        }
        note_claim(span);
        got += ap__slot_map_claim(span, info->size, end - got, count - got);
        relist(central, span);
    }
    ap__counter_add(&central->claimed, got);
    ap__lock_release(&central->lock);
    /* Without the lock; some of its blocks are ours, so the span stays. */
    if (fresh != NULL) {
        (void)ap__os_populate((void *)fresh->start, ap__span_bytes(fresh));
    }
    if (AP_UNLIKELY(got < count)) {
        memmove(blocks, end - got, got * sizeof *blocks);
    }
    return got;
}

static unsigned take_lines_locked(struct central *central, unsigned size_class, void **blocks,
                                  unsigned count)
{
    const struct ap__size_class *info = &ap__size_class[size_class];
    for (uint32_t left = central->occupied; left != 0; left &= left - 1) {
        struct ap__span *span = central->buckets[ap__lowest_bit(left)];
        unsigned got = ap__slot_map_claim_lines(span, info, blocks, count);
        if (got != 0) {
            note_claim(span);
            relist(central, span);
            return got;
        }
    }
    return 0;
}

unsigned ap__central_take_lines(unsigned size_class, void **blocks, unsigned count)
{
    struct central *central = &centrals[size_class];
    ap__lock_take(&central->lock);
    unsigned got = take_lines_locked(central, size_class, blocks, count);
    ap__counter_add(&central->claimed, got);
    ap__lock_release(&central->lock);
    return got;
}

/* The same for an address that is not in the region. */
static AP_NOINLINE struct ap__span *outside_span_of_class(unsigned size_class, const void *p)
{
    struct ap__span *span = ap__page_heap_span_of((uintptr_t)p);
    bool is_of_class =
        span != NULL && span->state == AP__SPAN_SMALL && span->size_class == size_class;
    return is_of_class ? span : NULL;
}

/* The span of the class that an address lies in, NULL if it lies in none. */
static inline struct ap__span *span_of_class(unsigned size_class, const void *p)
{
    size_t granule = ap__region_granule_of((uintptr_t)p);
    if (AP_UNLIKELY(granule >= ap__region_limit_granules())) {
        return outside_span_of_class(size_class, p);
    }
    /* The class map knows what the record says, and is smaller. */
    return ap__region_class_of(granule) == size_class ? ap__region_span_of(granule) : NULL;
}

static inline bool is_in(const struct ap__span *span, const void *p)
{
    return (uintptr_t)p - span->start < ap__span_bytes(span);
}

/* Which slot of the span begins at `p`. `false`: none. */
static inline bool find_slot(const struct ap__span *span, const struct ap__size_class *info,
                             const void *p, unsigned *slot)
{
    return ap__slot_starts_at(info, (uintptr_t)p - span->start, slot);
}

enum given { GIVEN, WAS_NO_SLOT, WAS_FREE };

/* Why an address is not the start of a slot. Its span may be gone: a double free found late. */
AP_COLD static enum ap__misuse_cause why_no_slot(unsigned size_class, const void *p)
{
    const struct ap__span *span = ap__page_heap_span_of((uintptr_t)p);
    bool inside = span != NULL && span->state == AP__SPAN_SMALL && span->size_class == size_class;
    return inside ? AP__MISUSE_INTERIOR : AP__MISUSE_NOT_LIVE;
}

/* Brings a span that blocks have been given to onto the list where it belongs now, or out. */
static void settle_locked(struct central *central, struct ap__span *span)
{
    relist(central, span);
    if (span->slots.bucket != AWAY && is_drained(span)) {
        remove_span_locked(central, span);
    }
}

/* Blocks that lie side by side, in either order: what was allocated in order is often freed in order. */
struct block_run {
    unsigned count; /* 1 to AP_SLOT_WORD_BITS */
    unsigned first; /* the lowest slot */
};

static inline bool are_side_by_side(const struct ap__size_class *info, void *const *blocks,
                                    unsigned count)
{
    if (count < 2) {
        return false;
    }
    uintptr_t step = (uintptr_t)blocks[1] - (uintptr_t)blocks[0];
    return step == info->size || step == (uintptr_t)0 - info->size;
}

/* How many of `most` blocks follow each other at a distance of `step`. One has to look at each; four at a time, because
 * most blocks come by here on their way back. */
static inline unsigned count_in_step(void *const *blocks, unsigned most, uintptr_t step)
{
    uintptr_t next = (uintptr_t)blocks[0];
    unsigned count = 0;
    for (; count + 4 <= most; count += 4, next += 4 * step) {
        uintptr_t differences = ((uintptr_t)blocks[count] ^ next) |
                                ((uintptr_t)blocks[count + 1] ^ (next + step)) |
                                ((uintptr_t)blocks[count + 2] ^ (next + 2 * step)) |
                                ((uintptr_t)blocks[count + 3] ^ (next + 3 * step));
        if (differences != 0) {
            break;
        }
    }
    for (; count < most && (uintptr_t)blocks[count] == next; next += step) {
        count++;
    }
    return count;
}

/* The run at the start of `count` blocks, the first of which is slot `slot` of its span. */
static inline struct block_run find_run(const struct ap__size_class *info, void *const *blocks,
                                        unsigned count, unsigned slot)
{
    struct block_run run = {.count = 1, .first = slot};
    if (!are_side_by_side(info, blocks, count)) {
        return run;
    }
    uintptr_t step = (uintptr_t)blocks[1] - (uintptr_t)blocks[0];
    bool is_upwards = step == info->size;
    unsigned in_span = is_upwards ? info->slots - slot : slot + 1;
    unsigned most = (unsigned)ap__min(ap__min(count, in_span), AP_SLOT_WORD_BITS);
    run.count = count_in_step(blocks, most, step);
    run.first = is_upwards ? slot : slot - (run.count - 1);
    return run;
}

/* The same for a whole run of blocks side by side, for which one look at the bitmap will do. Returns how many, 0
 * if the first block is no run's, or there is something wrong with it. */
static AP_NOINLINE unsigned give_side_by_side_locked(struct ap__span *span,
                                                     const struct ap__size_class *info,
                                                     void *const *blocks, unsigned count)
{
    unsigned slot;
    if (!find_slot(span, info, blocks[0], &slot)) {
        return 0;
    }
    struct block_run run = find_run(info, blocks, count, slot);
    struct ap__slot_release release = ap__slot_map_release_begin(span);
    if (!ap__slot_map_release_run(&release, run.first, run.count)) {
        return 0;
    }
    ap__slot_map_release_end(span, &release, run.count);
    return run.count;
}

/*
 * Gives blocks to a span as long as they lie in it: blocks that come together are mostly of one span, so a block
 * costs two multiplications and no look at any map. Returns how many.
 */
static inline unsigned give_each_locked(struct ap__span *span, const struct ap__size_class *info,
                                        void *const *blocks, unsigned count, enum given *given)
{
    struct ap__slot_release release = ap__slot_map_release_begin(span);
    uintptr_t start = span->start;
    size_t bytes = ap__span_bytes(span);
    unsigned done = 0;
    for (; done < count && (uintptr_t)blocks[done] - start < bytes; done++) {
        unsigned slot;
        bool is_slot = ap__slot_starts_at(info, (uintptr_t)blocks[done] - start, &slot);
        if (AP_MISUSED(!is_slot)) {
            *given = WAS_NO_SLOT;
            break;
        }
        bool was_claimed = ap__slot_map_release(&release, slot);
        if (AP_MISUSED(!was_claimed)) {
            *given = WAS_FREE;
            break;
        }
    }
    ap__slot_map_release_end(span, &release, done);
    return done;
}

static inline unsigned give_run_locked(struct ap__span *span, const struct ap__size_class *info,
                                       void *const *blocks, unsigned count, enum given *given)
{
    if (are_side_by_side(info, blocks, count)) {
        unsigned done = give_side_by_side_locked(span, info, blocks, count);
        if (done != 0) {
            return done;
        }
    }
    return give_each_locked(span, info, blocks, (unsigned)ap__min(count, BLOCKS_BETWEEN_LOOKS),
                            given);
}

void ap__central_give(unsigned size_class, void *const *blocks, unsigned count,
                      const char *function)
{
    struct central *central = &centrals[size_class];
    enum given given = GIVEN;
    unsigned done = 0;
    ap__lock_take(&central->lock);
    while (done < count && given == GIVEN) {
        struct ap__span *span = span_of_class(size_class, blocks[done]);
        if (AP_UNLIKELY(span == NULL)) {
            given = WAS_NO_SLOT;
            break;
        }
        unsigned run =
            give_run_locked(span, &ap__size_class[size_class], blocks + done, count - done, &given);
        done += run;
        if (run != 0) {
            become_unpurged_locked(central, span);
            settle_locked(central, span);
        }
    }
    ap__counter_add(&central->claimed, -(uint64_t)done);
    ap__lock_release(&central->lock);
    ap__bell_ring(&ap__heap_bell);
    /* Reported without the lock: the program may have a handler for SIGABRT, and it may allocate. */
    if (AP_UNLIKELY(given != GIVEN)) {
        ap__misuse(function, blocks[done],
                   given == WAS_FREE ? AP__MISUSE_DOUBLE_FREE
                                     : why_no_slot(size_class, blocks[done]));
    }
}

bool ap__central_is_slot(unsigned size_class, const void *p)
{
    unsigned slot;
    const struct ap__span *span = span_of_class(size_class, p);
    return span != NULL && find_slot(span, &ap__size_class[size_class], p, &slot);
}

/*
 * Which slot of its span begins at `p`. `false`: none. *span: the one that the last `p` lay in, or NULL; most lie in the
 * same. Of spans of one granule no record is read: whoever has the class' lock writes to these.
 */
static inline bool find_slot_anywhere(unsigned size_class, const struct ap__size_class *info,
                                      const void *p, const struct ap__span **span, unsigned *slot)
{
    size_t granule = ap__region_granule_of((uintptr_t)p);
    if (info->span_granules == 1 && AP_LIKELY(granule < ap__region_limit_granules())) {
        return ap__region_class_of(granule) == size_class &&
               ap__slot_starts_at(info, (uintptr_t)p % AP_GRANULE, slot);
    }
    if (*span == NULL || !is_in(*span, p)) {
        *span = span_of_class(size_class, p);
    }
    return *span != NULL && find_slot(*span, info, p, slot);
}

void ap__central_check_slots(unsigned size_class, void *const *blocks, unsigned count,
                             const char *function)
{
    const struct ap__size_class *info = &ap__size_class[size_class];
    const struct ap__span *span = NULL;
    for (unsigned i = 0; AP_CHECKS && i < count;) {
        unsigned slot;
        if (AP_MISUSED(!find_slot_anywhere(size_class, info, blocks[i], &span, &slot))) {
            ap__misuse(function, blocks[i], why_no_slot(size_class, blocks[i]));
        }
        i += find_run(info, blocks + i, count - i, slot).count;
    }
}

bool ap__central_is_free(unsigned size_class, const void *p)
{
    struct central *central = &centrals[size_class];
    unsigned slot;
    ap__lock_take(&central->lock);
    const struct ap__span *span = span_of_class(size_class, p);
    bool is_free = span != NULL && find_slot(span, &ap__size_class[size_class], p, &slot) &&
                   ap__slot_map_is_free(span, slot);
    ap__lock_release(&central->lock);
    return is_free;
}

/* ------------------------------------------------------------ purging */

/* The spans of one purge: those of a class that have been left alone for some epochs. */
struct purge {
    struct central *central;
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
    struct ap__span *span = purge->central->buckets[bucket];
    struct ap__span *tail = span != NULL ? span->link.previous : NULL;
    for (bool more = span != NULL; more && !span->slots.is_purged && purge->count < AWAY_MAX;) {
        struct ap__span *next = span->link.next;
        more = span != tail;
        if (!is_due(purge, span)) {
            purge->pending = true;
        } else {
            list_remove(purge->central, span);
            set_bucket(span, AWAY);
            purge->spans[purge->count++] = span;
        }
        span = next;
    }
}

/* The emptiest first. */
static bool take_away_locked(struct purge *purge)
{
    purge->count = 0;
    for (unsigned bucket = BUCKETS; bucket-- > 0;) {
        take_away_from_locked(purge, bucket);
    }
    return purge->count != 0;
}

static unsigned collect_runs_locked(const struct ap__span *span, struct ap__page_run *runs,
                                    unsigned *slot)
{
    const struct ap__size_class *info = &ap__size_class[span->size_class];
    size_t page_bytes = ap__os_page_size();
    unsigned count = 0;
    while (count < RUNS_MAX &&
           (runs[count] = ap__span_free_pages(span, info, page_bytes, slot)).bytes != 0) {
        count++;
    }
    return count;
}

/* Gives the free pages of a span that is away back, and lists it again. Enters and leaves with the lock,
 * which is free in between. */
static size_t purge_span_locked(struct purge *purge, struct ap__span *span)
{
    struct central *central = purge->central;
    size_t purged = 0;
    unsigned slot = 0;
    struct ap__page_run runs[RUNS_MAX];
    span->slots.is_purged = true;
    for (unsigned count; (count = collect_runs_locked(span, runs, &slot)) != 0;) {
        ap__lock_release(&central->lock);
        for (unsigned i = 0; i < count; i++) {
            bool done = ap__os_discard((void *)runs[i].start, runs[i].bytes);
            if (done) {
                ap__huge_pages_purged(runs[i].start, runs[i].bytes);
                purged += runs[i].bytes;
            }
            purge->refused |= !done;
        }
        ap__lock_take(&central->lock);
    }
    set_bucket(span, NO_BUCKET);
    span->slots.is_purged &= !purge->refused;
    settle_locked(central, span);
    return purged;
}

size_t ap__central_purge(unsigned size_class, unsigned age_least, unsigned age_most, bool *pending)
{
    struct central *central = &centrals[size_class];
    struct purge purge = {.central = central, .age_least = age_least, .age_most = age_most};
    size_t purged = 0;
    ap__lock_take(&central->lock);
    /* Not more spans than there are now: others may go on freeing meanwhile. */
    for (size_t left = central->spans; left > 0 && !purge.refused && take_away_locked(&purge);) {
        for (unsigned i = 0; i < purge.count; i++) {
            purged += purge_span_locked(&purge, purge.spans[i]);
        }
        left -= ap__min(left, purge.count);
    }
    ap__lock_release(&central->lock);
    *pending |= purge.pending && !purge.refused;
    return purged;
}

void ap__central_stats(unsigned size_class, struct ap__central_stats *stats)
{
    struct central *central = &centrals[size_class];
    ap__lock_take(&central->lock);
    stats->spans = central->spans;
    stats->slots = central->spans * ap__size_class[size_class].slots;
    stats->claimed = ap__central_claimed(size_class);
    ap__lock_release(&central->lock);
}

void ap__central_view_locked(unsigned size_class, struct ap__central_view *view)
{
    const struct central *central = &centrals[size_class];
    *view = (struct ap__central_view){
        .buckets = central->buckets,
        .bucket_count = BUCKETS,
        .no_bucket = NO_BUCKET,
        .away = AWAY,
        .occupied = central->occupied,
        .spans = central->spans,
        .claimed = ap__central_claimed(size_class),
    };
}
