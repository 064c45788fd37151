/* SPDX-License-Identifier: MIT */
/*
 * decay.c: the steps.
 *
 * Free spans follow a curve of bytes, one for short and one for long spans. Spans that are partly used are
 * looked at sixteen times in `decay_ms`: one from which no block was taken in four to sixteen looks
 * gives its free pages back. A span that is in use for new blocks is left alone: its pages would be
 * faulted again. So does metadata, of which enough lay free from one look to the next.
 */
#include "decay/decay.h"

#include <stdatomic.h>

#include "base/bits.h"
#include "central/central_free_list.h"
#include "central/transfer_cache.h"
#include "decay/curve.h"
#include "decay/pressure.h"
#include "heap/heap_limits.h"
#include "heap/page_heap.h"
#include "meta/meta.h"
#include "os/bell.h"
#include "os/os.h"
#include "os/yield.h"
#include "pack/pack.h"

enum {
    LONG_DIVISOR = 5,     /* how much sooner long spans go */
    LOOKS_PER_DECAY = 16, /* at partly used spans and transfer caches */
    AGE_LEAST = 4,        /* looks at which a span is left alone since it was of use */
    MUCH_DIVISOR = 16,
    AT_ONCE_MS = 10, /* from look to look where nothing is to stay; see step_at_once() */
};
#define MUCH_BYTES_MIN ((size_t)4 << 20)

struct ap__bell ap__decay_bell;

/* What a thread that does a step owns: see `stepping`. */
static struct {
    struct ap__curve curves[AP__DIRTY_KINDS];
    uint64_t stepped_ms[AP__DIRTY_KINDS];
    uint64_t looked_ms;
    uint64_t relieved_ms;
    uint64_t now_ms;   /* latest time seen: another thread may come with an earlier one */
    uint64_t since_ms; /* what is unused has been so since then, at least */
    unsigned looks;
} state;

/* Set at start, constant afterwards. */
static uint64_t decay_ms;
static ap__decay_look *look_above; /* NULL: none */

static _Atomic(bool) stepping; /* a step is under way */
static _Atomic(bool) wanted;   /* another one is wanted after it */
static _Atomic(bool) pending;  /* the next look may find something */
/* Whether a helper does the steps. Once there has been one, on a page that the kernel clears in every child process: one
 * that was made without libc's handlers (_Fork, clone) has no helper either, and would wait for it for ever. */
static _Atomic(bool) plain_flag;
static _Atomic(_Atomic(bool) *) helped_flag = &plain_flag;
static _Atomic(uint64_t) due_ms;    /* for poll(): no step is due before */
static _Atomic(uint64_t) polled_ms; /* by any thread, the last time */

void ap__decay_init(uint64_t milliseconds)
{
    decay_ms = milliseconds;
}

void ap__decay_look_also(ap__decay_look *look_there)
{
    look_above = look_there;
}

bool ap__decay_is_helped(void)
{
    /* relaxed, all: a poll or a step more does no harm, and a flag that has moved is false where it was. */
    _Atomic(bool) *flag = atomic_load_explicit(&helped_flag, memory_order_relaxed);
    return atomic_load_explicit(flag, memory_order_relaxed);
}

/* Once. Without memory, or a kernel that knows how, it stays where it is. */
static void move_helped_flag(void)
{
    static bool is_tried; /* of the one thread */
    size_t page_bytes = ap__os_page_size();
    if (!is_tried) {
        is_tried = true;
        void *page = ap__meta_map(page_bytes);
        if (page != NULL && ap__os_wipe_on_fork(page, page_bytes)) {
            atomic_store_explicit(&helped_flag, page, memory_order_relaxed);
        }
    }
}

void ap__decay_set_helped(bool helped)
{
    if (helped) {
        move_helped_flag();
    }
    atomic_store_explicit(atomic_load_explicit(&helped_flag, memory_order_relaxed), helped,
                          memory_order_relaxed);
}

void ap__decay_expect_work(void)
{
    atomic_store_explicit(&pending, true, memory_order_relaxed);
}

void ap__decay_after_fork_in_child(void)
{
    ap__decay_set_helped(false);
    atomic_store_explicit(&stepping, false, memory_order_relaxed);
}

/* ------------------------------------------------------------ free spans */

static uint64_t step_ms_of(enum ap__dirty_kind kind)
{
    uint64_t whole_ms = kind == AP__DIRTY_LONG ? decay_ms / LONG_DIVISOR : decay_ms;
    return ap__max(whole_ms / AP_CURVE_STEPS, 1);
}

/* Milliseconds to the next step, -1 if there is nothing to give back. */
static int64_t step_spans(enum ap__dirty_kind kind, uint64_t now_ms)
{
    uint64_t step_ms = step_ms_of(kind);
    uint64_t steps = (now_ms - state.stepped_ms[kind]) / step_ms;
    size_t unused = ap__page_heap_dirty_bytes(kind);
    if (steps != 0) {
        struct ap__curve *curve = &state.curves[kind];
        state.stepped_ms[kind] += steps * step_ms;
        uint64_t late = ap__min(steps, (now_ms - state.since_ms) / step_ms);
        size_t may_stay = ap__curve_advance(curve, steps - late, unused);
        if (late != 0) {
            ap__curve_left(curve, unused);
            may_stay = ap__curve_advance(curve, late, unused);
        }
        if (unused > may_stay && ap__page_heap_purge(kind, may_stay) == 0) {
            return -1; /* the kernel does not take it: locked pages, say */
        }
        unused = ap__page_heap_dirty_bytes(kind);
        ap__curve_left(curve, unused);
    }
    return unused == 0 ? -1 : (int64_t)(state.stepped_ms[kind] + step_ms - now_ms);
}

/* ------------------------------------------------------------ spans in use, transfer caches */

static bool empty_transfer_caches(unsigned size_class)
{
    void *blocks[AP_BATCH_MAX];
    for (unsigned shard = 0; shard < ap__transfer_shards(); shard++) {
        unsigned got;
        while ((got = ap__transfer_take_unused(size_class, shard, blocks, AP_BATCH_MAX)) != 0) {
            ap__pack_give_kept(size_class, blocks, got, "free");
        }
    }
    return ap__transfer_count(size_class) != 0;
}

static void look(uint64_t periods)
{
    bool more = false;
    atomic_store_explicit(&pending, false, memory_order_relaxed);
    AP__YIELD_POINT();
    state.looks += (unsigned)ap__min(periods, LOOKS_PER_DECAY);
    ap__central_set_epoch(state.looks);
    more |= look_above != NULL && look_above(AGE_LEAST);
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        more |= empty_transfer_caches(c);
        (void)ap__central_purge(c, AGE_LEAST, LOOKS_PER_DECAY, &more);
    }
    (void)ap__pack_purge(AGE_LEAST, LOOKS_PER_DECAY, &more);
    (void)ap__meta_purge_unused(&more); /* after those that free some */
    AP__YIELD_POINT();
    if (more) {
        ap__decay_expect_work();
    }
}

static uint64_t look_period_ms(void)
{
    return decay_ms == 0 ? AT_ONCE_MS : ap__max(decay_ms / LOOKS_PER_DECAY, 1);
}

static int64_t step_looks(uint64_t now_ms)
{
    uint64_t period_ms = look_period_ms();
    bool expected = atomic_load_explicit(&pending, memory_order_relaxed);
    if (expected && now_ms - state.looked_ms >= period_ms) {
        uint64_t quiet_ms = now_ms - ap__max(state.looked_ms, state.since_ms);
        state.looked_ms = now_ms;
        look(ap__max(quiet_ms / period_ms, 1));
        expected = atomic_load_explicit(&pending, memory_order_relaxed);
    }
    return expected ? (int64_t)(state.looked_ms + period_ms - now_ms) : -1;
}

void ap__decay_empty_caches(const char *function)
{
    if (look_above != NULL) {
        (void)look_above(0);
    }
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        (void)ap__pack_empty_transfers(c, function);
    }
}

/* ------------------------------------------------------------ steps */

/* Everything, now. */
static size_t give_back_at_once(void)
{
    bool more = false;
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        (void)ap__central_purge(c, 0, 0, &more);
    }
    (void)ap__pack_purge(0, 0, &more);
    size_t bytes = ap__page_heap_purge_all();
    return bytes + ap__meta_purge_at_once();
}

/* The earlier of two waits; -1 is none. */
static int64_t earlier(int64_t a, int64_t b)
{
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

/* So much in free spans does not wait: who frees it all may come here no more for a long time. */
static bool is_much_unused(void)
{
    size_t unused = 0;
    for (int kind = 0; kind < AP__DIRTY_KINDS; kind++) {
        unused += ap__page_heap_dirty_bytes((enum ap__dirty_kind)kind);
    }
    return unused >= ap__max(ap__heap_limits_soft() / MUCH_DIVISOR, MUCH_BYTES_MIN);
}

/* Above the soft limit nothing waits, but all places are looked at not more often than every AP__PRESSURE_MS. */
static int64_t step_under_pressure(uint64_t now_ms)
{
    if (now_ms - state.relieved_ms >= AP__PRESSURE_MS) {
        state.relieved_ms = now_ms;
        ap__decay_empty_caches("free");
        if (give_back_at_once() == 0) {
            return -1; /* until there is more */
        }
    } else if (is_much_unused()) {
        (void)ap__page_heap_purge_all();
    }
    return (int64_t)(state.relieved_ms + AP__PRESSURE_MS - now_ms) + 1;
}

static int64_t step(uint64_t now_ms)
{
    if (AP_UNLIKELY(ap__heap_limits_pressure() != AP__PRESSURE_NONE)) {
        return step_under_pressure(now_ms);
    }
    /* The spans after the looks, which free some. */
    int64_t wait_ms = step_looks(now_ms);
    for (int kind = 0; kind < AP__DIRTY_KINDS; kind++) {
        wait_ms = earlier(wait_ms, step_spans((enum ap__dirty_kind)kind, now_ms));
    }
    return wait_ms < 0 ? -1 : wait_ms + 1; /* a millisecond that has begun is not over */
}

/* Nothing is to stay. But what threads may take again at any moment has to lie unused from one look to the next. There is
 * no helper then, whose steps would be late: threads that allocate do it for those that sleep. */
static int64_t step_at_once(uint64_t now_ms)
{
    (void)step_looks(now_ms);
    (void)give_back_at_once();
    return -1;
}

static int64_t step_or_all(uint64_t now_ms, uint64_t since_ms)
{
    state.now_ms = ap__max(state.now_ms, now_ms);
    state.since_ms = ap__min(since_ms, state.now_ms);
    int64_t wait_ms = decay_ms == 0 ? step_at_once(state.now_ms) : step(state.now_ms);
    ap__pressure_tell();
    return wait_ms;
}

static bool presses_now(void)
{
    return ap__heap_limits_pressure() != AP__PRESSURE_NONE;
}

/* Even where nothing is to go back by time, a limit is one. */
static bool may_step(bool presses)
{
    return decay_ms != AP__DECAY_NEVER || presses;
}

int64_t ap__decay_step(uint64_t now_ms)
{
    return ap__decay_step_since(now_ms, now_ms);
}

int64_t ap__decay_step_since(uint64_t now_ms, uint64_t since_ms)
{
    if (!may_step(presses_now())) {
        return -1;
    }
    int64_t wait_ms = -1;
    /* seq_cst: either this thread finds no step under way, or the one whose it is finds `wanted` when
     * it has ended. It also passes `state` from one to the next. */
    atomic_store_explicit(&wanted, true, memory_order_seq_cst);
    AP__YIELD_POINT();
    while (atomic_load_explicit(&wanted, memory_order_seq_cst) &&
           !atomic_exchange_explicit(&stepping, true, memory_order_seq_cst)) {
        AP__YIELD_POINT();
        atomic_store_explicit(&wanted, false, memory_order_seq_cst);
        AP__YIELD_POINT();
        wait_ms = step_or_all(now_ms, since_ms);
        AP__YIELD_POINT();
        atomic_store_explicit(&stepping, false, memory_order_seq_cst);
        AP__YIELD_POINT();
    }
    return wait_ms;
}

/* Whoever meets the limit does not wait for the helper's next step, which may be long ahead. */
static AP_NOINLINE void urge_helper(void)
{
    static _Atomic(uint64_t)
        urged_ms; /* relaxed: once too often, or late by a poll, does no harm */
    uint64_t now_ms = ap__os_now_ms();
    uint64_t before_ms = atomic_load_explicit(&urged_ms, memory_order_relaxed);
    if (now_ms - before_ms >= AP__PRESSURE_MS || is_much_unused()) {
        atomic_store_explicit(&urged_ms, now_ms, memory_order_relaxed);
        ap__bell_ring(&ap__decay_bell);
        ap__bell_ring(&ap__heap_bell);
    }
}

void ap__decay_poll(void)
{
    bool presses = presses_now();
    if (!may_step(presses)) {
        return;
    }
    /* relaxed, all: hints. */
    if (ap__decay_is_helped()) {
        if (AP_UNLIKELY(presses)) {
            urge_helper();
        }
        return;
    }
    uint64_t now_ms = ap__os_now_ms();
    uint64_t before_ms = atomic_load_explicit(&polled_ms, memory_order_relaxed);
    atomic_store_explicit(&polled_ms, now_ms, memory_order_relaxed);
    if (now_ms < atomic_load_explicit(&due_ms, memory_order_relaxed) && !presses) {
        return;
    }
    AP__YIELD_POINT();
    uint64_t step_ms = step_ms_of(AP__DIRTY_LONG);
    atomic_store_explicit(&due_ms, decay_ms == 0 ? 0 : now_ms + step_ms, memory_order_relaxed);
    AP__YIELD_POINT();
    ap__decay_expect_work();
    (void)ap__decay_step_since(now_ms, before_ms != 0 ? before_ms : now_ms);
}

void ap__decay_poll_at_once(void)
{
    if (decay_ms == 0) {
        ap__decay_poll();
    }
}

void ap__decay_poll_above_limit(void)
{
    if (AP_UNLIKELY(ap__heap_limits_pressure() == AP__PRESSURE_USED)) {
        ap__decay_poll();
    }
}
