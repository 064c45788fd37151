/* SPDX-License-Identifier: MIT */
/*
 * large_test.c: large objects.
 * Goal: page heap and table stay in step, zeroed objects are zero, resizes keep the contents, and a
 * kernel that refuses leaves everything as it was. Method: direct calls, injected faults, heap_check.
 */
#include "large/large.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "heap/page_heap.h"
#include "heap/region.h"
#include "support/heap_check.h"
#include "support/os_faults.h"
#include "table/large_table.h"

#define MIB ((size_t)1 << 20)

static void init(void)
{
    cr_assert(ap__region_init((size_t)16 << 30));
}

static void fill(unsigned char *p, size_t size)
{
    for (size_t i = 0; i < size; i += 61) {
        p[i] = (unsigned char)(i / 61);
    }
}

static void check(const unsigned char *p, size_t size)
{
    for (size_t i = 0; i < size; i += 61) {
        cr_assert_eq(p[i], (unsigned char)(i / 61));
    }
}

static bool is_zero(const unsigned char *p, size_t size)
{
    return p[0] == 0 && memcmp(p, p + 1, size - 1) == 0;
}

Test(large, an_object_is_found_until_it_is_freed_once)
{
    init();
    char *p = ap__large_take(300000, 16, false);
    memset(p, 1, 300000);
    cr_assert_eq(ap__large_usable_size(p), 303104);
    cr_assert_eq(ap__large_usable_size(p + 16), 0);
    cr_assert_eq(ap__large_usable_size(p + AP_GRANULE), 0);
    cr_assert_eq(ap__large_usable_size(NULL), 0);
    cr_assert(!ap__large_give(p + AP_GRANULE));
    cr_assert(ap__large_give(p));
    cr_assert(!ap__large_give(p));
    cr_assert_eq(heap_check().large_spans, 0);
}

Test(large, zeroed_objects_are_zero_over_clean_dirty_and_mixed_memory)
{
    init();
    unsigned char *p = ap__large_take(5 * MIB + 77, 16, true);
    cr_assert(is_zero(p, 5 * MIB + 77));
    memset(p, 0xaa, 5 * MIB + 77);
    cr_assert(ap__large_give(p));
    unsigned char *again = ap__large_take(9 * MIB + 5, 16, true);
    cr_assert(is_zero(again, 9 * MIB + 5));
    memset(again, 0xbb, 9 * MIB + 5);
    cr_assert(ap__large_give(again));
    (void)ap__page_heap_purge_all();
    again = ap__large_take(12 * MIB, 16, true);
    cr_assert(is_zero(again, 12 * MIB));
}

Test(large, alignments_up_to_a_gibibyte)
{
    init();
    for (size_t alignment = AP_GRANULE; alignment <= 1024 * MIB; alignment *= 2) {
        char *p = ap__large_take(100, alignment, false);
        cr_assert_not_null(p);
        cr_assert_eq((uintptr_t)p % alignment, 0);
        cr_assert(ap__large_give(p));
        heap_check();
    }
    cr_assert_null(ap__large_take(1, AP__LARGE_SIZE_MAX * 2, false));
    cr_assert_null(ap__large_take(AP__LARGE_SIZE_MAX + 1, 16, false));
}

Test(large, resizing_in_place_keeps_the_address_and_the_contents)
{
    init();
    unsigned char *p = ap__large_take(MIB, 16, false);
    fill(p, MIB);
    cr_assert(ap__large_resize(p, 3 * MIB), "the rest of the region is behind it");
    cr_assert_eq(ap__large_usable_size(p), 3 * MIB);
    check(p, MIB);
    fill(p, 3 * MIB);
    cr_assert(ap__large_resize(p, 300000));
    cr_assert_eq(ap__large_usable_size(p), 303104);
    check(p, 300000);
    char *wall = ap__large_take(MIB, 16, false);
    cr_assert(!ap__large_resize(p, 64 * MIB));
    cr_assert_eq(ap__large_usable_size(p), 303104);
    heap_check();
    cr_assert(ap__large_give(p) && ap__large_give(wall));
    cr_assert_eq(heap_check().free_spans, 1);
}

Test(large, moving_pages_keeps_the_contents_and_frees_the_old_address)
{
    init();
    unsigned char *p = ap__large_take(4 * MIB, 16, false);
    char *wall = ap__large_take(MIB, 16, false);
    fill(p, 4 * MIB);
    unsigned char *moved = ap__large_move(p, 6 * MIB, "realloc");
    cr_assert(moved != NULL && moved != p);
    check(moved, 4 * MIB);
    memset(moved, 1, 6 * MIB);
    cr_assert_eq(ap__large_usable_size(p), 0);
    cr_assert_eq(ap__large_usable_size(moved), 6 * MIB);
    unsigned char *again = ap__large_take(4 * MIB, 16, true);
    cr_assert_eq(again, p, "the old place is free");
    cr_assert(is_zero(again, 4 * MIB));
    cr_assert(ap__large_give(moved) && ap__large_give(again) && ap__large_give(wall));
    cr_assert_eq(heap_check().free_spans, 1);
}

Test(large, a_refused_move_leaves_the_object_as_it_was)
{
    init();
    unsigned char *p = ap__large_take(4 * MIB, 16, false);
    char *wall = ap__large_take(MIB, 16, false);
    fill(p, 4 * MIB);
    os_faults_fail_always(OS_FAULTS_MREMAP);
    cr_assert_null(ap__large_move(p, 6 * MIB, "realloc"));
    os_faults_reset();
    check(p, 4 * MIB);
    cr_assert_eq(ap__large_usable_size(p), 4 * MIB);
    heap_check();
    cr_assert(ap__large_give(p) && ap__large_give(wall));
}

Test(large, small_objects_and_shrinking_are_not_moved)
{
    init();
    char *p = ap__large_take(300000, 16, false);
    cr_assert_null(ap__large_move(p, MIB, "realloc"));
    char *q = ap__large_take(4 * MIB, 16, false);
    cr_assert_null(ap__large_move(q, 2 * MIB, "realloc"));
}

Test(large, a_table_that_cannot_grow_fails_that_one_allocation)
{
    init();
    enum { MOST = 2000 };
    static void *objects[MOST];
    size_t count = 0;
    void *grown = ap__large_take(800 * MIB, 16, false); /* the heap is large enough now */
    cr_assert(ap__large_give(grown));
    os_faults_fail_always(OS_FAULTS_MMAP);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    while ((objects[count] = ap__large_take(300000, 16, false)) != NULL) {
        count++;
        cr_assert_lt(count, MOST);
    }
    size_t spans = heap_check().large_spans;
    cr_assert_eq(spans, count, "what could not be entered was given back");
    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(ap__large_usable_size(objects[i]), 303104);
    }
    os_faults_reset();
    cr_assert_not_null(ap__large_take(300000, 16, false));
}

Test(large, ten_thousand_objects_come_and_go)
{
    init();
    enum { COUNT = 10000 };
    static char *objects[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        objects[i] = ap__large_take(262145 + i, 16, false);
        cr_assert_not_null(objects[i]);
        objects[i][0] = (char)i;
    }
    for (size_t i = 0; i < COUNT; i++) {
        cr_assert_eq(objects[i][0], (char)i);
    }
    for (size_t i = 0; i < COUNT; i++) {
        cr_assert(ap__large_give(objects[i * 7919 % COUNT])); /* in another order */
    }
    struct ap__large_table_stats stats;
    ap__large_table_stats(&stats);
    cr_assert_eq(stats.live, 0);
    cr_assert_eq(heap_check().free_spans, 1);
}
