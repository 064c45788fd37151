/* SPDX-License-Identifier: MIT */
/*
 * region_test.c: reservation, growth, and the maps by granule.
 * Goal: what region.h promises, also when the kernel refuses. Method: direct calls, injected faults.
 */
#include "heap/region.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "support/child.h"
#include "support/os_faults.h"

#define MIB ((size_t)1 << 20)

Test(region, before_init_no_address_is_inside)
{
    int on_stack;
    cr_assert(!ap__region_contains((uintptr_t)&on_stack));
    cr_assert(!ap__region_contains(0));
    cr_assert_eq(ap__region_limit_granules(), 0);
}

Test(region, the_two_words_of_the_hit_path_share_a_cache_line)
{
    cr_assert_eq((uintptr_t)&ap__region_limit / AP_CACHE_LINE,
                 (uintptr_t)&ap__region_class_map / AP_CACHE_LINE);
}

Test(region, starts_with_nothing_usable_and_grows_in_order)
{
    cr_assert(ap__region_init(64 * MIB));
    cr_assert_eq(ap__region_base() % (2 * MIB), 0);
    cr_assert_eq(ap__region_limit_granules(), ap__region_first_granule());
    cr_assert_eq(ap__region_usable_bytes(), 0);
    size_t first = ap__region_grow(3);
    cr_assert_eq(first, ap__region_first_granule());
    cr_assert_eq(ap__region_grow(5), first + 3);
    cr_assert_eq(ap__region_usable_bytes(), 8 * AP_GRANULE);
    memset((void *)ap__region_address_of(first), 1, 8 * AP_GRANULE);
    cr_assert(ap__region_contains(ap__region_address_of(first)));
    cr_assert(ap__region_contains(ap__region_address_of(first + 8) - 1));
    cr_assert(!ap__region_contains(ap__region_address_of(first + 8)));
    cr_assert(!ap__region_contains(ap__region_base() - 1));
}

Test(region, grows_to_its_end_and_not_beyond)
{
    cr_assert(ap__region_init(4 * MIB));
    size_t left = ap__region_granules_left();
    cr_assert_eq(ap__region_grow(left + 1), 0);
    cr_assert_neq(ap__region_grow(left), 0);
    cr_assert_eq(ap__region_granules_left(), 0);
    cr_assert_eq(ap__region_grow(1), 0);
}

Test(region, maps_hold_what_was_written_for_every_granule)
{
    cr_assert(ap__region_init(256 * MIB));
    size_t count = ap__region_granules_left();
    size_t first = ap__region_grow(count);
    struct ap__span *a = (struct ap__span *)&count;
    cr_assert_eq(ap__region_count_dirty(first, count), 0);
    ap__region_set_class(first, count, 96);
    ap__region_set_span(first, count, a);
    ap__region_set_clean(first, count / 2, false);
    cr_assert_eq(ap__region_count_dirty(first, count), count / 2);
    for (size_t i = first; i < first + count; i++) {
        cr_assert_eq(ap__region_class_of(i), 96);
        cr_assert_eq(ap__region_span_of(i), a);
        cr_assert_eq(ap__region_is_clean(i), i >= first + count / 2);
        cr_assert_eq(ap__region_granule_of(ap__region_address_of(i) + 12345), i);
    }
    cr_assert_eq(ap__region_class_of(0), 0, "the maps themselves are no blocks");
}

Test(region, the_last_dirty_granule_is_found_wherever_it_lies)
{
    cr_assert(ap__region_init(256 * MIB));
    size_t count = ap__region_granules_left();
    size_t first = ap__region_grow(count);
    size_t end = first + count;
    cr_assert_eq(ap__region_dirty_end(first, end), first, "all are clean");
    cr_assert_eq(ap__region_dirty_end(first, first), first, "none at all");
    for (size_t i = first; i < end; i++) {
        ap__region_set_clean(i, 1, false);
        cr_assert_eq(ap__region_dirty_end(first, end), i + 1);
        cr_assert_eq(ap__region_dirty_end(first, i), first, "those behind the end do not count");
        cr_assert_eq(ap__region_dirty_end(i, end), i + 1);
        ap__region_set_clean(i, 1, true);
    }
    ap__region_set_clean(first, count, false);
    cr_assert_eq(ap__region_dirty_end(first, end), end);
}

Test(region, a_refused_reservation_is_halved)
{
    os_faults_fail_nth(OS_FAULTS_MMAP, 1);
    cr_assert(ap__region_init(64 * MIB));
    cr_assert_lt(ap__region_granules_left() * AP_GRANULE, 32 * MIB);
}

Test(region, no_reservation_at_all_is_reported)
{
    os_faults_fail_always(OS_FAULTS_MMAP);
    cr_assert(!ap__region_init(64 * MIB));
    cr_assert_eq(ap__region_limit_granules(), 0);
}

Test(region, maps_that_are_refused_leave_no_region_behind)
{
    for (unsigned long n = 1; n <= 3; n++) { /* one call for each map */
        os_faults_reset();
        os_faults_fail_nth(OS_FAULTS_MPROTECT, n);
        cr_assert(!ap__region_init(64 * MIB));
        os_faults_reset();
        cr_assert_eq(ap__region_granules_left(), 0);
        cr_assert_eq(ap__region_usable_bytes(), 0);
        cr_assert_eq(ap__region_unused_bytes(), 0);
        cr_assert_eq(ap__region_grow(1), 0);
        cr_assert_eq(os_faults_count(OS_FAULTS_MPROTECT), 0, "of addresses that are not ours");
    }
}

Test(region, refused_growth_changes_nothing_and_can_be_tried_again)
{
    cr_assert(ap__region_init(64 * MIB));
    size_t limit = ap__region_limit_granules();
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    cr_assert_eq(ap__region_grow(32), 0);
    cr_assert_eq(ap__region_limit_granules(), limit);
    os_faults_reset();
    cr_assert_eq(ap__region_grow(32), limit);
}

static void write_behind_the_limit(void *unused)
{
    (void)unused;
    *(volatile char *)ap__region_address_of(ap__region_limit_granules()) = 1;
}

static void write_before_the_first_granule(void *unused)
{
    (void)unused;
    *(volatile char *)(ap__region_address_of(ap__region_first_granule()) - 1) = 1;
}

Test(region, what_lies_around_the_usable_granules_is_guarded)
{
    cr_assert(ap__region_init(64 * MIB));
    cr_assert_neq(ap__region_grow(32), 0);
    struct child_result result;
    child_run(&result, write_behind_the_limit, NULL);
    cr_assert_eq(result.signal, SIGSEGV);
    child_run(&result, write_before_the_first_granule, NULL);
    cr_assert_eq(result.signal, SIGSEGV);
}
