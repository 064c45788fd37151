/* SPDX-License-Identifier: MIT */
/*
 * sampled.c: the pool of guarded pages, and the reports about its blocks.
 *
 * A page is FREE, LIVE or FREED; FREED pages are reused in the order in which they were freed. A page
 * changes its protection while it belongs to one thread: after it has left the queue, and before it
 * enters it. The handler for faults reads the records without the lock: its thread may have been
 * anywhere, and the process is about to end.
 */
#include "hardened/sampled.h"

#include <stdatomic.h>
#include <string.h>

#include "base/bits.h"
#include "base/format.h"
#include "base/hash.h"
#include "base/size_class.h"
#include "guard/misuse.h"
#include "hardened/canary.h"
#include "meta/meta.h"
#include "os/check.h"
#include "os/fault.h"
#include "os/lock.h"
#include "os/os.h"
#include "os/stack_trace.h"

enum { PAGES = 256, REUSE_MIN = PAGES / 2 /* freed pages wait at least for so many others */ };

enum page_state { FREE, LIVE, FREED };

struct event {
    unsigned thread;
    struct ap__stack_trace trace;
};

struct page {
    uintptr_t block;
    size_t size;
    _Atomic(uint8_t) state; /* LIVE to FREED by exchange: of two threads that free it, one wins */
    struct event allocated, freed;
};

uintptr_t ap__sampled_start;
size_t ap__sampled_bytes;

/* Constant once set. */
static struct page *pages;
static size_t page_bytes;
static uint64_t period;

/* How many allocations this thread has before its next sample, and its place in the random sequence. */
static AP_TLS uint64_t countdown;
static AP_TLS uint64_t random_state;

static struct ap__lock lock = AP_LOCK_INIT(AP__RANK_SAMPLED);
/* All below: under `lock`. The queue of pages that are not in use, the longest unused first. */
static uint16_t queue[PAGES];
static unsigned queue_head, queue_length;
static struct ap__sampled_stats figures;
static uint64_t seed;

struct ap__lock *ap__sampled_lock(void)
{
    return &lock;
}

bool ap__sampled_init(uint64_t every, uint64_t secret)
{
    page_bytes = ap__os_page_size();
    size_t bytes = (2 * PAGES + 1) * page_bytes;
    pages = ap__meta_map(PAGES * sizeof *pages);
    void *start = pages != NULL ? ap__os_reserve(bytes) : NULL;
    if (start == NULL) {
        return false;
    }
    for (unsigned i = 0; i < PAGES; i++) {
        queue[i] = (uint16_t)i;
    }
    queue_length = PAGES;
    period = every;
    seed = secret;
    ap__sampled_start = (uintptr_t)start;
    ap__sampled_bytes = bytes;
    return true;
}

/* ------------------------------------------------------------ when */

static uint64_t next_random(void)
{
    if (random_state == 0) {
        random_state = ap__hash_address((uintptr_t)&random_state, seed) | 1;
    }
    random_state ^= random_state << 13; /* Marsaglia's xorshift */
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Even from 1 to twice the period: the mean is the period, and the program cannot keep step with it. */
static uint64_t draw(void)
{
    return 1 + next_random() % (2 * period);
}

bool ap__sampled_is_due(uint64_t allocations)
{
    if (random_state == 0) {
        countdown = draw();
    }
    if (countdown > allocations) {
        countdown -= allocations;
        return false;
    }
    countdown = draw();
    return true;
}

/* ------------------------------------------------------------ pages */

static char *address_of(const struct page *page)
{
    return (char *)ap__sampled_start + (2 * (size_t)(page - pages) + 1) * page_bytes;
}

/* The page whose block starts at `p`; NULL for any other address of the pool. */
static struct page *page_at(const void *p)
{
    size_t number = ((uintptr_t)p - ap__sampled_start) / page_bytes;
    struct page *page = number % 2 == 1 ? &pages[number / 2] : NULL;
    return page != NULL && page->block == (uintptr_t)p ? page : NULL;
}

static struct page *pop_locked(bool last_resort)
{
    unsigned kept = figures.taken < PAGES || last_resort ? 0 : REUSE_MIN;
    if (queue_length <= kept) {
        figures.failed++;
        return NULL;
    }
    struct page *page = &pages[queue[queue_head]];
    queue_head = (queue_head + 1) % PAGES;
    queue_length--;
    return page;
}

static void push_locked(const struct page *page)
{
    queue[(queue_head + queue_length) % PAGES] = (uint16_t)(page - pages);
    queue_length++;
}

static void note(struct event *event, const void *caller)
{
    event->thread = ap__os_thread_id();
    ap__stack_trace_take(&event->trace, caller);
}

/* Half of the blocks end at the end of their page, as far as alignment lets them, the others start at its
 * start: so both directions are met. */
static uintptr_t place(const struct page *page, size_t alignment, size_t size)
{
    uintptr_t start = (uintptr_t)address_of(page);
    return next_random() % 2 == 0 ? start : ap__align_down(start + page_bytes - size, alignment);
}

static void count_taken(size_t size)
{
    ap__lock_take(&lock);
    figures.taken++;
    figures.live++;
    figures.live_bytes += size;
    ap__lock_release(&lock);
}

void *ap__sampled_take(size_t alignment, size_t size, bool last_resort, const void *caller)
{
    bool is_mute = !last_resort && !ap__stack_trace_is_allowed(caller);
    if (alignment > page_bytes || size > page_bytes || is_mute) {
        return NULL;
    }
    ap__lock_take(&lock);
    struct page *page = pop_locked(last_resort);
    ap__lock_release(&lock);
    if (page == NULL) {
        return NULL;
    }
    if (!ap__os_commit(address_of(page), page_bytes)) {
        ap__lock_take(&lock);
        push_locked(page);
        figures.failed++;
        ap__lock_release(&lock);
        return NULL;
    }
    uintptr_t start = (uintptr_t)address_of(page);
    page->block = place(page, ap__max(alignment, AP_MIN_ALIGNMENT), ap__max(size, 1));
    page->size = size;
    ap__canary_fill((void *)start, page->block - start);
    uintptr_t end = page->block + size;
    ap__canary_fill((void *)end, start + page_bytes - end);
    note(&page->allocated, caller);
    page->freed.trace.count = 0;
    /* release: who is given the block, and frees it, sees the record. */
    atomic_store_explicit(&page->state, LIVE, memory_order_release);
    count_taken(size);
    return (void *)page->block;
}

/* ------------------------------------------------------------ reports */

static void write_event(const char *what, const struct event *event)
{
    char buffer[96];
    struct ap__format f;
    ap__format_init(&f, buffer, sizeof buffer);
    ap__format_text(&f, what);
    ap__format_text(&f, " by thread ");
    ap__format_decimal(&f, event->thread);
    ap__format_text(&f, " at:\n");
    ap__os_write_stderr(f.buffer, f.length);
    ap__stack_trace_write(&event->trace);
}

static void write_history(const struct page *page, const char *what, const void *caller)
{
    char buffer[96];
    struct ap__format f;
    ap__format_init(&f, buffer, sizeof buffer);
    ap__format_text(&f, "the block of ");
    ap__format_decimal(&f, page->size);
    ap__format_text(&f, " bytes at ");
    ap__format_pointer(&f, (const void *)page->block);
    ap__format_text(&f, "\n");
    ap__os_write_stderr(f.buffer, f.length);
    struct event now;
    note(&now, caller);
    write_event(what, &now);
    write_event("allocated", &page->allocated);
    if (atomic_load_explicit(&page->state, memory_order_relaxed) == FREED) {
        write_event("freed", &page->freed);
    }
}

/* The line of any misuse, then the block's history; the process ends. */
AP_NORETURN AP_COLD static void report(const char *function, const void *p, const struct page *page,
                                       enum ap__misuse_cause cause, const void *caller)
{
    ap__misuse_write(function, p, cause);
    write_history(page, "found", caller);
    ap__abort();
}

static const struct page *used(const struct page *page)
{
    return atomic_load_explicit(&page->state, memory_order_relaxed) != FREE ? page : NULL;
}

/* The block that an access to a guard page was meant for: the nearer one of the two neighbours. */
static const struct page *nearest(uintptr_t address, size_t number)
{
    const struct page *before = number > 0 ? used(&pages[number / 2 - 1]) : NULL;
    const struct page *after = number / 2 < PAGES ? used(&pages[number / 2]) : NULL;
    if (before == NULL || after == NULL) {
        return before != NULL ? before : after;
    }
    return address - (before->block + before->size) < after->block - address ? before : after;
}

void ap__sampled_explain(uintptr_t address, enum ap__access access, const void *caller)
{
    size_t number = (address - ap__sampled_start) / page_bytes;
    const struct page *page = number % 2 == 1 ? used(&pages[number / 2]) : nearest(address, number);
    if (page == NULL) {
        return;
    }
    bool freed = atomic_load_explicit(&page->state, memory_order_relaxed) == FREED;
    ap__misuse_write(ap__access_name(access), (void *)address,
                     freed                    ? AP__MISUSE_USED_FREED
                     : address >= page->block ? AP__MISUSE_USED_BEYOND
                                              : AP__MISUSE_USED_BEFORE);
    write_history(page, "touched", caller);
}

/* ------------------------------------------------------------ free */

/* The record of a block that is live; anything else ends the process. */
static struct page *live_page(const void *p, const char *function, const void *caller)
{
    struct page *page = page_at(p);
    if (page == NULL) {
        ap__misuse(function, p, AP__MISUSE_INTERIOR);
    }
    uint8_t state = atomic_load_explicit(&page->state, memory_order_acquire);
    if (state == FREED) {
        report(function, p, page, AP__MISUSE_DOUBLE_FREE, caller);
    }
    if (state != LIVE) {
        ap__misuse(function, p, AP__MISUSE_NOT_LIVE);
    }
    return page;
}

static void check_surroundings(const struct page *page, const void *p, const char *function,
                               const void *caller)
{
    uintptr_t start = (uintptr_t)address_of(page);
    uintptr_t end = page->block + page->size;
    if (!ap__canary_is_filled((void *)start, page->block - start)) {
        report(function, p, page, AP__MISUSE_UNDERFLOW, caller);
    }
    if (!ap__canary_is_filled((void *)end, start + page_bytes - end)) {
        report(function, p, page, AP__MISUSE_OVERFLOW, caller);
    }
}

void ap__sampled_give(void *p, const char *function, const void *caller)
{
    struct page *page = live_page(p, function, caller);
    check_surroundings(page, p, function, caller);
    struct event freed;
    note(&freed, caller);
    uint8_t live = LIVE;
    if (!atomic_compare_exchange_strong_explicit(&page->state, &live, FREED, memory_order_acq_rel,
                                                 memory_order_acquire)) {
        report(function, p, page, AP__MISUSE_DOUBLE_FREE, caller);
    }
    page->freed = freed;
    if (!ap__os_discard(address_of(page), page_bytes)) {
        memset(address_of(page), 0, page_bytes); /* locked pages stay */
    }
    bool guarded = ap__os_protect_none(address_of(page), page_bytes);
    ap__lock_take(&lock);
    figures.live--;
    figures.live_bytes -= page->size;
    if (guarded) { /* else it is not used again: what it was is not to be mixed up */
        push_locked(page);
    }
    ap__lock_release(&lock);
}

size_t ap__sampled_size(const void *p, const char *function)
{
    return live_page(p, function, NULL)->size;
}

void ap__sampled_stats(struct ap__sampled_stats *stats)
{
    ap__lock_take(&lock);
    *stats = figures;
    ap__lock_release(&lock);
}
