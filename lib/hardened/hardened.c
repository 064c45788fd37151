/* SPDX-License-Identifier: MIT */
/*
 * hardened.c: the checks, in the order in which a block meets them.
 *
 * Invariant: memory that is free (in spans, in caches) holds zeros. Blocks are cleared when they are
 * freed, large objects lose their pages, and purged pages read as zero anyway. So a block that does not
 * hold zeros when it is handed out has been written to while it was free.
 */
#include "hardened/hardened.h"

#include <string.h>

#include "base/bits.h"
#include "cache/fine_classes.h"
#include "cache/thread.h"
#include "central/central_free_list.h"
#include "central/transfer_cache.h"
#include "guard/misuse.h"
#include "hardened/canary.h"
#include "hardened/quarantine.h"
#include "hardened/sampled.h"
#include "heap/page_heap.h"
#include "large/large.h"
#include "os/fault.h"
#include "os/os.h"
#include "os/stack_trace.h"

enum { POP_MAX = 64 };

static size_t page_bytes;

void ap__hardened_init(size_t quarantine_bytes, uint64_t secret)
{
    page_bytes = ap__os_page_size();
    ap__quarantine_init(quarantine_bytes);
    ap__canary_set_secret(secret);
}

/* ------------------------------------------------------------ large objects */

/* The part of a span behind the last page of its object. */
struct tail {
    char *start;
    size_t bytes;
};

static struct tail tail_of(const struct ap__span *span)
{
    size_t used = ap__align_up(span->large.size_bytes, page_bytes);
    return (struct tail){(char *)span->start + used, ap__span_bytes(span) - used};
}

/* The canary: from the end of the object to the end of its page. */
static struct tail slack_of(const struct ap__span *span)
{
    size_t size = span->large.size_bytes;
    return (struct tail){(char *)span->start + size, ap__align_up(size, page_bytes) - size};
}

static void *take_large(size_t alignment, size_t size)
{
    if (size > AP__LARGE_SIZE_MAX) {
        return NULL;
    }
    void *p = ap__large_take_with_room(ap__max(size, 1), alignment, page_bytes);
    if (p == NULL) {
        return NULL;
    }
    struct ap__span *span = ap__large_span(p);
    struct tail tail = tail_of(span);
    span->large.guard = (uint8_t)ap__os_guard(tail.start, tail.bytes);
    struct tail slack = slack_of(span);
    ap__canary_fill(slack.start, slack.bytes);
    return p;
}

static void check_large(const struct ap__span *span, const char *function)
{
    struct tail slack = slack_of(span);
    if (!ap__canary_is_filled(slack.start, slack.bytes)) {
        ap__misuse(function, (void *)span->start, AP__MISUSE_OVERFLOW);
    }
}

/* Unused spans that the kernel did not let become accessible again. Pushed one by one, taken all at once. */
static _Atomic(struct ap__span *) stuck;

static void push_stuck(struct ap__span *span)
{
    struct ap__span *first = atomic_load_explicit(&stuck, memory_order_relaxed);
    do {
        span->link.next = first;
        /* release: pairs with the acquire in retry_stuck(): the link and the record are complete. */
    } while (!atomic_compare_exchange_weak_explicit(&stuck, &first, span, memory_order_release,
                                                    memory_order_relaxed));
}

/* The memory of a span that nobody uses, zeroed, goes back; if that is refused, another time. */
static bool release_span(struct ap__span *span)
{
    bool done = ap__os_unguard((void *)span->start, ap__span_bytes(span), span->large.guard);
    if (done) {
        ap__page_heap_give(span);
    } else {
        push_stuck(span);
    }
    return done;
}

/* Returns whether any memory came back. */
static bool retry_stuck(void)
{
    bool any = false;
    struct ap__span *span = atomic_exchange_explicit(&stuck, NULL, memory_order_acquire);
    while (span != NULL) {
        struct ap__span *next = span->link.next;
        any |= release_span(span);
        span = next;
    }
    return any;
}

/* A freed object: all of its span becomes inaccessible, and its memory goes to the kernel at once. */
static void retire_large(struct ap__span *span)
{
    struct tail tail = tail_of(span);
    if (!ap__os_unguard(tail.start, tail.bytes, span->large.guard)) {
        size_t used = (size_t)(tail.start - (char *)span->start);
        if (!ap__os_discard((void *)span->start, used)) {
            memset((void *)span->start, 0, used);
        }
        push_stuck(span);
        return;
    }
    span->large.guard = (uint8_t)ap__os_guard((void *)span->start, ap__span_bytes(span));
    struct ap__quarantined entry = {span, (uint32_t)page_bytes, 0};
    if (!ap__quarantine_push(entry)) {
        (void)release_span(span);
    }
}

/* ------------------------------------------------------------ small blocks */

/* The class that serves `size` with a trailer behind it; 0: none does. */
static unsigned class_for(size_t alignment, size_t size)
{
    if (size > AP_SMALL_SIZE_MAX - AP__TRAILER_BYTES) {
        return 0;
    }
    size_t bytes = size + AP__TRAILER_BYTES;
    return ap__class_for_aligned(alignment, bytes);
}

static void *take_slot(struct ap__thread_cache *cache, unsigned size_class)
{
    void *p = NULL;
    if (cache != NULL) {
        return ap__thread_cache_take_any(cache, size_class);
    }
    return ap__central_take(size_class, &p, 1) == 1 ? p : NULL;
}

static void give_slot(struct ap__thread_cache *cache, unsigned size_class, void *p)
{
    if (cache != NULL) {
        ap__thread_cache_overflow(cache, size_class, p, "free");
    } else {
        ap__central_give(size_class, &p, 1, "free");
    }
}

static void *take_small(struct ap__thread_cache *cache, unsigned size_class, size_t size)
{
    size_t slot_bytes = ap__size_class[size_class].size;
    void *p = take_slot(cache, size_class);
    if (p != NULL) {
        if (AP_UNLIKELY(!ap__is_zero(p, slot_bytes))) {
            ap__misuse("malloc", p, AP__MISUSE_USE_AFTER_FREE);
        }
        ap__canary_set(p, slot_bytes, size);
    }
    return p;
}

/* Whether a slot that holds no trailer is free indeed, or the trailer has been overwritten by zeros. */
AP_COLD static bool is_free(unsigned size_class, const void *p)
{
    for (const struct ap__thread_cache *cache = ap__thread_caches(); cache != NULL;
         cache = cache->next) {
        if (ap__thread_cache_holds(cache, size_class, p)) {
            return true;
        }
    }
    return ap__transfer_holds(size_class, p) || ap__central_is_free(size_class, p);
}

/* The size of the live block in a slot; anything else ends the process. */
static size_t live_size(unsigned size_class, const void *p, const char *function)
{
    size_t slot_bytes = ap__size_class[size_class].size;
    size_t size = 0;
    if (AP_UNLIKELY(!ap__central_is_slot(size_class, p))) {
        ap__misuse(function, p, AP__MISUSE_INTERIOR);
    }
    switch (ap__canary_look(p, slot_bytes, &size)) {
    case AP__CANARY_LIVE:
        break;
    case AP__CANARY_FREED:
        ap__misuse(function, p, AP__MISUSE_DOUBLE_FREE);
    case AP__CANARY_FREE:
        ap__misuse(function, p, is_free(size_class, p) ? AP__MISUSE_NOT_LIVE : AP__MISUSE_OVERFLOW);
    default:
        ap__misuse(function, p, AP__MISUSE_OVERFLOW);
    }
    if (AP_UNLIKELY(!ap__canary_slack_is_whole(p, slot_bytes, size))) {
        ap__misuse(function, p, AP__MISUSE_OVERFLOW);
    }
    return size;
}

/* A block that leaves the quarantine. */
static void release_slot(struct ap__thread_cache *cache, unsigned size_class, void *p)
{
    size_t slot_bytes = ap__size_class[size_class].size;
    size_t unused;
    if (AP_UNLIKELY(!ap__is_zero(p, slot_bytes - AP__TRAILER_BYTES) ||
                    ap__canary_look(p, slot_bytes, &unused) != AP__CANARY_FREED)) {
        ap__misuse("free", p, AP__MISUSE_USE_AFTER_FREE);
    }
    ap__canary_clear(p, slot_bytes);
    give_slot(cache, size_class, p);
}

static void release(struct ap__thread_cache *cache, struct ap__quarantined entry)
{
    if (entry.size_class != 0) {
        release_slot(cache, entry.size_class, entry.p);
    } else {
        (void)release_span(entry.p);
    }
}

/* Lets out what has to leave, or everything. Returns whether anything did. */
static bool drain(struct ap__thread_cache *cache, bool everything)
{
    struct ap__quarantined entries[POP_MAX];
    bool any = false;
    unsigned got;
    do {
        got = ap__quarantine_pop(entries, POP_MAX, everything);
        for (unsigned i = 0; i < got; i++) {
            release(cache, entries[i]);
        }
        any |= got != 0;
    } while (got == POP_MAX);
    return any;
}

static void retire_small(struct ap__thread_cache *cache, unsigned size_class, void *p, size_t size,
                         const char *function)
{
    size_t slot_bytes = ap__size_class[size_class].size;
    if (AP_UNLIKELY(!ap__canary_claim(p, slot_bytes, size))) {
        ap__misuse(function, p, AP__MISUSE_DOUBLE_FREE);
    }
    memset(p, 0, slot_bytes - AP__TRAILER_BYTES);
    struct ap__quarantined entry = {p, (uint32_t)slot_bytes, size_class};
    if (!ap__quarantine_push(entry)) {
        release_slot(cache, size_class, p);
    }
}

/* ------------------------------------------------------------ both */

static void *take(struct ap__thread_cache *cache, size_t alignment, size_t size)
{
    unsigned size_class = class_for(alignment, size);
    if (size_class == 0) {
        return take_large(alignment, size);
    }
    void *p = take_small(cache, size_class, size);
    unsigned next = ap__class_above_fine(size_class);
    return p == NULL && next != 0 ? take_small(cache, next, size) : p;
}

void *ap__hardened_take(struct ap__thread_cache *cache, size_t alignment, size_t size)
{
    void *p = take(cache, alignment, size);
    if (p == NULL && size <= AP__LARGE_SIZE_MAX && ap__hardened_flush(cache)) {
        p = take(cache, alignment, size); /* memory that waits is better used than refused */
    }
    return p;
}

bool ap__hardened_give(struct ap__thread_cache *cache, void *p, const char *function)
{
    unsigned size_class = ap__page_heap_class_of(p);
    if (size_class != 0) {
        retire_small(cache, size_class, p, live_size(size_class, p, function), function);
    } else {
        struct ap__span *span = ap__large_detach(p);
        if (span == NULL) {
            return false;
        }
        check_large(span, function);
        retire_large(span);
    }
    (void)drain(cache, false);
    return true;
}

bool ap__hardened_size(const void *p, size_t *size, const char *function)
{
    unsigned size_class = ap__page_heap_class_of(p);
    if (size_class != 0) {
        *size = live_size(size_class, p, function);
        return true;
    }
    const struct ap__span *span = ap__large_span(p);
    if (span == NULL) {
        return false;
    }
    check_large(span, function);
    *size = span->large.size_bytes;
    return true;
}

/* What was canary becomes the program's: it reads as all memory not yet written, and tells nothing of the secret. */
static void clear_gained(void *p, size_t old_size, size_t size)
{
    if (size > old_size) {
        memset((char *)p + old_size, 0, size - old_size);
    }
}

bool ap__hardened_resize(void *p, size_t old_size, size_t size)
{
    unsigned size_class = ap__page_heap_class_of(p);
    if (size_class != 0) {
        bool fits = class_for(AP_MIN_ALIGNMENT, size) == size_class;
        if (fits) {
            clear_gained(p, old_size, size);
            ap__canary_set(p, ap__size_class[size_class].size, size);
        }
        return fits;
    }
    struct ap__span *span = ap__large_span(p);
    if (size == 0 || ap__align_up(size, page_bytes) != ap__align_up(old_size, page_bytes)) {
        return false;
    }
    span->large.size_bytes = size;
    clear_gained(p, old_size, size);
    struct tail slack = slack_of(span);
    ap__canary_fill(slack.start, slack.bytes);
    return true;
}

/* The large object's span that an address lies in. Only a span's ends lead to its record for certain, so
 * the way goes down to its first granule. */
static const struct ap__span *large_span_around(uintptr_t address)
{
    if (!ap__region_contains(address)) {
        return NULL;
    }
    for (size_t at = ap__region_granule_of(address); at >= ap__region_first_granule(); at--) {
        const struct ap__span *span = ap__region_span_of(at);
        if (span != NULL && span->state == AP__SPAN_LARGE &&
            address - span->start < ap__span_bytes(span)) {
            return span;
        }
    }
    return NULL;
}

static void explain_large(uintptr_t address, enum ap__access access, const void *caller)
{
    const struct ap__span *span = large_span_around(address);
    if (span == NULL || span->large.guard == AP__GUARD_NONE) {
        return;
    }
    bool live = ap__large_span((void *)span->start) == span;
    ap__misuse_write(ap__access_name(access), (void *)address,
                     live ? AP__MISUSE_USED_BEYOND : AP__MISUSE_USED_FREED);
    struct ap__stack_trace trace;
    ap__stack_trace_take(&trace, caller);
    ap__stack_trace_write(&trace);
}

static void explain(uintptr_t address, enum ap__access access, const void *caller)
{
    if (ap__sampled_contains((void *)address)) {
        ap__sampled_explain(address, access, caller);
    } else {
        explain_large(address, access, caller);
    }
}

void ap__hardened_watch(void)
{
    ap__stack_trace_prepare();
    (void)ap__fault_watch(explain);
}

bool ap__hardened_flush(struct ap__thread_cache *cache)
{
    bool any = retry_stuck();
    return drain(cache, true) || any;
}
