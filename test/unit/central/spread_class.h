/* SPDX-License-Identifier: MIT */
/*
 * spread_class.h: a class of blocks that threads have divided, for tests of what is done shard by shard.
 *
 * The class is the largest that is ever divided, so that there are few blocks a span. A test runs in a process of its
 * own, on a heap that is fresh: first comes init(), or what calls it. One thread stands for several, by changing its
 * number. Needs Criterion.
 */
#ifndef TEST_UNIT_CENTRAL_SPREAD_CLASS_H
#define TEST_UNIT_CENTRAL_SPREAD_CLASS_H

#include <criterion/criterion.h>

#include "central/central_free_list.h"
#include "central/shards.h"
#include "heap/heap_limits.h"
#include "heap/page_heap.h"

enum {
    CLASS = 40,
    SIZE = 2048, /* the largest that is spread: few blocks a span */
    SLOTS = 32,
    SPANS = 8, /* with which a class of two shards is spread; each doubling takes twice as many */
    BLOCKS = SPANS * SLOTS,
    MORE = 4,                /* spans of the second shard */
    BLOCKS_MAX = 4 * BLOCKS, /* of as many spans as it takes for eight shards */
};

static inline void init(unsigned shards)
{
    cr_assert(ap__region_init((size_t)1 << 30));
    cr_assert_eq(ap__size_class[CLASS].size, SIZE);
    cr_assert_eq(ap__size_class[CLASS].slots, SLOTS);
    ap__shards_init(shards);
}

static inline struct ap__central_stats stats(unsigned size_class)
{
    struct ap__central_stats figures;
    ap__central_stats(size_class, &figures);
    return figures;
}

static inline struct ap__span *span_of(const void *p)
{
    return ap__page_heap_span_of((uintptr_t)p);
}

/* Which shard the span of a block names. */
static inline unsigned named_by(const void *p)
{
    return (atomic_load(&span_of(p)->shard) >> 8) - 1u;
}

static inline struct ap__shard *shard_at(unsigned number)
{
    return ap__shard_at(number, CLASS);
}

/* In address order where spans are fresh. */
static inline unsigned take(unsigned size_class, void **blocks, unsigned count)
{
    unsigned got = ap__central_take(size_class, blocks, count);
    for (unsigned low = 0, high = got; low + 1 < high; low++) {
        void *block = blocks[low];
        blocks[low] = blocks[--high];
        blocks[high] = block;
    }
    return got;
}

static inline void *take_one(void)
{
    void *block = NULL;
    cr_assert_eq(ap__central_take(CLASS, &block, 1), 1);
    return block;
}

static inline void give(void *const *blocks, unsigned count)
{
    ap__central_give(CLASS, blocks, count, "free");
}

/* All blocks of as many spans as it takes, of the first shard, which is this thread's. */
static inline void spread(void **blocks)
{
    init(2);
    ap__central_share();
    cr_assert_eq(take(CLASS, blocks, BLOCKS), BLOCKS);
    cr_assert(ap__central_is_spread(CLASS));
    cr_assert_eq(stats(CLASS).spans, SPANS);
}

/* The first shard has SPANS spans, the second MORE; no slot is free. */
static inline void spread_to_both(void **blocks)
{
    spread(blocks);
    ap__central_set_thread(1);
    cr_assert_eq(take(CLASS, blocks + BLOCKS, MORE * SLOTS), MORE * SLOTS);
    cr_assert_eq(shard_at(0)->lists.members, SPANS);
    cr_assert_eq(shard_at(1)->lists.members, MORE);
}

static inline void refuse_memory(bool refuses)
{
    ap__heap_limits_set_hard(refuses ? 0 : SIZE_MAX);
}

/* Blocks of each shard. */
static inline void expect_claimed(size_t first, size_t second)
{
    cr_assert_eq(shard_at(0)->claimed, first);
    cr_assert_eq(shard_at(1)->claimed, second);
    cr_assert_eq(ap__central_claimed(CLASS), first + second);
    cr_assert_eq(stats(CLASS).claimed, first + second);
}

#endif
