/* SPDX-License-Identifier: MIT */
/* build.c: the heap that is spoilt. */
#include <criterion/criterion.h>
#include <string.h>

#include "apmalloc.h"
#include "base/size_class.h"
#include "central/central_free_list.h"
#include "central/shards.h"
#include "central/transfer_cache.h"
#include "pack/pack.h"
#include "spoil.h"
#include "support/recycle.h"

enum { MIDDLING = 5000, SENT = 96, PAIR = 8, PACKED = 2048 };
#define LARGE_BYTES ((size_t)300 << 10)
#define LONG_BYTES ((size_t)2 << 20)

struct built built;

static void build_small(void)
{
    void *blocks[300];
    built.small_class = ap__class_of_size(SMALL);
    for (size_t i = 0; i < 300; i++) {
        blocks[i] = ap_malloc(SMALL);
    }
    for (size_t i = 0; i < 200; i += 2) {
        ap_free(blocks[i]);
        built.small_cached = blocks[i];
    }
    built.small_live = blocks[299];
}

/* Spans that are all but empty, side by side on one list. */
static void build_spread(void)
{
    static void *blocks[SPREAD_SPANS * AP_SLOTS_MAX];
    built.middling_class = ap__class_of_size(MIDDLING);
    size_t slots = ap__size_class[built.middling_class].slots;
    size_t count = SPREAD_SPANS * slots;
    cr_assert_eq(ap__central_take(built.middling_class, blocks, 1), 1);
    for (size_t i = 1; i < count; i++) {
        cr_assert_eq(ap__central_take(built.middling_class, &blocks[i], 1), 1);
    }
    for (size_t i = 0; i < count; i++) {
        if (i % slots == 0) {
            built.spread[i / slots] = span_of(blocks[i]);
        } else {
            ap__central_give(built.middling_class, &blocks[i], 1, "free");
        }
    }
    built.middling_live = blocks[0];
}

static void build_transfer(void)
{
    void *blocks[PAIR];
    built.sent_class = ap__class_of_size(SENT);
    cr_assert_eq(ap__central_take(built.sent_class, blocks, PAIR), PAIR);
    cr_assert_eq(ap__transfer_give(built.sent_class, blocks, PAIR), PAIR);
}

/* In the list of a thread. */
static void build_packed(void)
{
    void *blocks[2];
    built.packed_class = ap__class_of_size(PACKED);
    recycle(built.packed_class, true);
    for (size_t i = 0; i < 2; i++) {
        blocks[i] = ap__pack_take(PACKED, 0);
    }
    for (size_t i = 0; i < 2; i++) {
        ap_free(blocks[i]);
    }
    built.packed_cached = blocks[1];
}

void build(void)
{
    ap__shards_init(2); /* no class comes to have the second: a shard that no span is of */
    for (size_t i = 0; i < LARGES; i++) {
        built.larges[i] = ap_malloc(i == 0 ? LONG_BYTES : LARGE_BYTES);
        memset(built.larges[i], 1, LARGE_BYTES);
    }
    build_packed();
    build_small();
    build_spread();
    build_transfer();
    built.outside_large = ap_malloc((size_t)32 << 20);
    do {
        built.outside_small = ap_malloc(6500);
    } while (!span_of(built.outside_small)->outside);
    built.free_long = span_of(built.larges[0]);
    built.free_short = span_of(built.larges[2]);
    ap_free(built.larges[0]);
    ap_free(built.larges[2]);
    ap_free(built.larges[4]);
    ap__page_heap_settle();
}
