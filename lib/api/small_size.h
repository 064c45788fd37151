/* SPDX-License-Identifier: MIT */
/*
 * small_size.h: the size of a small block, inlined into the functions that ask for it; nothing else.
 *
 * realloc() of blocks that stay, malloc_usable_size(): some programs ask at every allocation and every free. All
 * that ap__block_at() looks at is looked at here as well; whatever is not a live small block is left to it, and to
 * its reports. About 30 instructions, no call.
 */
#ifndef AP_API_SMALL_SIZE_H
#define AP_API_SMALL_SIZE_H

#include "api/fast_path.h"
#include "cache/fold.h"
#include "config/options.h"
#include "heap/span.h"

/* Bytes of the live small block at `p`, of any pointer. 0: it is none, or all calls take slow paths. */
static AP_ALWAYS_INLINE size_t ap__small_size_inline(const void *p)
{
    size_t offset_16;
    unsigned slot;
    if (AP_UNLIKELY(!ap__find_inline(ap__region_base(), p, &offset_16) ||
                    ap__options.hardened != 0)) {
        return 0;
    }
    size_t granule = offset_16 >> (AP_PAGE_HEAP_GRANULE_SHIFT - 4);
    unsigned size_class = ap__region_class_of(granule);
    if (AP_UNLIKELY(size_class == 0)) {
        return 0;
    }
    const struct ap__size_class *info = &ap__size_class[size_class];
    size_t offset = (uintptr_t)p - ap__region_span_of(granule)->start;
    const struct ap__free_list *list = &ap__thread_cache_current->lists[size_class];
    const void *newest = ap__slot_load_own(ap__free_list_top(list));
    /* What a fold hides, all there is perhaps, is for ap__block_at() to look at. */
    bool is_folded =
        newest == NULL && ap__fold_hidden(&ap__thread_cache_current->infos[size_class]) != 0;
    bool is_live = !AP_MISUSED(!ap__slot_starts_at(info, offset, &slot)) &&
                   !AP_MISUSED(newest == p) && !AP_MISUSED(is_folded);
    return AP_LIKELY(is_live) ? info->size : 0;
}

#endif
