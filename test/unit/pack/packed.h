/* SPDX-License-Identifier: MIT */
/*
 * packed.h: packed blocks by direct calls, for tests of how they are kept.
 *
 * A test runs in a process of its own, on a heap that is fresh: first comes init(). Threads are but numbers here: the
 * pool is that of the number. Needs Criterion.
 */
#ifndef TEST_UNIT_PACK_PACKED_H
#define TEST_UNIT_PACK_PACKED_H

#include <criterion/criterion.h>

#include "heap/heap_limits.h"
#include "heap/page_heap.h"
#include "pack/pack.h"
#include "pack/pack_place.h"
#include "pack/pack_pools.h"

enum {
    PAGE = 4096,
    LONGEST = AP__PACK_SIZE_MAX,
    SIZES = AP__PACK_SIZE_MAX - AP__PACK_SIZE_MIN + 1,
    IN_SPAN = 16, /* of the longest blocks */
    SPAN_BYTES = AP__PACK_SPAN_GRANULES << AP_PAGE_HEAP_GRANULE_SHIFT
};
_Static_assert(IN_SPAN *LONGEST == SPAN_BYTES, "they fill spans");

static inline void init(void)
{
    cr_assert(ap__region_init((size_t)1 << 30));
}

static inline struct ap__span *span_of(const void *p)
{
    struct ap__span *span = ap__pack_span_of(p);
    cr_assert_not_null(span);
    return span;
}

static inline char *take(size_t size_bytes, unsigned thread)
{
    char *p = ap__pack_take(size_bytes, thread);
    cr_assert_not_null(p);
    return p;
}

static inline void give(void *p)
{
    (void)ap__pack_give(span_of(p), p, "free");
}

static inline size_t usable(const void *p)
{
    return ap__pack_usable_size(span_of(p), p);
}

/* The number of the pool that the span of a block names. */
static inline unsigned pool_named_by(const void *p)
{
    return atomic_load(&span_of(p)->shard) - 1u;
}

static inline struct ap__pack_stats stats(void)
{
    struct ap__pack_stats figures;
    ap__pack_stats(&figures);
    return figures;
}

static inline size_t pool_spans(unsigned number)
{
    return atomic_load(&ap__pack_pools[number].spans);
}

static inline size_t pool_bytes(unsigned number)
{
    return atomic_load(&ap__pack_pools[number].block_bytes);
}

static inline void refuse_memory(bool refuses)
{
    ap__heap_limits_set_hard(refuses ? 0 : SIZE_MAX);
}

/* The longest blocks, which fill spans: block i lies in the span of number i / IN_SPAN. */
static inline void fill_spans(char **blocks, unsigned spans, unsigned thread)
{
    for (unsigned i = 0; i < spans * IN_SPAN; i++) {
        blocks[i] = take(LONGEST, thread);
        cr_assert_eq(span_of(blocks[i]), span_of(blocks[i - i % IN_SPAN]));
    }
}

#endif
