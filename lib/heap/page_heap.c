/* SPDX-License-Identifier: MIT */
/*
 * page_heap.c: spans: taken by best fit, split, coalesced, grown, purged.
 *
 * A free span is in the tree of free_spans.c; if some of its memory is dirty (may be resident) it is
 * also on a dirty list, newest first: one for short spans, one for long ones, which decay faster. Both
 * ends of every span are in the span map, so a span finds its neighbours with one load each. Whether a
 * granule is known to be zero is a byte in the clean map; it survives coalescing and splitting,
 * because it belongs to the granule.
 *
 * Growth: chunks of 2 MiB at least and an eighth of the heap at most, so that the number of
 * mprotect() calls is logarithmic; if that much is refused, just what is needed.
 *
 * Purging takes one dirty span at a time off the heap, the oldest first, or a piece of a long one, drops the
 * lock for the system call, and gives the span back: a thread that needs memory waits for no madvise().
 */
#include "heap/page_heap.h"

#include <stdatomic.h>

#include "heap/dirty_spans.h"
#include "heap/free_spans.h"
#include "heap/heap_limits.h"
#include "heap/huge_pages.h"
#include "heap/outside_spans.h"
#include "heap/recent_spans.h"
#include "meta/meta.h"
#include "os/bell.h"
#include "os/check.h"
#include "os/lock.h"
#include "os/os.h"
#include "os/yield.h"
#include "table/large_table.h"

#define CHUNK_GRANULES_MIN ((size_t)32)   /* 2 MiB */
#define CHUNK_GRANULES_MAX ((size_t)1024) /* 64 MiB */
#define GROWTH_DIVISOR 8
/* The kernel's work on so much takes some milliseconds, in which nobody can have the span. */
#define PURGE_GRANULES_MAX ((size_t)256)

static struct ap__lock lock = AP_LOCK_INIT(AP__RANK_PAGE_HEAP);
/* All below: under `lock`. */
static struct ap__free_spans free_spans;
static struct ap__dirty_list dirty[AP__DIRTY_KINDS];
static size_t free_granules;
static size_t large_granules;
static size_t large_count;
static size_t outside_granules;
static size_t usable_granules_peak;
static bool
    growth_refused; /* the last time: the region's end, a limit of the process, the kernel */

struct ap__bell ap__heap_bell;

struct ap__lock *ap__page_heap_lock(void)
{
    return &lock;
}

static size_t first_granule_of(const struct ap__span *span)
{
    return ap__region_granule_of(span->start);
}

/* The span becomes free memory, as it is: neighbours are not looked at. */
static void insert_free_locked(struct ap__span *span, size_t dirty_granules)
{
    ap__span_set_state(span, AP__SPAN_FREE);
    span->tree.dirty_granules = dirty_granules;
    ap__region_set_span_ends(first_granule_of(span), span->granules, span);
    ap__free_spans_insert(&free_spans, span);
    if (dirty_granules != 0) {
        ap__dirty_list_insert(dirty, span);
    }
    free_granules += span->granules;
    AP_ASSERT(ap__span_is_valid(span));
}

static void remove_free_locked(struct ap__span *span)
{
    AP_ASSERT(span->state == AP__SPAN_FREE && ap__span_is_valid(span));
    ap__free_spans_remove(&free_spans, span);
    if (span->tree.dirty_granules != 0) {
        ap__dirty_list_remove(dirty, span);
    }
    free_granules -= span->granules;
}

/* The free span that holds a granule at its end or start, NULL if that granule is in use. */
static struct ap__span *free_span_at(size_t granule)
{
    if (granule < ap__region_first_granule() || granule >= ap__region_limit_granules()) {
        return NULL;
    }
    struct ap__span *span = ap__region_span_of(granule);
    return span != NULL && span->state == AP__SPAN_FREE ? span : NULL;
}

/* Makes the span free and one with its free neighbours. */
static void coalesce_and_insert_locked(struct ap__span *span, size_t dirty_granules)
{
    size_t first = first_granule_of(span);
    struct ap__span *before = free_span_at(first - 1);
    struct ap__span *after = free_span_at(first + span->granules);
    if (before != NULL) {
        remove_free_locked(before);
        dirty_granules += before->tree.dirty_granules;
        ap__span_set_start(span, before->start);
        span->granules += before->granules;
        ap__span_record_give(before);
    }
    if (after != NULL) {
        remove_free_locked(after);
        dirty_granules += after->tree.dirty_granules;
        span->granules += after->granules;
        ap__span_record_give(after);
    }
    insert_free_locked(span, dirty_granules);
}

/* A record for [first, first + granules). NULL: no memory for it. */
static struct ap__span *new_span_locked(size_t first, size_t granules)
{
    struct ap__span *span = ap__span_record_take();
    if (span != NULL) {
        ap__span_set_start(span, ap__region_address_of(first));
        span->granules = granules;
    }
    return span;
}

enum piece { HEAD, MIDDLE, TAIL, PIECES };

/* Where a span is to be cut: what is wanted is the middle. The outer pieces may be empty. */
struct cut {
    size_t granules[PIECES];
    size_t dirty[PIECES];
};

/* The longest piece has those of `dirty_granules` that the others have not: a free span may be as long as the heap, and
 * what is cut off it is short. */
static struct cut make_cut(const struct ap__span *span, size_t skip, size_t granules,
                           size_t dirty_granules)
{
    struct cut cut = {.granules = {skip, granules, span->granules - skip - granules}};
    enum piece longest = skip > granules ? HEAD : MIDDLE;
    longest = cut.granules[TAIL] > cut.granules[longest] ? TAIL : longest;
    size_t first = first_granule_of(span);
    cut.dirty[longest] = dirty_granules;
    for (enum piece piece = HEAD; piece < PIECES; piece++) {
        if (piece != longest) {
            cut.dirty[piece] = ap__region_count_dirty(first, cut.granules[piece]);
            cut.dirty[longest] -= cut.dirty[piece];
        }
        first += cut.granules[piece];
    }
    return cut;
}

/* Cuts a span that is on no list down to its middle; the outer pieces go back as free spans. `false`: no memory for the
 * records; nothing has changed. */
static bool trim_locked(struct ap__span *span, const struct cut *cut)
{
    size_t first = first_granule_of(span);
    size_t skip = cut->granules[HEAD];
    size_t granules = cut->granules[MIDDLE];
    size_t behind = cut->granules[TAIL];
    struct ap__span *head = NULL;
    struct ap__span *tail = NULL;
    if (skip != 0 && (head = new_span_locked(first, skip)) == NULL) {
        return false;
    }
    if (behind != 0 && (tail = new_span_locked(first + skip + granules, behind)) == NULL) {
        if (head != NULL) {
            ap__span_record_give(head);
        }
        return false;
    }
    ap__span_set_start(span, ap__region_address_of(first + skip));
    span->granules = granules;
    if (head != NULL) {
        insert_free_locked(head, cut->dirty[HEAD]);
    }
    if (tail != NULL) {
        insert_free_locked(tail, cut->dirty[TAIL]);
    }
    return true;
}

/* How many granules to skip from `start` to the next multiple of `alignment`. */
static size_t skip_to_alignment(uintptr_t start, size_t alignment)
{
    return (ap__align_up(start, alignment) - start) >> AP_PAGE_HEAP_GRANULE_SHIFT;
}

/* A free span out of which an aligned run can be cut, removed from the tree. NULL: none. */
static struct ap__span *take_fit_locked(size_t granules, size_t alignment)
{
    size_t slack = (alignment >> AP_PAGE_HEAP_GRANULE_SHIFT) - 1;
    struct ap__span *span = ap__free_spans_best_fit(&free_spans, granules + slack);
    if (span == NULL) {
        return NULL;
    }
    remove_free_locked(span);
    size_t dirty_granules = span->tree.dirty_granules;
    size_t skip = skip_to_alignment(span->start, alignment);
    const struct cut cut = make_cut(span, skip, granules, dirty_granules);
    if (!trim_locked(span, &cut)) {
        insert_free_locked(span, dirty_granules);
        return NULL;
    }
    return span;
}

static size_t dirty_bytes_locked(void)
{
    return (dirty[AP__DIRTY_SHORT].granules + dirty[AP__DIRTY_LONG].granules)
           << AP_PAGE_HEAP_GRANULE_SHIFT;
}

/* In spans of small blocks and of large objects. */
static size_t used_bytes_locked(void)
{
    return ap__region_usable_bytes() +
           ((outside_granules - free_granules) << AP_PAGE_HEAP_GRANULE_SHIFT);
}

static bool is_allowed_locked(size_t granules)
{
    size_t hard = ap__heap_limits_hard();
    size_t used = used_bytes_locked();
    return used <= hard && granules <= (hard - used) >> AP_PAGE_HEAP_GRANULE_SHIFT;
}

/* After each change. Returns how many dirty bytes the hard limit has no room for. */
static size_t note_limits_locked(void)
{
    size_t used = used_bytes_locked();
    size_t unused = dirty_bytes_locked();
    size_t hard = ap__heap_limits_hard();
    ap__heap_limits_note(used, unused);
    size_t room = hard > used ? hard - used : 0;
    return unused > room ? unused - room : 0;
}

/* Above the hard limit by memory that nobody uses: it goes, the long spans first. */
AP_COLD static void purge_excess(size_t bytes)
{
    for (int kind = AP__DIRTY_KINDS; bytes != 0 && kind-- > 0;) {
        size_t have = ap__page_heap_dirty_bytes((enum ap__dirty_kind)kind);
        size_t purged =
            ap__page_heap_purge((enum ap__dirty_kind)kind, have > bytes ? have - bytes : 0);
        bytes -= ap__min(bytes, purged);
    }
}

static void note_peak_locked(void)
{
    size_t usable = (ap__region_usable_bytes() >> AP_PAGE_HEAP_GRANULE_SHIFT) + outside_granules;
    usable_granules_peak = ap__max(usable_granules_peak, usable);
}

/* Makes `granules` more usable, as free memory. */
static bool grow_by_locked(size_t granules, bool for_small)
{
    if (granules > ap__region_granules_left() ||
        !ap__os_limits_allow(granules << AP_PAGE_HEAP_GRANULE_SHIFT,
                             ap__region_unused_bytes() + ap__meta_reserved_bytes(),
                             ap__region_usable_bytes())) {
        return false;
    }
    struct ap__span *span = ap__span_record_take();
    if (span == NULL) {
        return false;
    }
    size_t first = ap__region_grow(granules);
    if (first == 0) {
        ap__span_record_give(span);
        return false;
    }
    ap__huge_pages_advise_chunk(ap__region_address_of(first),
                                granules << AP_PAGE_HEAP_GRANULE_SHIFT, for_small,
                                ap__region_usable_bytes());
    ap__span_set_start(span, ap__region_address_of(first));
    span->granules = granules;
    coalesce_and_insert_locked(span, 0);
    note_peak_locked();
    return true;
}

/* Grows so that an aligned run of `granules` exists; by a whole chunk if the limits allow. */
static bool try_to_grow_locked(size_t granules, size_t alignment, bool for_small)
{
    struct ap__span *last = free_span_at(ap__region_limit_granules() - 1);
    size_t have = last != NULL ? last->granules : 0;
    /* What the best fit asks for, wherever the aligned run begins; the last span was too short. */
    size_t wanted = granules + (alignment >> AP_PAGE_HEAP_GRANULE_SHIFT) - 1;
    if (wanted <= have || wanted - have > ap__region_granules_left()) {
        return false;
    }
    size_t need = wanted - have;
    size_t chunk = (ap__region_usable_bytes() >> AP_PAGE_HEAP_GRANULE_SHIFT) / GROWTH_DIVISOR;
    chunk = ap__min(ap__max(chunk, CHUNK_GRANULES_MIN), CHUNK_GRANULES_MAX);
    /* Chunks end at multiples of the least chunk, a huge page's size. */
    size_t limit = ap__region_limit_granules();
    chunk = ap__align_up(limit + ap__max(chunk, need), CHUNK_GRANULES_MIN) - limit;
    return grow_by_locked(chunk, for_small) || grow_by_locked(need, for_small);
}

static bool grow_locked(size_t granules, size_t alignment, bool for_small)
{
    growth_refused = !try_to_grow_locked(granules, alignment, for_small);
    return !growth_refused;
}

/* ------------------------------------------------------------ spans outside the region */

static struct ap__span *take_outside_locked(size_t granules, size_t alignment, unsigned size_class)
{
    struct ap__span *span = ap__outside_span_map(granules, alignment, size_class);
    if (span != NULL) {
        outside_granules += granules;
        note_peak_locked();
    }
    return span;
}

static void give_locked(struct ap__span *span)
{
    if (span->state == AP__SPAN_LARGE) {
        large_granules -= span->granules;
        large_count--;
    }
    if (span->outside) {
        outside_granules -= span->granules;
        ap__outside_span_unmap(span);
        return;
    }
    size_t first = first_granule_of(span);
    if (span->state == AP__SPAN_SMALL) {
        ap__region_set_class(first, span->granules, 0);
    }
    coalesce_and_insert_locked(span, ap__region_count_dirty(first, span->granules));
}

/* Spans that wait for another owner of their length become free memory like all other. `false`: there were none. */
static bool settle_recent_locked(void)
{
    bool any = false;
    struct ap__span *span;
    while ((span = ap__recent_spans_take_any()) != NULL) {
        give_locked(span);
        any = true;
    }
    return any;
}

/* ------------------------------------------------------------ the interface */

/* What a span is wanted for. */
struct use {
    enum ap__span_state state; /* SMALL, LARGE or PACKED */
    unsigned size_class;       /* SMALL only, else 0 */
};

static void become_used_locked(struct ap__span *span, struct use use)
{
    span->link.next = NULL;
    span->link.previous = NULL;
    span->size_class = (uint8_t)use.size_class;
    ap__span_set_state(span, use.state);
    if (use.state == AP__SPAN_LARGE) {
        span->large.size_bytes = 0;
        span->large.alignment = 0;
        large_granules += span->granules;
        large_count++;
    } else if (use.state == AP__SPAN_SMALL) {
        span->slots.free_slots = 0;
    }
    if (span->outside) {
        return;
    }
    size_t first = first_granule_of(span);
    if (use.state == AP__SPAN_LARGE) {
        ap__region_set_span_ends(first, span->granules, span);
        return;
    }
    ap__region_set_span(first, span->granules, span);
    if (use.state == AP__SPAN_SMALL) {
        ap__region_set_class(first, span->granules, use.size_class);
    }
}

static struct ap__span *take_any_locked(size_t granules, size_t alignment, struct use use)
{
    struct ap__span *span = take_fit_locked(granules, alignment);
    if (span == NULL && settle_recent_locked()) {
        span = take_fit_locked(granules, alignment);
    }
    if (span == NULL && grow_locked(granules, alignment, use.state != AP__SPAN_LARGE)) {
        span = take_fit_locked(granules, alignment);
    }
    if (span == NULL && use.state != AP__SPAN_PACKED) {
        span = take_outside_locked(granules, alignment, use.size_class);
    }
    return span;
}

static struct ap__span *take(size_t granules, size_t alignment, struct use use)
{
    AP_ASSERT(granules != 0 && alignment >= AP_GRANULE && ap__is_power_of_two(alignment));
    ap__lock_take(&lock);
    struct ap__span *span = NULL;
    if (AP_LIKELY(is_allowed_locked(granules)) ||
        (settle_recent_locked() && is_allowed_locked(granules))) {
        span = take_any_locked(granules, alignment, use);
    }
    if (span != NULL) {
        become_used_locked(span, use);
    }
    size_t excess = note_limits_locked();
    ap__lock_release(&lock);
    if (AP_UNLIKELY(excess != 0)) {
        purge_excess(excess);
    }
    return span;
}

struct ap__span *ap__page_heap_take(size_t granules, size_t alignment, unsigned size_class)
{
    enum ap__span_state state = size_class == 0 ? AP__SPAN_LARGE : AP__SPAN_SMALL;
    return take(granules, alignment, (struct use){state, size_class});
}

struct ap__span *ap__page_heap_take_packed(size_t granules)
{
    return take(granules, AP_GRANULE, (struct use){AP__SPAN_PACKED, 0});
}

/* Without an attempt to grow, which costs system calls where it is refused. */
static bool has_room_locked(size_t granules)
{
    return is_allowed_locked(granules) &&
           (ap__free_spans_best_fit(&free_spans, granules) != NULL || !growth_refused);
}

bool ap__page_heap_has_room(size_t granules)
{
    ap__lock_take(&lock);
    bool has_room =
        has_room_locked(granules) || (settle_recent_locked() && has_room_locked(granules));
    ap__lock_release(&lock);
    return has_room;
}

/* A span whose pages were moved in is mapped afresh, so that its mapping merges with its neighbours'. */
static void undo_move(struct ap__span *span)
{
    if (ap__os_remap_fresh((void *)span->start, ap__span_bytes(span))) {
        ap__region_set_clean(first_granule_of(span), span->granules, true);
    }
    span->moved = false;
}

/* What was in the span counts for nothing from now on. */
static void forget_contents(struct ap__span *span)
{
    if (!span->outside) {
        ap__region_set_clean(first_granule_of(span), span->granules, false);
        if (span->moved) {
            undo_move(span);
        }
    }
}

static void give(struct ap__span *span)
{
    ap__lock_take(&lock);
    give_locked(span);
    size_t excess = note_limits_locked();
    ap__lock_release(&lock);
    if (AP_UNLIKELY(excess != 0)) {
        purge_excess(excess);
    }
    ap__bell_ring(&ap__heap_bell);
}

void ap__page_heap_give(struct ap__span *span)
{
    AP_ASSERT(ap__span_is_valid(span));
    forget_contents(span);
    give(span);
}

struct ap__span *ap__page_heap_take_recent(size_t granules)
{
    struct ap__span *span = ap__recent_spans_take(granules);
    if (span != NULL) {
        span->large.size_bytes = 0;
        span->large.alignment = 0;
    }
    return span;
}

void ap__page_heap_give_recent(struct ap__span *span)
{
    AP_ASSERT(ap__span_is_valid(span) && span->state == AP__SPAN_LARGE);
    forget_contents(span);
    if (!span->outside) {
        span = ap__recent_spans_exchange(span);
    }
    if (span != NULL) {
        give(span);
    } else {
        ap__bell_ring(&ap__heap_bell);
    }
}

void ap__page_heap_settle(void)
{
    ap__lock_take(&lock);
    (void)settle_recent_locked();
    ap__lock_release(&lock);
}

/* Whether the span still is what the caller took it for. Another thread may have freed the object since: an
 * error of the program, but no reason to damage the heap. */
static bool is_large_locked(const struct ap__span *span, bool has_length)
{
    return span->state == AP__SPAN_LARGE && has_length;
}

bool ap__page_heap_extend(struct ap__span *span, size_t granules)
{
    if (span->outside) {
        return false;
    }
    ap__lock_take(&lock);
    size_t more = granules - span->granules;
    struct ap__span *after = NULL;
    if (is_large_locked(span, granules > span->granules)) {
        size_t behind = first_granule_of(span) + span->granules;
        after = free_span_at(behind);
        if (after == NULL && settle_recent_locked()) {
            after = free_span_at(behind);
        }
    }
    bool fits = after != NULL && after->granules >= more && is_allowed_locked(more);
    if (fits) {
        remove_free_locked(after);
        size_t dirty_granules = after->tree.dirty_granules;
        const struct cut cut = make_cut(after, 0, more, dirty_granules);
        fits = trim_locked(after, &cut);
        if (fits) {
            ap__span_record_give(after);
            span->granules = granules;
            large_granules += more;
            ap__region_set_span_ends(first_granule_of(span), granules, span);
        } else {
            insert_free_locked(after, dirty_granules);
        }
    }
    (void)note_limits_locked();
    ap__lock_release(&lock);
    return fits;
}

bool ap__page_heap_shorten(struct ap__span *span, size_t granules)
{
    AP_ASSERT(granules != 0);
    if (span->outside) {
        return false;
    }
    ap__lock_take(&lock);
    size_t first = first_granule_of(span) + granules;
    size_t less = span->granules - granules;
    struct ap__span *tail = NULL;
    if (is_large_locked(span, granules < span->granules)) {
        tail = new_span_locked(first, less);
    }
    if (tail != NULL) {
        span->granules = granules;
        large_granules -= less;
        ap__region_set_span_ends(first_granule_of(span), granules, span);
        ap__region_set_clean(first, less, false);
        coalesce_and_insert_locked(tail, less);
    }
    ap__lock_release(&lock);
    ap__bell_ring(&ap__heap_bell);
    return tail != NULL;
}

struct ap__span *ap__page_heap_span_of(uintptr_t address)
{
    size_t granule = ap__region_granule_of(address);
    if (granule < ap__region_limit_granules()) {
        return granule < ap__region_first_granule() ? NULL : ap__region_span_of(granule);
    }
    uint32_t record;
    if (!ap__large_table_find(ap__align_down(address, AP_GRANULE), &record)) {
        return NULL;
    }
    return ap__span_by_index(record);
}

unsigned ap__page_heap_class_of(const void *p)
{
    uintptr_t address = (uintptr_t)p;
    if (ap__region_contains(address)) {
        return ap__region_class_of(ap__region_granule_of(address));
    }
    const struct ap__span *span = ap__page_heap_span_of(address);
    return span != NULL && span->state == AP__SPAN_SMALL ? span->size_class : 0;
}

/*
 * Takes the oldest dirty span of a list off the heap, or the piece of it that holds its last dirty granules and is
 * at most `most` long. The rest stays to be had meanwhile; else the heap would grow although most of it is free.
 * *dirty_granules: those of the piece.
 */
static struct ap__span *take_dirty_locked(struct ap__dirty_list *list, size_t most,
                                          size_t *dirty_granules)
{
    struct ap__span *span = list->oldest;
    size_t first = first_granule_of(span);
    size_t begin = first;
    size_t end = first + span->granules;
    remove_free_locked(span);
    *dirty_granules = span->tree.dirty_granules;
    size_t found = ap__dirty_piece(first, most, &begin, &end);
    const struct cut cut = {
        .granules = {begin - first, end - begin, first + span->granules - end},
        .dirty = {*dirty_granules - found, found, 0},
    };
    if (trim_locked(span, &cut)) {
        *dirty_granules = found;
    }
    ap__span_set_state(span, AP__SPAN_PURGING);
    ap__region_set_span_ends(first_granule_of(span), span->granules, span);
    return span;
}

/* Purges at most `most` granules of the oldest span of a list. Enters and leaves with the lock, which is free in
 * between. Returns the granules. */
static size_t purge_oldest_locked(struct ap__dirty_list *list, size_t most)
{
    size_t dirty_granules;
    struct ap__span *span = take_dirty_locked(list, most, &dirty_granules);
    ap__lock_release(&lock);
    AP__YIELD_POINT();
    size_t discarded = ap__dirty_discard(span, most);
    AP__YIELD_POINT();
    ap__lock_take(&lock);
    /* Nobody else changes what is known of its granules. */
    coalesce_and_insert_locked(span, dirty_granules - discarded);
    return discarded;
}

size_t ap__page_heap_purge(enum ap__dirty_kind kind, size_t keep_bytes)
{
    struct ap__dirty_list *list = &dirty[kind];
    size_t keep = keep_bytes >> AP_PAGE_HEAP_GRANULE_SHIFT;
    size_t purged = 0;
    ap__lock_take(&lock);
    (void)settle_recent_locked();
    /* Not more than there is now: other threads may go on freeing meanwhile. */
    size_t goal = list->granules > keep ? list->granules - keep : 0;
    while (list->oldest != NULL && purged < goal) {
        size_t discarded = purge_oldest_locked(list, ap__min(goal - purged, PURGE_GRANULES_MAX));
        if (discarded == 0) {
            break; /* the kernel would not take it: locked pages, say */
        }
        purged += discarded;
    }
    (void)note_limits_locked();
    ap__lock_release(&lock);
    return purged << AP_PAGE_HEAP_GRANULE_SHIFT;
}

size_t ap__page_heap_purge_all(void)
{
    return ap__page_heap_purge(AP__DIRTY_SHORT, 0) + ap__page_heap_purge(AP__DIRTY_LONG, 0);
}

size_t ap__page_heap_dirty_bytes(enum ap__dirty_kind kind)
{
    ap__lock_take(&lock);
    (void)settle_recent_locked();
    size_t granules = dirty[kind].granules;
    ap__lock_release(&lock);
    return granules << AP_PAGE_HEAP_GRANULE_SHIFT;
}

void ap__page_heap_stats(struct ap__page_heap_stats *stats)
{
    ap__lock_take(&lock);
    (void)settle_recent_locked();
    stats->usable_bytes =
        ap__region_usable_bytes() + (outside_granules << AP_PAGE_HEAP_GRANULE_SHIFT);
    stats->usable_bytes_peak = usable_granules_peak << AP_PAGE_HEAP_GRANULE_SHIFT;
    stats->free_bytes = free_granules << AP_PAGE_HEAP_GRANULE_SHIFT;
    stats->dirty_bytes = dirty_bytes_locked();
    stats->free_spans = free_spans.count;
    stats->large_spans = large_count;
    stats->large_bytes = large_granules << AP_PAGE_HEAP_GRANULE_SHIFT;
    stats->reserved_bytes = ap__region_unused_bytes();
    ap__lock_release(&lock);
}

void ap__page_heap_view_locked(struct ap__page_heap_view *view)
{
    view->tree_root = free_spans.root;
    view->tree_count = free_spans.count;
    for (int kind = 0; kind < AP__DIRTY_KINDS; kind++) {
        view->dirty[kind].newest = dirty[kind].newest;
        view->dirty[kind].oldest = dirty[kind].oldest;
        view->dirty[kind].granules = dirty[kind].granules;
    }
    view->free_granules = free_granules;
    view->large_granules = large_granules;
    view->large_count = large_count;
    view->outside_granules = outside_granules;
}
