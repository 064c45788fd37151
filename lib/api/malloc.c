/* SPDX-License-Identifier: MIT */
/*
 * malloc.c: the slow halves of malloc, calloc and free.
 *
 * Reached when a list is empty or full, for sizes beyond the tables, for large objects, for threads
 * without a cache, and for pointers that are not what they should be.
 */
#include "api/malloc.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "api/fast_path.h"
#include "api/live_check.h"
#include "api/small_size.h"
#include "cache/fold.h"
#include "central/central_free_list.h"
#include "central/transfer_cache.h"
#include "config/options.h"
#include "decay/decay.h"
#include "guard/misuse.h"
#include "hardened/hardened.h"
#include "hardened/sampled.h"
#include "heap/page_heap.h"
#include "large/large.h"
#include "life/init.h"
#include "pack/pack.h"
#include "pack/pack_place.h"

void *ap__no_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

/* Where the class becomes recycled meanwhile, a refill may bring packed blocks: one that is not aligned goes home, for one
 * of the class' own spans. */
static void *take_of_class(struct ap__thread_cache *cache, size_t alignment, unsigned size_class)
{
    void *p = NULL;
    if (AP_LIKELY(cache != NULL)) {
        p = ap__thread_cache_refill(cache, size_class);
        if (AP_LIKELY(((uintptr_t)p & (alignment - 1)) == 0)) {
            return p;
        }
        ap__pack_give_kept(size_class, &p, 1, "malloc");
    }
    return ap__central_take(size_class, &p, 1) == 1 ? p : NULL;
}

/* As long as it was asked to be, unless blocks of the class go through caches: there each has to serve all its sizes. */
static void *take_packed(const struct ap__thread_cache *cache, size_t size, unsigned size_class)
{
    size_t bytes = ap__pack_is_recycled(size_class) ? ap__size_class[size_class].size : size;
    return ap__pack_take(bytes, cache != NULL ? cache->number : 0);
}

/* One of a class that has all the spans that it may have: it gets one more. Other threads may have used it up before this one
 * has a block. */
static void *take_despite_bound(struct ap__thread_cache *cache, size_t alignment,
                                unsigned size_class)
{
    void *p = NULL;
    while (p == NULL && ap__central_add_span(size_class)) {
        p = take_of_class(cache, alignment, size_class);
    }
    return p;
}

/* The same, packed if that may be. Where there is no memory for a packed span the bound is lifted: so that the page heap is
 * not asked for one again for each block. */
static void *take_packed_or_despite_bound(struct ap__thread_cache *cache, size_t alignment,
                                          size_t size, unsigned size_class, bool may_pack)
{
    if (may_pack && !ap__central_is_bound_lifted(size_class)) {
        void *p = take_packed(cache, size, size_class);
        if (p != NULL) {
            return p;
        }
        ap__central_lift_bound(size_class, AP__PACK_SPAN_GRANULES);
    }
    return take_despite_bound(cache, alignment, size_class);
}

/* Where the class has all the spans that it may have and no block: a packed one, or, if there is no memory for a span of
 * those, as short a span as the class needs; or what packed spans that are there have free. */
static AP_NOINLINE void *take_beyond_bound(struct ap__thread_cache *cache, size_t alignment,
                                           size_t size, unsigned size_class)
{
    bool may_pack = ap__pack_may(alignment, size);
    void *p = NULL;
    if (ap__central_bound(size_class) != SIZE_MAX) {
        p = take_packed_or_despite_bound(cache, alignment, size, size_class, may_pack);
    }
    if (AP_UNLIKELY(p == NULL) && may_pack && ap__pack_block_bytes() != 0) {
        p = take_packed(cache, size, size_class);
    }
    return p;
}

/* What threads of any processor have passed on. Packed blocks among it may not be aligned: they go to their pools. */
static void *take_passed_on(size_t alignment, unsigned size_class)
{
    void *p;
    while (ap__transfer_drain(size_class, &p, 1) == 1) {
        if ((uintptr_t)p % alignment == 0) {
            return p;
        }
        ap__pack_give_kept(size_class, &p, 1, "malloc");
    }
    return NULL;
}

/* There is no memory for a span of the class, and nothing free in those that it has. The next class was that of these sizes
 * before a fine one was opened, and may have blocks, or shorter spans. */
AP_COLD static void *take_from_elsewhere(struct ap__thread_cache *cache, size_t alignment,
                                         unsigned size_class)
{
    void *p = take_passed_on(alignment, size_class);
    unsigned next = ap__class_above_fine(size_class);
    if (p == NULL && next != 0) {
        p = take_of_class(cache, alignment, next);
        p = p != NULL ? p : take_passed_on(alignment, next);
    }
    return p;
}

static void *take_otherwise(struct ap__thread_cache *cache, size_t alignment, size_t size,
                            unsigned size_class)
{
    void *p = take_beyond_bound(cache, alignment, size, size_class);
    return p != NULL ? p : take_from_elsewhere(cache, alignment, size_class);
}

/* Before memory counts as used up: what recycled classes have in transfer caches is free in packed spans again. `false`: it
 * was nothing. */
AP_COLD static bool bring_packed_home(void)
{
    bool any = false;
    for (unsigned c = 1; ap__pack_recycles_any() && c < AP_CLASS_COUNT; c++) {
        any |= ap__pack_is_recycled(c) && ap__pack_empty_transfers(c, "malloc");
    }
    return any;
}

/* Whether the thread has blocks of the class that a fold hides. */
static bool has_hidden(const struct ap__thread_cache *cache, unsigned size_class)
{
    return cache != NULL && ap__fold_hidden(&cache->infos[size_class]) != 0;
}

/* Whether packed blocks may be in lists of the class, or of the one that has its sizes too (take_from_elsewhere()). */
static bool may_hold_packed(unsigned size_class)
{
    return ap__pack_is_recycled(size_class) ||
           ap__pack_is_recycled(size_class + ap__class_is_fine(size_class));
}

/* A block when the hit path has none, and pages of their own are for none of the thread's. */
static void *take_plain(struct ap__thread_cache *cache, size_t alignment, size_t size,
                        unsigned size_class)
{
    void *p = NULL;
    if (AP_UNLIKELY(alignment > AP_UNIT_BYTES) && may_hold_packed(size_class)) {
        cache = NULL; /* what its list has may be packed, and not so aligned */
    }
    if (AP_LIKELY(cache != NULL)) {
        p = ap__free_list_pop(&cache->lists[size_class]);
        if (p != NULL) {
            return p;
        }
        ap__fine_classes_note(&cache->infos[size_class].fitting, size_class,
                              ap__size_for_aligned(alignment, size));
    }
    if (AP_LIKELY(!ap__central_is_at_bound(size_class)) || has_hidden(cache, size_class)) {
        p = take_of_class(cache, alignment, size_class);
    }
    if (AP_UNLIKELY(p == NULL)) {
        p = take_otherwise(cache, alignment, size, size_class);
        if (AP_UNLIKELY(p == NULL) && bring_packed_home()) {
            p = take_otherwise(cache, alignment, size, size_class);
        }
    }
    return p;
}

/* How many allocations the caller stands for: in the mean, as many as the cache gets blocks at a time. */
static uint64_t allocations_by_now(const struct ap__thread_cache *cache)
{
    if (ap__options.hardened != 0 || cache == NULL) {
        return 1;
    }
    uint64_t refills = atomic_load_explicit(&cache->refills, memory_order_relaxed);
    return refills == 0 ? 1
                        : atomic_load_explicit(&cache->blocks_in, memory_order_relaxed) / refills;
}

static void *take_large(size_t alignment, size_t size, bool zeroed)
{
    return AP_UNLIKELY(ap__options.hardened != 0)
               ? ap__hardened_take(ap__thread_cache_or_null(), alignment, size)
               : ap__large_take(size, alignment, zeroed);
}

void *ap__take_large(size_t alignment, size_t size, bool zeroed)
{
    ap__life_init();
    void *p = take_large(alignment, size, zeroed);
    if (AP_UNLIKELY(p == NULL) && bring_packed_home()) {
        p = take_large(alignment, size, zeroed);
    }
    ap__decay_poll_above_limit();
    return p;
}

/*
 * Where the program called the heap from, as far as stack traces care: the hit paths of malloc() and free(), which are
 * what the unwinder calls, end with a jump to the slow ones and leave no frame. Elsewhere it may be our own code.
 */
#define CALLER __builtin_return_address(0)

/* Small blocks that no hit path has, and with `hardened` all. NULL: no memory. */
static void *take_slow(size_t alignment, size_t size, unsigned size_class, const void *caller)
{
    struct ap__thread_cache *cache = ap__life_enter();
    void *p = NULL;
    if (AP_UNLIKELY(ap__sampled_is_on()) && ap__sampled_is_due(allocations_by_now(cache))) {
        p = ap__sampled_take(alignment, size, false, caller);
    }
    if (AP_LIKELY(p == NULL)) {
        p = AP_UNLIKELY(ap__options.hardened != 0) ? ap__hardened_take(cache, alignment, size)
                                                   : take_plain(cache, alignment, size, size_class);
    }
    if (AP_UNLIKELY(p == NULL && ap__sampled_is_on())) {
        p = ap__sampled_take(alignment, size, true, caller);
    }
    return p;
}

void *ap__take_quiet(size_t alignment, size_t size, unsigned size_class)
{
    int saved_errno = errno;
    void *p = take_slow(alignment, size, size_class, CALLER);
    errno = saved_errno;
    return p;
}

void *ap__malloc_slow(size_t size)
{
    void *p = NULL;
    if (size <= AP_SMALL_SIZE_MAX) {
        unsigned size_class = ap__class_for(size);
        /* Sizes beyond the tables have their hits here. */
        p = size > AP_BY_128_MAX ? ap__take_in_sight(size_class) : NULL;
        p = p != NULL ? p : take_slow(AP_MIN_ALIGNMENT, size, size_class, CALLER);
    } else if (size <= AP__LARGE_SIZE_MAX) {
        p = ap__take_large(AP_MIN_ALIGNMENT, size, false);
    }
    return AP_LIKELY(p != NULL) ? p : ap__no_memory();
}

/* Where another thread has come between: `top` is where the top of the list was. */
void *ap__malloc_late(size_t size, ap__slot *top)
{
    struct ap__free_list *lists = ap__thread_cache_current->lists;
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        if (ap__free_list_top(&lists[c]) == top - 1) {
            ap__free_list_set_top(&lists[c], top);
            break;
        }
    }
    return ap__malloc_slow(size);
}

void *ap__calloc(size_t count, size_t size)
{
    size_t bytes;
    if (AP_UNLIKELY(__builtin_mul_overflow(count, size, &bytes))) {
        return ap__no_memory();
    }
    if (bytes <= AP_SMALL_SIZE_MAX) {
        void *p = ap__malloc_inline(bytes);
        return p == NULL ? NULL : memset(p, 0, bytes);
    }
    if (bytes > AP__LARGE_SIZE_MAX) {
        return ap__no_memory();
    }
    void *p = ap__take_large(AP_MIN_ALIGNMENT, bytes, true);
    return p == NULL ? ap__no_memory() : p;
}

/* ------------------------------------------------------------ what a pointer is */

/* Why a pointer that is neither a small block nor a live large object is none. */
AP_NORETURN AP_COLD static void report_no_block(const void *p, const char *function)
{
    const struct ap__span *span = ap__page_heap_span_of((uintptr_t)p);
    if (span != NULL && span->state == AP__SPAN_LARGE && (uintptr_t)p > span->start &&
        (uintptr_t)p - span->start < ap__span_bytes(span)) {
        ap__misuse(function, p, AP__MISUSE_INTERIOR);
    }
    bool ours = ap__region_contains((uintptr_t)p);
    ap__misuse(function, p, ours ? AP__MISUSE_NOT_LIVE : AP__MISUSE_FOREIGN);
}

static void check_aligned(const void *p, const char *function)
{
    if (AP_MISUSED((uintptr_t)p % AP_MIN_ALIGNMENT != 0)) {
        ap__misuse(function, p, AP__MISUSE_MISALIGNED);
    }
}

bool ap__is_exact(const void *p)
{
    return ap__options.hardened != 0 || ap__sampled_contains(p);
}

/* The size of a block that is exactly as long as the program asked. */
static size_t exact_size(const void *p, const char *function)
{
    size_t size;
    if (ap__sampled_contains(p)) {
        return ap__sampled_size(p, function);
    }
    if (!ap__hardened_size(p, &size, function)) {
        report_no_block(p, function);
    }
    return size;
}

static size_t packed_size(struct ap__span *span, const void *p, const char *function)
{
    size_t usable = ap__pack_usable_size(span, p);
    if (AP_UNLIKELY(usable == 0)) {
        ap__misuse(function, p, ap__pack_why_no_block(span, p));
    }
    unsigned size_class = ap__pack_class_to_keep(usable >> AP_UNIT_SHIFT);
    if (size_class != 0) {
        ap__check_live(size_class, p, function);
    }
    return usable;
}

struct ap__block ap__block_at(const void *p, const char *function)
{
    check_aligned(p, function);
    if (AP_UNLIKELY(ap__is_exact(p))) {
        return (struct ap__block){exact_size(p, function), 0, NULL};
    }
    unsigned size_class = ap__page_heap_class_of(p);
    if (size_class != 0) {
        if (AP_MISUSED(!ap__central_is_slot(size_class, p))) {
            ap__misuse(function, p, AP__MISUSE_INTERIOR);
        }
        ap__check_live(size_class, p, function);
        return (struct ap__block){ap__size_class[size_class].size, size_class, NULL};
    }
    struct ap__span *packed = ap__pack_span_of(p);
    size_t usable = packed != NULL ? packed_size(packed, p, function) : ap__large_usable_size(p);
    if (AP_UNLIKELY(usable == 0)) {
        report_no_block(p, function);
    }
    return (struct ap__block){usable, 0, packed};
}

/* ------------------------------------------------------------ free */

static void free_small(unsigned size_class, void *p, const char *function)
{
    ap__check_live(size_class, p, function);
    struct ap__thread_cache *cache = ap__life_enter_to_free();
    if (AP_UNLIKELY(cache == NULL)) {
        ap__pack_give_kept(size_class, &p, 1, function);
    } else {
        ap__thread_cache_overflow(cache, size_class, p, function);
    }
}

static void free_packed(struct ap__span *span, void *p, const char *function)
{
    unsigned size_class = ap__pack_recycles_any() ? ap__pack_kept_class(p) : 0;
    if (size_class != 0) {
        free_small(size_class, p, function); /* its list has no room */
    } else if (ap__pack_give(span, p, function)) {
        ap__decay_poll();
    }
}

static void free_large(void *p, const char *function)
{
    ap__decay_poll();
    if (AP_LIKELY(ap__large_give(p))) {
        ap__decay_poll_at_once();
    } else if (ap__options.ignore_foreign == 0 || ap__region_contains((uintptr_t)p)) {
        report_no_block(p, function);
    }
}

static void free_exact(void *p, const char *function, const void *caller)
{
    struct ap__thread_cache *cache = ap__life_enter();
    ap__decay_poll();
    if (ap__sampled_contains(p)) {
        ap__sampled_give(p, function, caller);
    } else if (ap__hardened_give(cache, p, function)) {
        ap__decay_poll_at_once();
    } else if (ap__options.ignore_foreign == 0 || ap__region_contains((uintptr_t)p)) {
        report_no_block(p, function);
    }
}

static AP_NOINLINE void free_any(void *p, const char *function, const void *caller)
{
    if (p == NULL) {
        return;
    }
    check_aligned(p, function);
    if (AP_UNLIKELY(ap__is_exact(p))) {
        free_exact(p, function, caller);
        return;
    }
    unsigned size_class = ap__page_heap_class_of(p);
    if (size_class != 0) {
        free_small(size_class, p, function);
        return;
    }
    struct ap__span *packed = ap__pack_span_of(p);
    if (packed != NULL) {
        free_packed(packed, p, function);
    } else {
        free_large(p, function);
    }
}

/* No frame up to here: see pack_place.h. */
void ap__free_slow(void *p, const char *function)
{
    unsigned kept = ap__pack_recycles_any() ? ap__pack_kept_class(p) : 0;
    if (kept == 0 || !ap__push_to_inline(kept, p)) {
        free_any(p, function, CALLER);
    }
}

/* Nowhere is it noted of which block. */
static _Atomic(bool) has_kept_block;

void ap__note_kept_block(void)
{
    /* relaxed, both: who frees the block has it from the thread that resized it. */
    atomic_store_explicit(&has_kept_block, true, memory_order_relaxed);
}

static bool may_be_kept_block(void)
{
    return atomic_load_explicit(&has_kept_block, memory_order_relaxed);
}

/* Whether a block that is exactly as long as it was asked to be was asked for with `size`. An object of 0 bytes at an
 * alignment that no class has is one byte long. */
static bool is_exact_size(const void *p, size_t usable_bytes, size_t size)
{
    bool is_empty_object = size == 0 && usable_bytes == 1 && ap__large_usable_size(p) != 0;
    return size == usable_bytes || is_empty_object || may_be_kept_block();
}

/*
 * Whether the block can have been asked for with `size`. Smaller sizes than the class would serve are
 * right after a realloc() in place, which keeps a block down to half its size, or any if there is no memory.
 */
static bool size_fits(const void *p, struct ap__block block, size_t size)
{
    if (size > block.usable_bytes) {
        return false;
    }
    if (ap__is_exact(p)) {
        return is_exact_size(p, block.usable_bytes, size);
    }
    return size >= block.usable_bytes / 2 || block.size_class == 1 || may_be_kept_block();
}

void ap__free_sized(void *p, size_t size, const char *function)
{
    if (p == NULL) {
        return;
    }
    if (AP_MISUSED(!size_fits(p, ap__block_at(p, function), size))) {
        ap__misuse(function, p, AP__MISUSE_WRONG_SIZE);
    }
    ap__free_inline(p, function);
}

void ap__delete_slow(void *p, size_t size, const char *function)
{
    if (p != NULL && ap__is_exact(p) && !size_fits(p, ap__block_at(p, function), size)) {
        ap__misuse(function, p, AP__MISUSE_WRONG_SIZE);
    }
    ap__free_slow(p, function);
}

void ap__free_aligned_sized(void *p, size_t alignment, size_t size, const char *function)
{
    if (p == NULL) {
        return;
    }
    if (AP_MISUSED(!ap__is_power_of_two(alignment) || (uintptr_t)p % alignment != 0)) {
        ap__misuse(function, p, AP__MISUSE_WRONG_ALIGNMENT);
    }
    /* An aligned block may be far larger than its size; only too large a size is surely wrong. */
    size_t usable = ap__block_at(p, function).usable_bytes;
    bool fits = size <= usable && (!ap__is_exact(p) || is_exact_size(p, usable, size));
    if (AP_UNLIKELY(!fits)) {
        ap__misuse(function, p, AP__MISUSE_WRONG_SIZE);
    }
    ap__free_inline(p, function);
}

/* A function of its own, so that small blocks need no stack frame. */
static AP_NOINLINE size_t usable_size_slow(const void *p, const char *function)
{
    return p == NULL ? 0 : ap__block_at(p, function).usable_bytes;
}

size_t ap__usable_size(void *p, const char *function)
{
    size_t size = ap__small_size_inline(p);
    return AP_LIKELY(size != 0) ? size : usable_size_slow(p, function);
}

size_t ap__good_size(size_t size)
{
    if (AP_UNLIKELY(ap__options.hardened != 0)) {
        return size > AP__LARGE_SIZE_MAX ? 0 : size;
    }
    if (size <= AP_SMALL_SIZE_MAX) {
        return ap__size_class[ap__class_for(size)].size;
    }
    return size > AP__LARGE_SIZE_MAX ? 0 : ap__large_good_size(size);
}
