/* SPDX-License-Identifier: MIT */
/*
 * purge_test.c: pages of metadata that are wholly free go back to the kernel.
 * Goal: all of those and no others; what is live keeps its contents; what comes back is zero, also as larger pieces;
 * nothing grows from cycle to cycle; refusals cost nothing but the memory; a look sweeps for what lay free, and not in vain.
 * Method: pieces with marks, mincore(), faults, madvise counted: each sweep makes one call more than it has runs.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "meta/meta.h"
#include "os/os.h"
#include "support/os_faults.h"

enum { PAGE = 4096, KIB = 1024, PIECES = 1024 };

static unsigned char *pieces[PIECES];

static bool is_filled(const unsigned char *p, size_t n, unsigned char with)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != with) {
            return false;
        }
    }
    return true;
}

/* Filled with marks of their own. */
static void take(size_t from, size_t to, size_t size)
{
    for (size_t i = from; i < to; i++) {
        pieces[i] = ap__meta_take(size);
        cr_assert_not_null(pieces[i]);
        cr_assert(is_filled(pieces[i], size, 0));
        memset(pieces[i], (int)(i % 255) + 1, size);
    }
}

static void give(size_t from, size_t to, size_t size)
{
    for (size_t i = from; i < to; i++) {
        cr_assert(is_filled(pieces[i], size, (unsigned char)(i % 255 + 1)));
        ap__meta_give(pieces[i], size);
    }
}

static struct ap__meta_stats stats(void)
{
    struct ap__meta_stats all;
    ap__meta_stats(&all);
    return all;
}

static bool is_resident(const void *p)
{
    unsigned char there = 0;
    cr_assert_eq(mincore((void *)ap__align_down((uintptr_t)p, PAGE), 1, &there), 0);
    return (there & 1) != 0;
}

/* Sizes have pages of their own from here on, and there is one run of a few pages at least that is in use. */
static void begin(void)
{
    if (ap__os_page_size() != PAGE) {
        cr_skip_test("the counts are those of pages of 4 KiB");
    }
    cr_assert_not_null(ap__meta_take(128 * KIB));
}

Test(purge, without_anything_free_there_is_nothing_to_do)
{
    cr_assert_eq(ap__meta_purge(), 0);
    begin();
    os_faults_reset();
    cr_assert_eq(ap__meta_purge(), 0);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 0);
}

Test(purge, pages_that_are_wholly_free_go_back)
{
    begin();
    take(0, 50, PAGE);
    take(50, 60, 16 * KIB);
    give(0, 60, PAGE); /* the larger ones' marks, too */
    for (size_t i = 50; i < 60; i++) {
        cr_assert(is_resident(pieces[i]));
    }
    cr_assert_eq(ap__meta_purge(), 60 * PAGE);
    for (size_t i = 0; i < 60; i++) {
        cr_assert_not(is_resident(pieces[i]));
        cr_assert_eq(pieces[i][0], 0, "it can be read for ever");
    }
    cr_assert_eq(ap__meta_purge(), 0, "once");
}

Test(purge, large_pieces_go_back_as_a_whole)
{
    begin();
    take(0, 4, AP_META_SIZE_MAX);
    give(0, 4, AP_META_SIZE_MAX);
    cr_assert_eq(ap__meta_purge(), 4 * AP_META_SIZE_MAX);
    cr_assert_eq(stats().free_bytes, 0);
}

Test(purge, a_page_with_one_piece_in_use_stays_and_so_do_contents)
{
    begin();
    for (size_t size = 64; size < PAGE; size *= 2) {
        size_t each = PAGE / size;
        size_t pages = 6;
        take(0, pages * each, size);
        size_t free_before = stats().free_bytes;
        for (size_t page = 0; page < pages; page++) {
            /* Of every other page all, of the rest all but one. */
            give(page * each, page * each + each - page % 2, size);
        }
        size_t freed = stats().free_bytes - free_before;
        cr_assert_eq(ap__meta_purge(), pages / 2 * PAGE, "of %zu bytes", size);
        cr_assert_eq(stats().free_bytes, free_before + freed - pages / 2 * PAGE);
        for (size_t page = 1; page < pages; page += 2) {
            size_t last = page * each + each - 1;
            cr_assert(is_filled(pieces[last], size, (unsigned char)(last % 255 + 1)));
        }
        take(0, pages * each - pages / 2, size);
    }
}

Test(purge, pages_come_back_as_zero_the_lowest_first)
{
    begin();
    take(0, 40, PAGE);
    give(0, 40, PAGE);
    cr_assert_eq(ap__meta_purge(), 40 * PAGE);
    size_t mapped = stats().mapped_bytes;
    unsigned char *low = pieces[0];
    take(0, 40, PAGE); /* which looks for zero */
    cr_assert_eq(pieces[0], low);
    for (size_t i = 1; i < 40; i++) {
        cr_assert_gt(pieces[i], pieces[i - 1]);
    }
    cr_assert_eq(stats().mapped_bytes, mapped);
    cr_assert_eq(stats().empty_bytes % PAGE, 0);
}

Test(purge, pages_side_by_side_come_back_as_larger_pieces)
{
    begin();
    take(0, 1, AP_META_SIZE_MAX);
    give(0, 1, AP_META_SIZE_MAX);
    cr_assert_eq(ap__meta_purge(), AP_META_SIZE_MAX);
    struct ap__meta_stats before = stats();
    for (size_t size = AP_META_SIZE_MAX; size >= 64; size /= 4) {
        size_t count = ap__min(AP_META_SIZE_MAX / size, PIECES);
        take(0, count, size);
        give(0, count, size);
        cr_assert_eq(ap__meta_purge(), count * size);
        cr_assert_eq(stats().mapped_bytes, before.mapped_bytes);
        cr_assert_eq(stats().untouched_bytes, before.untouched_bytes);
    }
    take(0, 1, AP_META_SIZE_MAX);
    cr_assert_eq(stats().mapped_bytes, before.mapped_bytes);
}

Test(purge, a_run_that_is_too_short_is_left_for_others)
{
    begin();
    take(0, 20, PAGE);
    for (size_t i = 0; i < 20; i += 2) {
        give(i, i + 1, PAGE);
    }
    cr_assert_eq(ap__meta_purge(), 10 * PAGE);
    struct ap__meta_stats before = stats();
    take(100, 104, 2 * PAGE);
    cr_assert_eq(stats().empty_bytes, before.empty_bytes);
    cr_assert_eq(stats().untouched_bytes, before.untouched_bytes - 8 * PAGE);
    take(200, 210, PAGE);
    cr_assert_eq(stats().empty_bytes, before.empty_bytes - 10 * PAGE);
}

/* All sizes up to 64 KiB. Every so many stay, if `kept_every` is not 0, for the next cycle to free. */
static void cycle(size_t kept_every)
{
    enum { COUNT = 200 };
    static size_t sizes[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        if (sizes[i] == 0) {
            sizes[i] = (size_t)64 << i * 7 % 11;
            take(i, i + 1, sizes[i]);
        }
    }
    for (size_t i = 0; i < COUNT; i++) {
        if (kept_every == 0 || i % kept_every != 0) {
            give(i, i + 1, sizes[i]);
            sizes[i] = 0;
        }
    }
    (void)ap__meta_purge();
}

static void expect_no_growth(size_t kept_every)
{
    for (int i = 0; i < 3; i++) {
        cycle(kept_every);
    }
    size_t mapped = stats().mapped_bytes;
    for (int i = 0; i < 60; i++) {
        cycle(kept_every);
    }
    cr_assert_eq(stats().mapped_bytes, mapped);
}

Test(purge, cycles_do_not_grow)
{
    begin();
    expect_no_growth(0);
    cr_assert_eq(stats().free_bytes, 0);
}

Test(purge, cycles_that_leave_something_do_not_grow)
{
    begin();
    expect_no_growth(17);
}

/* --- refusals --- */

Test(purge, what_the_kernel_will_not_take_stays_usable)
{
    begin();
    take(0, 64, PAGE);
    give(0, 64, PAGE);
    os_faults_fail_always(OS_FAULTS_MADVISE);
    struct ap__meta_stats before = stats();
    cr_assert_eq(ap__meta_purge(), 0);
    take(0, 64, PAGE);
    give(0, 64, PAGE);
    cr_assert_eq(ap__meta_purge(), 0);
    take(0, 4, 64 * KIB);
    cr_assert_eq(stats().mapped_bytes, before.mapped_bytes);
    give(0, 4, 64 * KIB);
    os_faults_reset();
    cr_assert_eq(ap__meta_purge(), 64 * PAGE, "it agrees again");
}

Test(purge, cycles_that_the_kernel_takes_nothing_of_do_not_grow)
{
    begin();
    os_faults_fail_always(OS_FAULTS_MADVISE);
    expect_no_growth(0);
}

/* Uses up all memory for metadata; what was taken is given back, all in one size. */
static void exhaust(size_t *count)
{
    os_faults_fail_always(OS_FAULTS_MMAP);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    while (*count < PIECES && (pieces[*count] = ap__meta_take(PAGE)) != NULL) {
        memset(pieces[*count], (int)(*count % 255) + 1, PAGE);
        ++*count;
    }
    cr_assert_lt(*count, PIECES);
}

Test(purge, without_memory_for_the_counts_nothing_is_lost)
{
    size_t count = 0;
    begin();
    exhaust(&count);
    give(0, count, PAGE);
    struct ap__meta_stats before = stats();
    cr_assert_eq(ap__meta_purge(), 0);
    cr_assert_eq(stats().free_bytes, before.free_bytes);
    take(0, count, PAGE);
    give(0, count, PAGE);
    os_faults_reset();
    cr_assert_eq(ap__meta_purge(), count * PAGE);
}

Test(purge, where_memory_is_refused_an_empty_page_has_the_counts)
{
    size_t count = 0;
    begin();
    take(0, 1, PAGE);
    give(0, 1, PAGE);
    cr_assert_eq(ap__meta_purge(), PAGE);
    exhaust(&count);
    give(1, count, PAGE);
    cr_assert_eq(ap__meta_purge(), 0, "which was needed for something else");
    ap__meta_give(pieces[0], PAGE);
    os_faults_reset();
    cr_assert_eq(ap__meta_purge(), count * PAGE);
    os_faults_fail_always(OS_FAULTS_MMAP);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    take(0, count - 1, PAGE);
    give(0, count - 1, PAGE);
    cr_assert_eq(ap__meta_purge(), (count - 1) * PAGE);
}

Test(purge, without_a_reservation_pieces_are_left_alone)
{
    ap__meta_set_heap(1);
    os_faults_fail_nth(OS_FAULTS_MMAP, 1);
    begin();
    cr_assert_eq(stats().reserved_bytes, 0);
    take(0, 100, PAGE);
    take(100, 200, 64);
    give(0, 100, PAGE);
    give(100, 200, 64);
    struct ap__meta_stats before = stats();
    cr_assert_eq(ap__meta_purge(), 0);
    cr_assert_eq(stats().free_bytes, before.free_bytes);
    cr_assert_eq(stats().mapped_bytes, before.mapped_bytes);
    take(0, 100, PAGE);
}

Test(purge, of_mappings_beside_the_reservation_nothing_goes)
{
    ap__meta_set_heap(1); /* half a MiB is reserved */
    begin();
    take(0, 300, PAGE); /* more than that */
    give(0, 300, PAGE);
    size_t bytes = ap__meta_purge();
    cr_assert(bytes > 0 && bytes < 300ul * PAGE, "%zu", bytes);
    cr_assert_geq(stats().free_bytes, 300 * PAGE - bytes);
    cr_assert_eq(ap__meta_purge(), 0);
    take(0, 300, PAGE);
    give(0, 300, PAGE);
    cr_assert_leq(stats().mapped_bytes, 4 * AP_META_SIZE_MAX);
}

/* --- looks --- */

Test(purge, what_lay_free_from_look_to_look_goes)
{
    bool more = false;
    begin();
    take(0, 100, PAGE);
    cr_assert_eq(ap__meta_purge_unused(&more), 0);
    cr_assert_not(more);
    give(0, 100, PAGE);
    cr_assert_eq(ap__meta_purge_unused(&more), 0, "just now");
    cr_assert(more);
    more = false;
    cr_assert_eq(ap__meta_purge_unused(&more), 100 * PAGE);
    os_faults_reset();
    cr_assert_eq(ap__meta_purge_unused(&more), 0);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 0);
    cr_assert_not(more, "at rest");
}

Test(purge, what_is_used_between_looks_stays)
{
    begin();
    take(0, 100, PAGE);
    os_faults_reset();
    for (int i = 0; i < 50; i++) {
        bool more = false;
        give(0, 100, PAGE);
        cr_assert_eq(ap__meta_purge_unused(&more), 0);
        cr_assert(more);
        take(0, 100, PAGE);
        more = false;
        cr_assert_eq(ap__meta_purge_unused(&more), 0);
        cr_assert_not(more);
    }
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 0, "it breathes");
}

Test(purge, a_little_is_not_worth_a_look)
{
    bool more = false;
    begin();
    take(0, 15, PAGE);
    give(0, 15, PAGE);
    os_faults_reset();
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(ap__meta_purge_unused(&more), 0);
    }
    cr_assert_not(more);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 0);
    cr_assert_eq(ap__meta_purge(), 15 * PAGE);
}

/* The lock is not to be held for long. */
Test(purge, of_very_many_pieces_some_go_at_each_look)
{
    enum { MANY = 100000 };
    static void *many[MANY];
    bool more = false;
    int looks = 0;
    begin();
    for (size_t i = 0; i < MANY; i++) {
        many[i] = ap__meta_take(64);
        cr_assert_not_null(many[i]);
    }
    for (size_t i = 0; i < MANY; i++) {
        ap__meta_give(many[i], 64);
    }
    (void)ap__meta_purge_unused(&more);
    size_t bytes = 0;
    for (; more && looks < 10; looks++) {
        more = false;
        size_t some = ap__meta_purge_unused(&more);
        cr_assert_leq(some, 1 << 21);
        bytes += some;
    }
    cr_assert(looks > 2 && looks < 10, "%d", looks);
    cr_assert_geq(bytes, MANY * 64 - 128 * KIB);
    (void)ap__meta_purge();
    cr_assert_leq(stats().free_bytes, PAGE);
}

Test(purge, of_very_many_pieces_on_pages_in_use_some_are_looked_at_once)
{
    enum { MANY = 100000 };
    static void *many[MANY];
    bool more = false;
    begin();
    for (size_t i = 0; i < MANY; i++) {
        many[i] = ap__meta_take(64);
        cr_assert_not_null(many[i]);
    }
    for (size_t i = 0; i < MANY; i += 2) {
        ap__meta_give(many[i], 64);
    }
    (void)ap__meta_purge_unused(&more);
    more = false;
    os_faults_reset();
    for (int looks = 0; looks < 10; looks++) {
        cr_assert_eq(ap__meta_purge_unused(&more), 0);
    }
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 1);
    cr_assert_not(more, "at rest");
}

/* Half of each page in use. */
static void leave_halves(size_t pages)
{
    take(0, 2 * pages, PAGE / 2);
    for (size_t i = 0; i < 2 * pages; i += 2) {
        give(i, i + 1, PAGE / 2);
    }
}

Test(purge, what_a_sweep_had_to_leave_is_not_swept_for_again)
{
    bool more = false;
    begin();
    leave_halves(100);
    (void)ap__meta_purge_unused(&more);
    os_faults_reset();
    cr_assert_eq(ap__meta_purge_unused(&more), 0);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 1, "in vain");
    more = false;
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(ap__meta_purge_unused(&more), 0);
        cr_assert_eq(ap__meta_purge_at_once(), 0);
    }
    cr_assert_not(more);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 1, "once");
    for (size_t i = 1; i < 200; i += 2) {
        give(i, i + 1, PAGE / 2);
    }
    (void)ap__meta_purge_unused(&more);
    cr_assert_eq(ap__meta_purge_unused(&more), 100 * PAGE);
}

Test(purge, what_was_used_since_a_sweep_is_swept_for_when_it_is_free_again)
{
    bool more = false;
    begin();
    leave_halves(100);
    cr_assert_eq(ap__meta_purge(), 0);
    os_faults_reset();
    cr_assert_eq(ap__meta_purge_at_once(), 0);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 0);
    take(200, 300, PAGE / 2); /* all that was left */
    (void)ap__meta_purge_unused(&more);
    give(200, 300, PAGE / 2);
    for (size_t i = 1; i < 20; i += 2) {
        give(i, i + 1, PAGE / 2);
    }
    (void)ap__meta_purge_unused(&more);
    cr_assert_eq(ap__meta_purge_unused(&more), 10 * PAGE);
}

Test(purge, at_once_is_when_a_page_is_free)
{
    begin();
    take(0, 30, PAGE);
    give(0, 1, PAGE);
    cr_assert_eq(ap__meta_purge_at_once(), PAGE);
    give(1, 2, PAGE);
    cr_assert_eq(ap__meta_purge_at_once(), PAGE);
    os_faults_reset();
    take(40, 42, 64);
    give(40, 41, 64);
    cr_assert_eq(ap__meta_purge_at_once(), 0);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 0, "less than a page is free");
    give(2, 30, PAGE);
    cr_assert_eq(ap__meta_purge_at_once(), 28 * PAGE);
}

Test(purge, of_much_metadata_at_once_is_when_a_64th_is_free)
{
    begin();
    take(0, 8, AP_META_SIZE_MAX);
    take(100, 200, PAGE);
    give(100, 120, PAGE);
    cr_assert_eq(ap__meta_purge_at_once(), 0);
    give(120, 160, PAGE);
    cr_assert_eq(ap__meta_purge_at_once(), 60 * PAGE);
}
