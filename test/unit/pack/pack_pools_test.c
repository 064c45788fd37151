/* SPDX-License-Identifier: MIT */
/*
 * pack_pools_test.c: the packed spans, divided among the threads.
 * Goal: a thread's number decides the pool; a span is taken over only where there is enough to spare, or no other memory;
 * blocks come back to the pool that has their span; drained spans leave. Method: direct calls on a fresh heap, as threads
 * of several numbers; refusals of the page heap and of metadata.
 */
#include "pack/pack_pools.h"

#include "meta/meta.h"
#include "packed.h"
#include "support/heap_check.h"
#include "support/os_faults.h"

enum { SPANS_MAX = 64 };

static char *blocks[SPANS_MAX * IN_SPAN];

/* Of each span of pool 0, its last blocks but one at most, until so many have come back. */
static void thin_out(unsigned spans, unsigned count)
{
    for (unsigned given = 0, in_span = IN_SPAN; given < count; in_span--) {
        for (unsigned span = 0; span < spans && given < count; span++, given++) {
            cr_assert_gt(in_span, 1, "no span may drain");
            give(blocks[span * IN_SPAN + in_span - 1]);
        }
    }
}

Test(pack_pools, numbers_of_threads_take_turns)
{
    for (unsigned number = 0; number < 3 * AP_PACK_POOLS; number++) {
        cr_assert_eq(ap__pack_pool_of(number), &ap__pack_pools[number % AP_PACK_POOLS]);
    }
    cr_assert_eq(ap__pack_pool_of(UINT32_MAX), &ap__pack_pools[AP_PACK_POOLS - 1]);
}

Test(pack_pools, each_pool_has_spans_of_its_own)
{
    init();
    for (unsigned number = 0; number < 2 * AP_PACK_POOLS; number++) {
        char *p = take(2000, number);
        cr_assert_eq(pool_named_by(p), number % AP_PACK_POOLS);
        cr_assert_eq(pool_spans(number % AP_PACK_POOLS), 1);
        cr_assert_eq(pool_bytes(number % AP_PACK_POOLS), (number / AP_PACK_POOLS + 1) * 2048);
    }
    cr_assert_eq(stats().spans, AP_PACK_POOLS);
    cr_assert_eq(heap_check().packed_blocks, 2 * AP_PACK_POOLS);
}

/* Another pool, without a span of its own, takes one over if `free` blocks of pool 0 are free, and not one fewer. */
static void expect_spare(unsigned spans, unsigned free)
{
    fill_spans(blocks, spans, 0);
    thin_out(spans, free - 1);
    char *own = take(LONGEST, 1);
    cr_assert_eq(pool_spans(0), spans);
    cr_assert_eq(pool_spans(1), 1);
    give(own);
    cr_assert_eq(pool_spans(1), 0);
    heap_check();
    give(blocks[0]);
    char *taken_over = take(LONGEST, 1);
    cr_assert_eq(pool_named_by(taken_over), 1);
    cr_assert_eq(pool_spans(0), spans - 1);
    cr_assert_eq(pool_spans(1), 1);
    cr_assert_eq(stats().spans, spans);
    cr_assert_eq(stats().block_bytes, (spans * IN_SPAN - free + 1) * (size_t)LONGEST);
    heap_check();
}

Test(pack_pools, of_few_spans_a_quarter_of_one_must_be_free)
{
    init();
    expect_spare(3, IN_SPAN / 4);
}

Test(pack_pools, of_many_spans_a_sixty_fourth_must_be_free)
{
    init();
    expect_spare(SPANS_MAX, SPANS_MAX * IN_SPAN / 64);
}

/* Else two pools would take it from each other by turns. */
Test(pack_pools, the_only_span_that_a_pool_can_claim_from_stays)
{
    init();
    fill_spans(blocks, 2, 0);
    for (unsigned i = 0; i < IN_SPAN - 1; i++) {
        give(blocks[i]);
    }
    char *own = take(LONGEST, 1);
    cr_assert_eq(pool_spans(0), 2);
    cr_assert_eq(pool_spans(1), 1);
    give(own);
    give(blocks[IN_SPAN]);
    (void)take(LONGEST, 1);
    cr_assert_eq(pool_spans(0), 1, "now there are two");
    cr_assert_eq(pool_spans(1), 1);
    heap_check();
}

Test(pack_pools, a_pool_of_one_span_has_none_to_spare)
{
    init();
    char *first = take(LONGEST, 0);
    char *own = take(LONGEST, 1);
    cr_assert_eq(pool_named_by(first), 0);
    cr_assert_eq(pool_named_by(own), 1);
}

Test(pack_pools, a_span_is_taken_over_only_for_blocks_that_it_holds)
{
    enum { SIZE = 8192, COUNT = 4 * (SPAN_BYTES / SIZE) };
    static char *small[COUNT];
    init();
    for (unsigned i = 0; i < COUNT; i++) {
        small[i] = take(SIZE, 0);
    }
    for (unsigned i = 0; i < COUNT; i += 2) {
        give(small[i]);
    }
    char *p = take(SIZE + 1, 1);
    cr_assert_eq(pool_spans(0), 4, "two spans' worth are free, but nowhere so much");
    cr_assert_eq(pool_spans(1), 1);
    give(p);
    (void)take(SIZE, 1);
    cr_assert_eq(pool_spans(0), 3);
    cr_assert_eq(pool_spans(1), 1);
    heap_check();
}

Test(pack_pools, a_pool_with_a_run_of_its_own_takes_none_over)
{
    init();
    char *own = take(2000, 1);
    fill_spans(blocks, 4, 0);
    thin_out(4, 3 * IN_SPAN);
    cr_assert_eq(span_of(take(LONGEST, 1)), span_of(own));
    cr_assert_eq(pool_spans(0), 4);
}

Test(pack_pools, without_memory_any_span_is_taken_over)
{
    init();
    fill_spans(blocks, 1, 5);
    refuse_memory(true);
    cr_assert_null(ap__pack_take(LONGEST, 2), "nothing is free");
    give(blocks[3]);
    cr_assert_eq(take(LONGEST, 2), blocks[3]);
    cr_assert_eq(pool_named_by(blocks[0]), 2);
    cr_assert_eq(pool_spans(5), 0);
    cr_assert_eq(pool_bytes(5), 0);
    cr_assert_eq(pool_bytes(2), SPAN_BYTES);
    /* And from a pool behind as well as from one in front. */
    give(blocks[3]);
    cr_assert_eq(take(LONGEST, 7), blocks[3]);
    cr_assert_eq(pool_named_by(blocks[0]), 7);
    heap_check();
    for (unsigned i = 0; i < IN_SPAN; i++) {
        give(blocks[i]);
    }
    cr_assert_eq(stats().spans, 0);
    heap_check();
}

/* A full span whose first block is of so many units. */
static char *make_span(unsigned units, unsigned thread)
{
    char *first = take((size_t)units * AP_UNIT_BYTES, thread);
    for (unsigned i = 1; i < IN_SPAN; i++) {
        (void)take(LONGEST, thread);
    }
    (void)take(LONGEST - (size_t)units * AP_UNIT_BYTES, thread);
    cr_assert_eq(span_of(first)->packed.free_units, 0);
    return first;
}

Test(pack_pools, without_memory_spans_with_shorter_runs_in_front_do_not_matter)
{
    init();
    char *long_run = make_span(480, 0);
    char *short_run = make_span(450, 0);
    give(long_run);
    give(short_run);
    cr_assert_eq(ap__pack_pools[0].lists.buckets[AP_PACK_BUCKETS - 2]->start, (uintptr_t)short_run,
                 "of one list, in front");
    refuse_memory(true);
    cr_assert_eq(take(480 * AP_UNIT_BYTES, 1), long_run);
    cr_assert_eq(pool_named_by(short_run), 0);
    cr_assert_null(ap__pack_take(480 * AP_UNIT_BYTES, 1));
    cr_assert_eq(take(450 * AP_UNIT_BYTES, 1), short_run);
}

/* Pool 0 gets a span with a run of 480 units, and more than a search looks at in front of it, with shorter ones. */
static char *hide_run(void)
{
    enum { FRONT = 12 };
    char *long_run = make_span(480, 0);
    char *short_runs[FRONT];
    for (unsigned i = 0; i < FRONT; i++) {
        short_runs[i] = make_span(450, 0);
    }
    give(long_run);
    for (unsigned i = 0; i < FRONT; i++) {
        give(short_runs[i]);
    }
    return long_run;
}

Test(pack_pools, without_memory_a_run_is_found_behind_many_of_shorter_ones)
{
    init();
    char *run = hide_run();
    refuse_memory(true);
    cr_assert_eq(ap__pack_take(480 * AP_UNIT_BYTES, 0), run);
    cr_assert_null(ap__pack_take(480 * AP_UNIT_BYTES, 0));
    heap_check();
}

Test(pack_pools, without_memory_a_run_is_found_behind_many_of_another_pools)
{
    init();
    char *run = hide_run();
    refuse_memory(true);
    cr_assert_eq(ap__pack_take(480 * AP_UNIT_BYTES, 1), run);
    cr_assert_eq(pool_spans(1), 1);
    heap_check();
}

Test(pack_pools, without_memory_a_run_of_its_own_comes_first)
{
    init();
    char *others = make_span(480, 1);
    give(others);
    char *run = hide_run();
    refuse_memory(true);
    cr_assert_eq(ap__pack_take(480 * AP_UNIT_BYTES, 0), run);
    cr_assert_eq(pool_named_by(others + LONGEST), 1);
    cr_assert_eq(ap__pack_take(480 * AP_UNIT_BYTES, 0), others);
    heap_check();
}

Test(pack_pools, without_memory_spans_come_from_each_pool_to_each)
{
    init();
    for (unsigned from = 0; from < AP_PACK_POOLS; from++) {
        for (unsigned to = 0; to < AP_PACK_POOLS; to++) {
            refuse_memory(false);
            fill_spans(blocks, 1, from);
            give(blocks[0]);
            refuse_memory(true);
            cr_assert_eq(ap__pack_take(LONGEST, to), blocks[0], "%u, %u", from, to);
            cr_assert_eq(pool_named_by(blocks[0]), to);
            for (unsigned i = 0; i < IN_SPAN; i++) {
                give(blocks[i]);
            }
        }
    }
    heap_check();
}

Test(pack_pools, a_block_goes_back_to_the_pool_that_its_span_names)
{
    init();
    fill_spans(blocks, 1, 0);
    give(blocks[0]);
    refuse_memory(true);
    cr_assert_eq(take(LONGEST, 3), blocks[0]);
    refuse_memory(false);
    cr_assert_eq(pool_bytes(3), SPAN_BYTES);
    size_t releases = ap__pack_pools[3].releases;
    give(blocks[9]);
    cr_assert_eq(pool_bytes(3), SPAN_BYTES - LONGEST);
    cr_assert_eq(pool_bytes(0), 0);
    cr_assert_eq(ap__pack_pools[3].releases, releases + 1);
    cr_assert_eq(take(LONGEST, 3), blocks[9]);
    cr_assert_eq(stats().blocks, IN_SPAN, "of all pools together");
    heap_check();
}

Test(pack_pools, drained_spans_go_back_to_the_page_heap)
{
    init();
    fill_spans(blocks, 3, 0);
    struct ap__page_heap_stats before, after;
    ap__page_heap_stats(&before);
    struct ap__span *span = span_of(blocks[IN_SPAN]);
    for (unsigned i = 0; i < IN_SPAN; i++) {
        cr_assert_eq(span->state, AP__SPAN_PACKED);
        give(blocks[IN_SPAN + i]);
    }
    cr_assert_null(ap__pack_span_of(blocks[IN_SPAN]));
    cr_assert_eq(atomic_load(&span->shard), 0);
    cr_assert_null(ap__pack_enter(span));
    cr_assert_eq(stats().spans, 2);
    ap__page_heap_settle();
    ap__page_heap_stats(&after);
    cr_assert_eq(after.free_bytes, before.free_bytes + SPAN_BYTES);
    heap_check();
}

Test(pack_pools, bitmaps_of_drained_spans_are_used_again)
{
    init();
    give(take(LONGEST, 0));
    size_t mapped = ap__meta_mapped_bytes();
    for (unsigned i = 0; i < 1000; i++) {
        give(take(LONGEST, i));
    }
    cr_assert_eq(ap__meta_mapped_bytes(), mapped);
}

Test(pack_pools, bitmaps_of_spans_that_there_is_no_memory_for_are_used_again)
{
    init();
    give(take(LONGEST, 0));
    size_t mapped = ap__meta_mapped_bytes();
    refuse_memory(true);
    for (unsigned i = 0; i < 1000; i++) {
        cr_assert_null(ap__pack_take(LONGEST, i));
    }
    refuse_memory(false);
    cr_assert_eq(ap__meta_mapped_bytes(), mapped);
    cr_assert_eq(stats().spans, 0);
    heap_check();
}

Test(pack_pools, without_memory_for_bitmaps_there_is_no_span)
{
    init();
    /* So that there is a free span, but no metadata. */
    give(take(LONGEST, 0));
    os_faults_fail_always(OS_FAULTS_MMAP);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    unsigned pieces = 0;
    while (ap__meta_take(ap__unit_map_bytes(SPAN_BYTES / AP_UNIT_BYTES)) != NULL) {
        pieces++;
    }
    cr_assert_gt(pieces, 0);
    cr_assert_null(ap__pack_take(LONGEST, 0));
    cr_assert_eq(stats().spans, 0);
    os_faults_reset();
    (void)take(LONGEST, 0);
    cr_assert_eq(stats().spans, 1);
    heap_check();
}

Test(pack_pools, a_span_that_is_not_packed_has_no_pool)
{
    init();
    struct ap__span *small = ap__page_heap_take(1, AP_GRANULE, 1);
    cr_assert_not_null(small);
    cr_assert_null(ap__pack_enter(small));
    atomic_store(&small->shard, 3); /* as it may be seen by who comes late */
    cr_assert_null(ap__pack_enter(small));
    cr_assert(!ap__lock_is_mine(&ap__pack_pools[2].lock));
    atomic_store(&small->shard, 1 << 8 | 1); /* as central names its shards */
    cr_assert_null(ap__pack_enter(small));
}

Test(pack_pools, a_span_has_its_pools_lock_taken)
{
    init();
    struct ap__span *span = span_of(take(2000, 6));
    struct ap__pack_pool *pool = ap__pack_enter(span);
    cr_assert_eq(pool, &ap__pack_pools[6]);
    cr_assert(ap__lock_is_mine(&pool->lock));
    ap__lock_release(&pool->lock);
}

Test(pack_pools, memory_that_was_used_before_is_not_taken_for_untouched)
{
    init();
    char *p = take(LONGEST, 0);
    cr_assert(span_of(p)->packed.is_purged, "nothing of it can be resident");
    p[0] = 1;
    give(p);
    cr_assert_eq(take(LONGEST, 0), p);
    cr_assert(!span_of(p)->packed.is_purged);
}
