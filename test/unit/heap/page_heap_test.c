/* SPDX-License-Identifier: MIT */
/*
 * page_heap_test.c: spans taken, given, grown, shortened.
 * Goal: best fit, coalescing, alignment, exactness of what is known to be zero, and an unharmed heap
 * whatever the kernel refuses. Method: short sequences with known outcomes. page_heap_check() walks the whole heap in
 * between.
 */
#include "heap/page_heap.h"

#include <criterion/criterion.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "heap/heap_limits.h"
#include "meta/meta.h"
#include "support/heap_check.h"
#include "support/os_faults.h"
#include "table/large_table.h"
#include "take_spans.h"

Test(page_heap, first_spans_are_neighbours_from_the_start_of_the_region)
{
    init(GIB);
    struct ap__span *a = take(1);
    struct ap__span *b = take(3);
    cr_assert_eq(a->start, ap__region_address_of(ap__region_first_granule()));
    cr_assert_eq(b->start, a->start + AP_GRANULE);
    memset((void *)b->start, 1, 3 * AP_GRANULE);
    page_heap_check();
}

Test(page_heap, best_fit_takes_the_shortest_and_of_those_the_lowest)
{
    init(GIB);
    struct ap__span *spans[9];
    static const size_t lengths[9] = {4, 1, 2, 1, 3, 1, 2, 1, 1};
    uintptr_t starts[9];
    for (int i = 0; i < 9; i++) {
        spans[i] = take(lengths[i]);
        starts[i] = spans[i]->start;
    }
    for (int i = 0; i < 8; i += 2) {
        ap__page_heap_give(spans[i]);
    }
    cr_assert_eq(take(2)->start, starts[2]);
    cr_assert_eq(take(2)->start, starts[6]);
    cr_assert_eq(take(2)->start, starts[4]);
    cr_assert_eq(take(4)->start, starts[0]);
    page_heap_check();
}

Test(page_heap, there_is_room_for_what_could_be_taken)
{
    init(GIB);
    cr_assert(ap__page_heap_has_room(1000), "the region grows");
    struct ap__span *a = take(20);
    (void)take(1);
    struct ap__page_heap_stats stats;
    ap__page_heap_stats(&stats);
    size_t used = stats.usable_bytes - stats.free_bytes;
    for (size_t room = 0; room < 3; room++) {
        ap__heap_limits_set_hard(used + room * AP_GRANULE);
        cr_assert(room == 0 || ap__page_heap_has_room(room));
        cr_assert(!ap__page_heap_has_room(room + 1));
    }
    ap__heap_limits_set_hard(SIZE_MAX);
    ap__page_heap_give_recent(a);
    ap__heap_limits_set_hard(used);
    cr_assert(ap__page_heap_has_room(20), "what waits for an owner of its length is free");
    cr_assert(!ap__page_heap_has_room(21));
    page_heap_check();
}

Test(page_heap, where_growth_was_refused_there_is_room_for_what_is_free)
{
    init(GIB);
    struct ap__span *a = take(20);
    (void)take(1);
    os_faults_fail_always(OS_FAULTS_MMAP);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    while (ap__page_heap_take(1, AP_GRANULE, 0) != NULL) {
    }
    cr_assert(!ap__page_heap_has_room(1));
    ap__page_heap_give(a);
    cr_assert(ap__page_heap_has_room(20));
    os_faults_reset();
    cr_assert(!ap__page_heap_has_room(21), "nobody has tried again");
    (void)take(21);
    cr_assert(ap__page_heap_has_room(1000));
    page_heap_check();
}

Test(page_heap, neighbours_become_one_in_whatever_order_they_are_freed)
{
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    init(GIB);
    for (int i = 0; i < 6; i++) {
        struct ap__span *spans[3] = {take(2), take(3), take(4)};
        struct ap__span *wall = take(1);
        uintptr_t start = spans[0]->start;
        for (int k = 0; k < 3; k++) {
            ap__page_heap_give(spans[orders[i][k]]);
            page_heap_check();
        }
        struct ap__span *all = take(9);
        cr_assert_eq(all->start, start);
        ap__page_heap_give(all);
        ap__page_heap_give(wall);
        cr_assert_eq(page_heap_check().free_spans, 1);
    }
}

Test(page_heap, alignments_are_kept_and_what_is_cut_off_stays_usable)
{
    init(8 * GIB);
    for (size_t alignment = AP_GRANULE; alignment <= GIB; alignment *= 2) {
        struct ap__span *wall = take(1);
        struct ap__span *span = ap__page_heap_take(3, alignment, 0);
        cr_assert_not_null(span);
        cr_assert_eq(span->start % alignment, 0);
        cr_assert_eq(span->granules, 3);
        page_heap_check();
        ap__page_heap_give(span);
        ap__page_heap_give(wall);
        cr_assert_eq(page_heap_check().free_spans, 1);
    }
}

Test(page_heap, small_spans_are_in_both_maps_until_they_are_given_back)
{
    init(GIB);
    struct ap__span *span = ap__page_heap_take(5, AP_GRANULE, 17);
    size_t first = ap__region_granule_of(span->start);
    for (size_t i = first; i < first + 5; i++) {
        cr_assert_eq(ap__region_class_of(i), 17);
        cr_assert_eq(ap__page_heap_span_of(ap__region_address_of(i) + 999), span);
    }
    page_heap_check();
    ap__page_heap_give(span);
    for (size_t i = first; i < first + 5; i++) {
        cr_assert_eq(ap__region_class_of(i), 0);
    }
    page_heap_check();
}

Test(page_heap, a_span_extends_into_its_free_neighbour_only)
{
    init(GIB);
    struct ap__span *a = take(2);
    struct ap__span *b = take(2);
    struct ap__span *wall = take(1);
    cr_assert(!ap__page_heap_extend(a, 3));
    ap__page_heap_give(b);
    cr_assert(!ap__page_heap_extend(a, 5));
    cr_assert(ap__page_heap_extend(a, 3));
    page_heap_check();
    cr_assert(ap__page_heap_extend(a, 4));
    cr_assert(!ap__page_heap_extend(a, 5));
    cr_assert_eq(page_heap_check().large_spans, 2);
    cr_assert_eq(stats().large_bytes, 5 * AP_GRANULE);
    ap__page_heap_give(wall);
}

Test(page_heap, a_shortened_span_frees_its_end)
{
    init(GIB);
    struct ap__span *a = take(10);
    struct ap__span *wall = take(1);
    uintptr_t end = a->start + 4 * AP_GRANULE;
    a->large.size_bytes = 1;
    cr_assert(ap__page_heap_shorten(a, 4));
    page_heap_check();
    cr_assert_eq(take(6)->start, end);
    ap__page_heap_give(wall);
    page_heap_check();
}

Test(page_heap, fresh_memory_is_clean_used_memory_is_dirty_purged_memory_is_clean)
{
    init(GIB);
    struct ap__span *a = take(4);
    size_t first = ap__region_granule_of(a->start);
    cr_assert_eq(ap__region_count_dirty(first, 4), 0);
    memset((void *)a->start, 7, 4 * AP_GRANULE);
    ap__page_heap_give(a);
    cr_assert_eq(page_heap_check().dirty_granules, 4);
    cr_assert_eq(ap__page_heap_purge_all(), 4 * AP_GRANULE);
    cr_assert_eq(page_heap_check().dirty_granules, 0);
    cr_assert_eq(ap__page_heap_purge_all(), 0);
    a = take(4);
    cr_assert_eq(ap__region_granule_of(a->start), first);
    for (size_t i = 0; i < 4 * AP_GRANULE; i++) {
        cr_assert_eq(((char *)a->start)[i], 0);
    }
}

Test(page_heap, refused_growth_yields_nothing_and_later_memory)
{
    init(GIB);
    struct ap__span *a = take(1);
    size_t held = stats().free_bytes / AP_GRANULE;
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    os_faults_fail_always(OS_FAULTS_MMAP);
    cr_assert_null(ap__page_heap_take(held + 1, AP_GRANULE, 0));
    page_heap_check();
    cr_assert_not_null(ap__page_heap_take(held, AP_GRANULE, 0)); /* what there is can be had */
    os_faults_reset();
    cr_assert_not_null(ap__page_heap_take(held + 1, AP_GRANULE, 0));
    ap__page_heap_give(a);
}

Test(page_heap, growth_is_by_chunks_and_falls_back_on_what_is_needed)
{
    init(64 * GIB);
    struct ap__span *a = take(1);
    cr_assert_lt(stats().usable_bytes, 4 * MIB); /* to the end of a huge page, and no further */
    ap__page_heap_give(a);
    struct rlimit limit = {stats().usable_bytes, RLIM_INFINITY};
    /* Too little for another chunk, and for the process's own data: nothing can be had. */
    cr_assert_eq(setrlimit(RLIMIT_DATA, &limit), 0);
    cr_assert_null(ap__page_heap_take(1000, AP_GRANULE, 0));
    limit.rlim_cur = RLIM_INFINITY;
    cr_assert_eq(setrlimit(RLIMIT_DATA, &limit), 0);
    cr_assert_not_null(ap__page_heap_take(1000, AP_GRANULE, 0));
}

Test(page_heap, a_used_up_region_is_continued_outside)
{
    init(8 * MIB);
    struct ap__span *inside[200];
    size_t count = 0;
    struct ap__span *outside = NULL;
    while (outside == NULL) {
        struct ap__span *span = ap__page_heap_take(4, AP_GRANULE, count % 2 == 0 ? 0 : 50);
        cr_assert_not_null(span);
        cr_assert_not(span->outside && ap__region_contains(span->start));
        if (span->outside) {
            outside = span;
        } else {
            inside[count++] = span;
        }
    }
    memset((void *)outside->start, 1, 4 * AP_GRANULE);
    struct ap__span *small = ap__page_heap_take(4, AP_GRANULE, 50);
    cr_assert(small->outside);
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(ap__page_heap_span_of(small->start + i * AP_GRANULE + 5), small);
    }
    uintptr_t gone = small->start;
    ap__page_heap_give(small);
    cr_assert_null(ap__page_heap_span_of(gone));
    struct ap__span *aligned = ap__page_heap_take(2, 4 * MIB, 0);
    cr_assert_eq(aligned->start % (4 * MIB), 0);
    ap__page_heap_give(aligned);
    ap__page_heap_give(outside);
    while (count-- > 0) {
        ap__page_heap_give(inside[count]);
    }
    cr_assert_eq(page_heap_check().free_spans, 1);
}

Test(page_heap, without_any_region_all_spans_are_outside)
{
    struct ap__span *span = ap__page_heap_take(4, AP_GRANULE, 0);
    cr_assert(span != NULL && span->outside);
    memset((void *)span->start, 1, 4 * AP_GRANULE);
    cr_assert_eq(stats().usable_bytes, 4 * AP_GRANULE);
    ap__page_heap_give(span);
    cr_assert_eq(stats().usable_bytes, 0);
}

/* Uses up all records, so that no span can be split. */
static void exhaust_records(void)
{
    os_faults_fail_always(OS_FAULTS_MMAP);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    while (ap__meta_take(AP_CACHE_LINE) != NULL) {
    }
    while (ap__span_record_take() != NULL) {
    }
}

Test(page_heap, without_records_exact_fits_are_had_and_all_else_changes_nothing)
{
    init(GIB);
    struct ap__span *spans[6];
    for (size_t i = 0; i < 6; i++) {
        spans[i] = take(i == 1 ? 5 : 4);
    }
    (void)take(stats().free_bytes / AP_GRANULE); /* nothing else is free */
    ap__page_heap_give(spans[1]);
    ap__page_heap_give(spans[3]);
    exhaust_records();
    /* What the free spans' own records allow is done before. */
    struct consistency_sums before = page_heap_check();
    cr_assert_eq(before.free_granules, 9);
    cr_assert_null(ap__page_heap_take(3, AP_GRANULE, 0));
    cr_assert_null(ap__page_heap_take(6, AP_GRANULE, 0));
    cr_assert(!ap__page_heap_extend(spans[2], 5), "the neighbour cannot be split");
    cr_assert(!ap__page_heap_shorten(spans[4], 1), "the end cannot become a span");
    cr_assert_eq(spans[2]->granules, 4);
    cr_assert_eq(spans[4]->granules, 4);
    struct consistency_sums after = page_heap_check();
    cr_assert_eq(after.free_spans, before.free_spans);
    cr_assert_eq(after.free_granules, before.free_granules);
    cr_assert_eq(after.dirty_granules, before.dirty_granules);
    cr_assert(ap__page_heap_extend(spans[2], 8), "as a whole it can be had");
    spans[1] = ap__page_heap_take(5, AP_GRANULE, 0);
    cr_assert_not_null(spans[1]);
    page_heap_check();
    ap__page_heap_give(spans[1]); /* its record comes back with it */
    os_faults_reset();
    cr_assert_not_null(ap__page_heap_take(3, AP_GRANULE, 0));
    page_heap_check();
}

Test(page_heap, a_cut_that_lacks_its_second_record_returns_the_first)
{
    init(GIB);
    const size_t alignment = 8 * AP_GRANULE;
    while (take(1)->start % alignment != 0) {
    }
    struct ap__span *span = take(20); /* one granule past a multiple: cut, it has two remains */
    (void)take(stats().free_bytes / AP_GRANULE);
    ap__page_heap_give(span);
    struct ap__span *last_record = ap__span_record_take();
    exhaust_records();
    ap__span_record_give(last_record);
    cr_assert_null(ap__page_heap_take(3, alignment, 0));
    cr_assert_eq(page_heap_check().free_granules, 20);
    cr_assert_not_null(ap__page_heap_take(3, AP_GRANULE, 0), "one record is there");
    page_heap_check();
}

Test(page_heap, moved_pages_are_mapped_afresh_or_stay_dirty)
{
    init(GIB);
    struct ap__span *a = take(4);
    struct ap__span *wall = take(1);
    for (int refused = 0; refused < 2; refused++) {
        size_t first = ap__region_granule_of(a->start);
        memset((void *)a->start, 7, 4 * AP_GRANULE);
        a->moved = true;
        if (refused) {
            os_faults_fail_always(OS_FAULTS_MMAP);
        }
        ap__page_heap_give(a);
        os_faults_reset();
        cr_assert_eq(ap__region_count_dirty(first, 4), refused ? 4 : 0);
        cr_assert_eq(page_heap_check().dirty_granules, refused ? 4 : 0);
        a = take(4);
        cr_assert_eq(ap__region_granule_of(a->start), first);
        cr_assert(!a->moved);
        cr_assert_eq(*(char *)a->start, refused ? 7 : 0);
    }
    ap__page_heap_give(wall);
}

Test(page_heap, a_mapping_that_cannot_be_unmapped_gives_its_memory_back)
{
    struct ap__span *span = ap__page_heap_take(4, AP_GRANULE, 0);
    cr_assert(span != NULL && span->outside);
    char *p = (char *)span->start;
    memset(p, 1, 4 * AP_GRANULE);
    os_faults_fail_always(OS_FAULTS_MUNMAP);
    ap__page_heap_give(span);
    unsigned char resident = 0;
    cr_assert_eq(mincore(p, 4096, &resident), 0, "it is still mapped");
    cr_assert_eq(resident & 1, 0);
    cr_assert_eq(stats().usable_bytes, 0);
    os_faults_reset();
    cr_assert_not_null(ap__page_heap_take(4, AP_GRANULE, 0));
}

enum { OUTSIDE_GRANULES = 16 };

/* Keys that no mapping has. */
static uintptr_t fake_key(size_t i)
{
    return ((uintptr_t)1 << 50) + i * AP_GRANULE;
}

Test(page_heap, a_table_that_cannot_take_all_granules_of_an_outside_span_takes_none)
{
    struct ap__span *first = ap__page_heap_take(4, AP_GRANULE, 50); /* records are mapped now */
    cr_assert(first != NULL && first->outside);
    uint32_t record;
    size_t count = 0;
    os_faults_fail_always(OS_FAULTS_MMAP);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    while (ap__meta_take(AP_CACHE_LINE) != NULL) {
    }
    while (ap__large_table_insert(fake_key(count), 0)) {
        count++;
    }
    os_faults_reset();
    for (size_t i = 0; i < OUTSIDE_GRANULES / 2; i++) {
        cr_assert(ap__large_table_delete(fake_key(i), &record));
    }
    struct ap__large_table_stats before, after;
    size_t usable;
    struct ap__span *refused;
    do { /* the mapping is granted, a larger table is not */
        ap__large_table_stats(&before);
        usable = stats().usable_bytes;
        os_faults_fail_always(OS_FAULTS_MPROTECT);
        os_faults_fail_nth(OS_FAULTS_MMAP, 2);
        refused = ap__page_heap_take(OUTSIDE_GRANULES, AP_GRANULE, 50);
        os_faults_reset();
    } while (refused != NULL);
    ap__large_table_stats(&after);
    cr_assert_eq(after.live, before.live);
    cr_assert_eq(stats().usable_bytes, usable);
    cr_assert(ap__large_table_is_valid());
    struct ap__span *span = ap__page_heap_take(4, AP_GRANULE, 50);
    cr_assert_not_null(span);
    cr_assert_eq(ap__page_heap_span_of(span->start + 3 * AP_GRANULE), span);
    cr_assert_eq(ap__page_heap_span_of(first->start), first);
}
