/* SPDX-License-Identifier: MIT */
/*
 * fast_path.h: the hit paths of malloc and free, inlined into every entry point; nothing else.
 *
 * malloc: size -> class (one byte from a table) -> this thread's list -> pop. free: address -> class
 * (one byte from the class map) -> list -> push. No call, no lock, no atomic read-modify-write, no stack
 * frame; test/golden counts the instructions. What each comparison is for:
 *   malloc: size within the tables; list not empty; the block not taken by another thread between (free_list.h).
 *   free:   address inside the region and aligned (one comparison: the offset is rotated by four, so
 *           stray low bits become high ones); list not full (the list of class 0, "no small block", always
 *           is); not the block that was freed last.
 *
 * Neither touches the block: one that lies in no cache any more is not fetched just to be put on a list.
 * Refused, because of that fetch: a mark in the block's first word by which every double free is
 * seen at once (up to 1.9 times the time on cold blocks; option `hardened` finds them, on slow paths).
 */
#ifndef AP_API_FAST_PATH_H
#define AP_API_FAST_PATH_H

#include "cache/fine_classes.h"
#include "cache/thread.h"
#include "heap/region.h"

/* api/malloc.c; `function` is the entry point's name, for reports. */
AP_COLD void *ap__malloc_slow(size_t size);
AP_COLD void *ap__malloc_late(size_t size, ap__slot *top);
AP_NOINLINE void ap__free_slow(void *p, const char *function);
AP_COLD void ap__delete_slow(void *p, size_t size, const char *function);
/* A small block, where the hit path has none; leaves errno alone. */
AP_COLD void *ap__take_quiet(size_t alignment, size_t size, unsigned size_class);

/* For who knows the class: a block from this thread's list; NULL if that is empty. */
static inline void *ap__take_in_sight(unsigned size_class)
{
    return ap__free_list_pop(&ap__thread_cache_current->lists[size_class]);
}

static AP_ALWAYS_INLINE void *ap__malloc_inline(size_t size)
{
    size_t size_class;
    if (AP_LIKELY(size <= AP_BY_16_MAX)) {
        size_class = ap__class_by_16(size);
    } else if (AP_LIKELY(size <= AP_BY_128_MAX)) {
        size_class = ap__class_by_128(size);
    } else {
        return ap__malloc_slow(size);
    }
    struct ap__free_list *list = &ap__thread_cache_current->lists[size_class];
    ap__slot *top = ap__free_list_top(list);
    if (AP_UNLIKELY(ap__free_list_is_empty(top))) {
        return ap__malloc_slow(size);
    }
    void *p = ap__free_list_pop_from(list, top);
    /* Not the list, which would take one more register, and an instruction. */
    return AP_LIKELY(p != NULL) ? p : ap__malloc_late(size, top);
}

/* Whether `p` lies in the region and is aligned; *offset_16: its offset there, in units of 16 bytes. `base`: the
 * region's, which compilers would load anew for each use. */
static AP_ALWAYS_INLINE bool ap__find_inline(uintptr_t base, const void *p, size_t *offset_16)
{
    uintptr_t offset = (uintptr_t)p - base;
    *offset_16 = offset >> 4 | (AP_CHECKS ? offset << 60 : 0); /* a rotation */
    return *offset_16 < ap__region_limit_16();
}

/* Puts a block on this thread's list of a class. `false`: it has no room, or has the block on top. */
static AP_ALWAYS_INLINE bool ap__push_to_inline(size_t size_class, void *p)
{
    struct ap__free_list *list = &ap__thread_cache_current->lists[size_class];
    ap__slot *top = ap__free_list_top(list);
    if (AP_UNLIKELY(top == list->full) || AP_MISUSED(ap__slot_load_own(top) == p)) {
        return false;
    }
    ap__slot_store(top + 1, p);
    ap__free_list_set_top(list, top + 1);
    return true;
}

/* `false`: that is for a slow path. */
static AP_ALWAYS_INLINE bool ap__push_inline(void *p)
{
    uintptr_t base = ap__region_base();
    size_t offset_16;
    if (AP_UNLIKELY(!ap__find_inline(base, p, &offset_16))) {
        return false;
    }
    /* relaxed, as ap__region_class_of(); the map starts at the base, which is in a register. */
    size_t size_class = atomic_load_explicit((_Atomic(uint8_t) *)base +
                                                 (offset_16 >> (AP_PAGE_HEAP_GRANULE_SHIFT - 4)),
                                             memory_order_relaxed);
    return ap__push_to_inline(size_class, p);
}

static AP_ALWAYS_INLINE void ap__free_inline(void *p, const char *function)
{
    if (AP_UNLIKELY(!ap__push_inline(p))) {
        ap__free_slow(p, function);
    }
}

/* With the size that the program says; looked at where all calls are slow. */
static AP_ALWAYS_INLINE void ap__delete_inline(void *p, size_t size, const char *function)
{
    if (AP_UNLIKELY(!ap__push_inline(p))) {
        ap__delete_slow(p, size, function);
    }
}

#endif
