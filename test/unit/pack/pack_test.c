/* SPDX-License-Identifier: MIT */
/*
 * pack_test.c: packed blocks: one out, one in.
 * Goal: blocks are aligned, as long as asked and nobody else's; free runs are found and known; refusals lose nothing;
 * figures are right. Method: direct calls on a fresh heap.
 */
#include "pack/pack.h"

#include <stdatomic.h>
#include <string.h>

#include "os/bell.h"
#include "packed.h"
#include "support/heap_check.h"
#include "support/os_faults.h"

enum {
    EIGHT_KIB = 8192,
    IN_SPAN_8K = SPAN_BYTES / EIGHT_KIB, /* more than the longest of three spans */
    RETURNS_A_LOOK = 16
};

static char *blocks[IN_SPAN_8K];

/* One span, to its last unit. */
static void fill_with_8k(void)
{
    for (unsigned i = 0; i < IN_SPAN_8K; i++) {
        blocks[i] = take(EIGHT_KIB, 0);
        cr_assert_eq(blocks[i] - blocks[0], (ptrdiff_t)i * EIGHT_KIB);
    }
}

/* ------------------------------------------------------------ take and give */

Test(pack, which_blocks_may_be_packed)
{
    cr_assert(!ap__pack_may(16, 0));
    cr_assert(!ap__pack_may(16, 1024));
    cr_assert(ap__pack_may(16, 1025));
    cr_assert(ap__pack_may(1, 65536));
    cr_assert(!ap__pack_may(16, 65537));
    cr_assert(!ap__pack_may(16, SIZE_MAX));
    cr_assert(ap__pack_may(128, 2000));
    cr_assert(!ap__pack_may(256, 2000));
}

Test(pack, blocks_of_every_size_hold_what_was_asked)
{
    init();
    for (size_t size = AP__PACK_SIZE_MIN; size <= AP__PACK_SIZE_MAX; size++) {
        char *p = take(size, 0);
        cr_assert_eq((uintptr_t)p % AP_UNIT_BYTES, 0);
        size_t bytes = usable(p);
        cr_assert(bytes >= size && bytes < size + AP_UNIT_BYTES, "%zu: %zu", size, bytes);
        cr_assert_eq(bytes % AP_UNIT_BYTES, 0);
        cr_assert_eq(stats().block_bytes, bytes);
        give(p);
    }
    cr_assert_eq(stats().spans, 0);
    heap_check();
}

Test(pack, blocks_do_not_overlap)
{
    enum { COUNT = 1000 };
    static unsigned char *held[COUNT];
    static size_t sizes[COUNT];
    init();
    for (unsigned i = 0; i < COUNT; i++) {
        sizes[i] = AP__PACK_SIZE_MIN + (size_t)i * 7919 % SIZES;
        held[i] = (unsigned char *)take(sizes[i], i % 3);
        memset(held[i], (int)(i % 251), usable(held[i]));
    }
    for (unsigned i = 0; i < COUNT; i++) {
        for (size_t at = 0; at < sizes[i]; at++) {
            cr_assert_eq(held[i][at], i % 251);
        }
    }
    cr_assert_eq(heap_check().packed_blocks, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        give(held[i]);
    }
    cr_assert_eq(stats().spans, 0);
}

Test(pack, blocks_lie_side_by_side_the_lowest_first)
{
    init();
    char *a = take(1500, 0);
    char *b = take(30000, 0);
    char *c = take(1025, 0);
    cr_assert_eq(b - a, 1536);
    cr_assert_eq(c - b, 30080);
    cr_assert_eq((uintptr_t)a, span_of(a)->start);
    give(a);
    give(b);
    cr_assert_eq(take(31616, 0), a, "where free runs meet");
    cr_assert_eq(take(1025, 0), c + 1152);
    heap_check();
}

Test(pack, the_span_with_the_shortest_run_that_will_do_is_used_first)
{
    init();
    fill_spans(blocks, 3, 0);
    give(blocks[0]);
    give(blocks[1]);
    give(blocks[IN_SPAN]);
    cr_assert_eq(take(40000, 0), blocks[IN_SPAN], "the latest of two that have one of any length");
    cr_assert_eq(take(20000, 0), blocks[IN_SPAN] + 40064, "what is left of it");
    cr_assert_eq(take(40000, 0), blocks[0]);
    give(blocks[2 * IN_SPAN]);
    cr_assert_eq(take(LONGEST, 0), blocks[2 * IN_SPAN], "no other has so long a run");
    heap_check();
}

Test(pack, spans_are_filled_to_the_last_unit)
{
    init();
    fill_with_8k();
    cr_assert_eq(span_of(blocks[0])->packed.free_units, 0);
    cr_assert_eq(pool_spans(0), 1);
    cr_assert_neq(span_of(take(1025, 0)), span_of(blocks[0]));
    give(blocks[IN_SPAN_8K - 1]);
    cr_assert_eq(take(EIGHT_KIB, 0), blocks[IN_SPAN_8K - 1]);
    heap_check();
}

Test(pack, runs_across_parts_of_a_span_are_found)
{
    enum { PART_BYTES = SPAN_BYTES / AP_PACK_PARTS };
    init();
    fill_with_8k();
    for (unsigned part = 1; part < AP_PACK_PARTS; part++) {
        unsigned at = part * (PART_BYTES / EIGHT_KIB);
        for (unsigned order = 0; order < 2; order++) {
            give(blocks[at - 1 + order]);
            give(blocks[at - order]);
            heap_check();
            cr_assert_eq(take((size_t)2 * EIGHT_KIB, 0), blocks[at - 1], "part %u", part);
            give(blocks[at - 1]);
            cr_assert_eq(take(EIGHT_KIB, 0), blocks[at - 1]);
            cr_assert_eq(take(EIGHT_KIB, 0), blocks[at]);
        }
    }
}

static void expect_parts(const struct ap__span *span, const unsigned *runs)
{
    for (unsigned part = 0; part < AP_PACK_PARTS; part++) {
        cr_assert_eq(span->packed.part_most[part], runs[part], "part %u", part);
    }
}

Test(pack, after_a_search_in_vain_a_span_knows_its_runs)
{
    /* Two of the longest blocks a part. */
    static const unsigned runs[AP_PACK_PARTS] = {212, 212, 0, 0, 0, 0, 0, 212};
    static const unsigned gaps[] = {0, 2, 15};
    init();
    fill_spans(blocks, 1, 0);
    for (unsigned i = 0; i < 3; i++) {
        give(blocks[gaps[i]]);
    }
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(take((size_t)300 * AP_UNIT_BYTES, 0), blocks[gaps[i]]);
    }
    struct ap__span *span = span_of(blocks[0]);
    cr_assert_eq(span->packed.longest_most, AP_PACK_RUN_MAX, "a claim does not look");
    cr_assert_neq(span_of(take((size_t)213 * AP_UNIT_BYTES, 0)), span);
    cr_assert_eq(span->packed.longest_most, 212);
    expect_parts(span, runs);
    heap_check();
}

Test(pack, parts_of_a_span_know_the_runs_that_begin_in_front_of_them)
{
    static const unsigned runs[AP_PACK_PARTS] = {128, 64, 0, 0, 0, 0, 0, 0};
    init();
    fill_with_8k();
    struct ap__span *span = span_of(blocks[0]);
    for (unsigned part = 0; part < AP_PACK_PARTS; part++) {
        span->packed.part_most[part] = 0;
    }
    give(blocks[15]);
    give(blocks[16]);
    expect_parts(span, runs);
    cr_assert_eq(span->packed.longest_most, 128);
    heap_check();
}

Test(pack, now_and_then_a_return_says_that_it_is_time)
{
    unsigned said = 0;
    init();
    (void)take(2000, 0);
    for (unsigned i = 0; i < 10 * RETURNS_A_LOOK; i++) {
        char *p = take(2000, 0);
        said += ap__pack_give(span_of(p), p, "free");
    }
    cr_assert_eq(said, 10);
}

Test(pack, a_return_rings)
{
    init();
    char *p = take(2000, 0);
    ap__bell_listen(&ap__heap_bell);
    (void)take(2000, 0);
    cr_assert_eq(atomic_load(&ap__heap_bell.asleep), 1);
    give(p);
    cr_assert_eq(atomic_load(&ap__heap_bell.asleep), 0);
}

/* ------------------------------------------------------------ without memory */

Test(pack, without_memory_there_are_no_blocks_beyond_what_is_free)
{
    init();
    fill_spans(blocks, 1, 0);
    give(blocks[3]);
    refuse_memory(true);
    cr_assert_eq(take(LONGEST, 0), blocks[3]);
    cr_assert_null(ap__pack_take(1025, 0));
    cr_assert_eq(stats().blocks, IN_SPAN);
    heap_check();
    refuse_memory(false);
    (void)take(1025, 0);
    cr_assert_eq(stats().spans, 2);
}

Test(pack, what_the_kernel_refuses_is_no_blocks)
{
    unsigned count = 0;
    init();
    os_faults_fail_always(OS_FAULTS_MMAP);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    while (ap__pack_take(LONGEST, 0) != NULL) {
        count++;
    }
    cr_assert_eq(count % IN_SPAN, 0);
    cr_assert_eq(stats().blocks, count);
    os_faults_reset();
    (void)take(LONGEST, 0);
    heap_check();
}

/* ------------------------------------------------------------ figures */

Test(pack, figures_are_of_all_pools)
{
    init();
    for (unsigned i = 0; i < 20; i++) {
        blocks[i] = take(3000, i);
    }
    struct ap__pack_stats figures = stats();
    cr_assert_eq(figures.spans, AP_PACK_POOLS);
    cr_assert_eq(figures.span_bytes, AP_PACK_POOLS * (size_t)SPAN_BYTES);
    cr_assert_eq(figures.blocks, 20);
    cr_assert_eq(figures.block_bytes, (size_t)20 * 3072);
    cr_assert_eq(ap__pack_block_bytes(), (size_t)20 * 3072);
    for (unsigned i = 0; i < 20; i++) {
        give(blocks[i]);
    }
    figures = stats();
    cr_assert_eq(figures.spans + figures.span_bytes + figures.blocks + figures.block_bytes, 0);
}
