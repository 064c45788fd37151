/* SPDX-License-Identifier: MIT */
/*
 * scarce_packed_test.c: where there is no memory for a span of packed blocks.
 * Goal: classes get spans of their own instead, as short as they are, for as long as there is no room for a longer one; the
 * page heap is asked once a span, not once a block. Method: a heap that grows to a limit, and gets room again.
 */
#include <criterion/criterion.h>

#include "apmalloc.h"
#include "central/central_free_list.h"
#include "heap/heap_limits.h"
#include "heap/page_heap.h"
#include "os/lock.h"
#include "pack/pack.h"
#include "pack/pack_place.h"
#include "support/heap_check.h"
#include "support/os_faults.h"

enum { SIZE = 4096, BLOCKS_MAX = 10000, GRANULE_BLOCKS = AP_GRANULE / SIZE };
#define MIB ((size_t)1 << 20)

static void *blocks[BLOCKS_MAX];
static unsigned count;

static bool is_packed(const void *p)
{
    return ap__pack_span_of(p) != NULL;
}

static void *take(void)
{
    cr_assert_lt(count, BLOCKS_MAX);
    void *p = ap_malloc(SIZE);
    if (p != NULL) {
        blocks[count++] = p;
    }
    return p;
}

/* The class has what it may have of its own, and more is packed. */
static void grow_until_packed(void)
{
    void *p;
    do {
        p = take();
        cr_assert_not_null(p);
    } while (!is_packed(p));
}

static size_t used_bytes(void)
{
    struct ap__page_heap_stats stats;
    ap__page_heap_stats(&stats);
    return stats.usable_bytes - stats.free_bytes;
}

static void leave_room(size_t granules)
{
    ap__heap_limits_set_hard(used_bytes() + granules * AP_GRANULE);
}

/* Of the next blocks, how many are packed. */
static unsigned count_packed(unsigned most)
{
    unsigned packed = 0;
    for (unsigned i = 0; i < most; i++) {
        void *p = take();
        cr_assert_not_null(p, "block %u", i);
        packed += is_packed(p);
    }
    return packed;
}

static void use_up(void)
{
    while (take() != NULL) {
    }
}

static void free_all(void)
{
    ap__heap_limits_set_hard(SIZE_MAX);
    while (count > 0) {
        ap_free(blocks[--count]);
    }
    heap_check();
}

/* At a limit with room for so many granules, all blocks are in spans of the class before long. */
static void begin_at_limit(size_t granules)
{
    grow_until_packed();
    leave_room(granules);
    while (is_packed(take())) {
    }
}

Test(scarce_packed, blocks_are_packed_again_once_memory_is_free)
{
    void *large = ap_malloc(8 * MIB);
    begin_at_limit(8);
    use_up();
    cr_assert(!is_packed(blocks[count - 1]));
    ap_free(large);
    unsigned packed = count_packed(1500);
    cr_assert_gt(packed, 1400);
    free_all();
}

Test(scarce_packed, blocks_are_packed_again_once_the_limit_is_higher)
{
    begin_at_limit(8);
    ap__heap_limits_set_hard(SIZE_MAX);
    cr_assert_gt(count_packed(1500), 1400);
    free_all();
}

Test(scarce_packed, with_room_for_less_than_a_packed_span_none_is)
{
    begin_at_limit(8);
    use_up();
    leave_room(AP__PACK_SPAN_GRANULES - 1);
    cr_assert_eq(count_packed((AP__PACK_SPAN_GRANULES - 1) * GRANULE_BLOCKS), 0);
    cr_assert_null(take());
    free_all();
}

Test(scarce_packed, again_and_again)
{
    begin_at_limit(4);
    for (unsigned round = 0; round < 20; round++) {
        use_up();
        leave_room(AP__PACK_SPAN_GRANULES + 2);
        cr_assert_gt(count_packed(AP__PACK_SPAN_GRANULES * GRANULE_BLOCKS), 200, "round %u", round);
        use_up();
        leave_room(2);
        cr_assert_eq(count_packed(2 * GRANULE_BLOCKS), 0, "round %u", round);
    }
    free_all();
}

Test(scarce_packed, the_page_heap_is_asked_once_a_span)
{
    enum { GRANULES = 12 };
    unsigned size_class = ap__class_of_size(SIZE);
    unsigned span_granules = ap__size_class[size_class].span_granules;
    begin_at_limit(GRANULES);
    struct ap__lock_stats before = {0, 0}, after = {0, 0};
    ap__lock_add_stats(ap__page_heap_lock(), &before);
    cr_assert_eq(count_packed((GRANULES / span_granules - 1) * span_granules * GRANULE_BLOCKS), 0);
    ap__lock_add_stats(ap__page_heap_lock(), &after);
    cr_assert_leq(after.taken - before.taken, 3 * GRANULES / span_granules);
    free_all();
}

Test(scarce_packed, where_the_kernel_refuses_growth_blocks_are_packed_once_memory_is_free)
{
    void *large = ap_malloc(8 * MIB);
    grow_until_packed();
    os_faults_fail_always(OS_FAULTS_MMAP);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    use_up();
    cr_assert(!is_packed(blocks[count - 1]));
    ap_free(large);
    cr_assert_gt(count_packed(1500), 1400);
    os_faults_reset();
    free_all();
}

/* ------------------------------------------------------------ what cannot be packed */

static void *take_page(void)
{
    void *p = ap_aligned_alloc(SIZE, SIZE);
    cr_assert(!is_packed(p));
    if (p != NULL) {
        blocks[count++] = p;
    }
    return p;
}

Test(scarce_packed, aligned_blocks_raise_no_bound)
{
    unsigned size_class = ap__class_of_size(SIZE);
    grow_until_packed();
    for (unsigned i = 0; i < 1000; i++) {
        cr_assert_not_null(take_page());
        cr_assert_eq(ap__central_bound(size_class), AP__PACK_BOUND_BYTES);
    }
    cr_assert_gt(count_packed(100), 100 - 2 * GRANULE_BLOCKS);
    free_all();
}

Test(scarce_packed, nor_do_they_where_there_is_no_memory)
{
    unsigned size_class = ap__class_of_size(SIZE);
    grow_until_packed();
    leave_room(8);
    unsigned got = 0;
    while (take_page() != NULL) {
        got++;
    }
    cr_assert_geq(got, 8 * GRANULE_BLOCKS);
    cr_assert_eq(ap__central_bound(size_class), AP__PACK_BOUND_BYTES);
    ap__heap_limits_set_hard(SIZE_MAX);
    cr_assert_gt(count_packed(1000), 900);
    free_all();
}
