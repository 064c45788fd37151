/* SPDX-License-Identifier: MIT */
/*
 * pack_place.h: which packed span and unit an address lies in, and how long a block there is, without a lock.
 *
 * Inlined, and without a call on the way to what thread caches keep: each word that a call or a frame writes waits behind
 * what the program has just written to its blocks, of which a processor holds some sixty words back.
 */
#ifndef AP_PACK_PACK_PLACE_H
#define AP_PACK_PACK_PLACE_H

#include "heap/region.h"
#include "os/yield.h"
#include "pack/pack.h"
#include "pack/unit_map.h"

enum {
    AP_PACK_SPAN_UNITS = AP__PACK_SPAN_GRANULES << (AP_PAGE_HEAP_GRANULE_SHIFT - AP_UNIT_SHIFT)
};
#define AP_PACK_SPAN_BYTES ((size_t)AP_PACK_SPAN_UNITS << AP_UNIT_SHIFT)

/* A unit of a span. */
struct ap__pack_place {
    struct ap__unit_map map;
    unsigned unit;
};

/* The packed span that had the granule of an address; perhaps it has moved on since. */
static AP_ALWAYS_INLINE struct ap__span *ap__pack_find_span(const void *p)
{
    size_t granule = ap__region_granule_of((uintptr_t)p);
    if (granule >= ap__region_limit_granules() || granule < ap__region_first_granule()) {
        return NULL;
    }
    struct ap__span *span = ap__region_span_of(granule);
    return span != NULL && ap__span_peek_state(span) == AP__SPAN_PACKED ? span : NULL;
}

/* The span of a packed block that an address may lie in, NULL: none. */
static inline struct ap__span *ap__pack_span_of(const void *p)
{
    struct ap__span *span = ap__pack_find_span(p);
    bool is_inside = span != NULL && (uintptr_t)p - ap__span_peek_start(span) < AP_PACK_SPAN_BYTES;
    return is_inside ? span : NULL;
}

/*
 * Which unit of the span an address lies in. `false`: the span is not packed any more, or lies elsewhere by now.
 *
 * With the lock, or for the owner of a block there, this is exact. A wrong pointer may come without either, while the span
 * drains and its record becomes another's. Then each word of the record may be of another time, but each is read once: the
 * bitmaps are such, perhaps of another span or of none any more, and the unit is one of theirs. So what is found may be
 * wrong, but nothing wild is read.
 */
static AP_ALWAYS_INLINE bool ap__pack_find_unit(const struct ap__span *span, const void *p,
                                                struct ap__pack_place *place)
{
    /* acquire: pairs with the release in add_span_locked() of pack_pools.c. */
    ap__unit_word *words = atomic_load_explicit(&span->unit_map, memory_order_acquire);
    AP__YIELD_POINT();
    size_t offset = (uintptr_t)p - ap__span_peek_start(span);
    if (AP_UNLIKELY(words == NULL || offset >= AP_PACK_SPAN_BYTES)) {
        return false;
    }
    place->map = ap__unit_map_at(words, AP_PACK_SPAN_UNITS);
    place->unit = (unsigned)(offset >> AP_UNIT_SHIFT);
    return true;
}

/* Units of the live block that begins at `p`; 0: there is none, as far as one sees. */
static AP_ALWAYS_INLINE unsigned ap__pack_units_at(const struct ap__span *span, const void *p)
{
    struct ap__pack_place place;
    return AP_LIKELY((uintptr_t)p % AP_UNIT_BYTES == 0 && ap__pack_find_unit(span, p, &place))
               ? ap__unit_map_block(&place.map, place.unit)
               : 0;
}

/* The class in whose lists the live packed block at `p` may be kept; 0: none, or there is no such block as far as one
 * sees. */
static AP_ALWAYS_INLINE unsigned ap__pack_kept_class(const void *p)
{
    const struct ap__span *span = ap__pack_find_span(p);
    return AP_LIKELY(span != NULL) ? ap__pack_class_to_keep(ap__pack_units_at(span, p)) : 0;
}

#endif
