/* SPDX-License-Identifier: MIT */
/*
 * huge_pages_test.c: which parts of the region ask for huge pages.
 * Goal: chunks for small blocks of a big heap do; small heaps, large objects and odd chunks do not; units
 * from which memory was given back never do again, at the price of one call each. Method: calls of
 * madvise are counted.
 */
#include "heap/huge_pages.h"

#include <criterion/criterion.h>

#include "heap/page_heap.h"
#include "heap/region.h"
#include "os/os.h"
#include "support/os_faults.h"

#define UNIT ((size_t)2 << 20)
#define BIG_HEAP ((size_t)100 << 20)

/* The first unit behind the maps; all of it usable. */
static uintptr_t first_unit;

static void init(enum ap__when wanted, uint64_t slow_us)
{
    cr_assert(ap__region_init((size_t)1 << 30));
    ap__huge_pages_init(wanted, slow_us);
    struct ap__span *span = ap__page_heap_take(10 * UNIT / AP_GRANULE, AP_GRANULE, 0);
    cr_assert_not_null(span);
    first_unit = (span->start + UNIT - 1) / UNIT * UNIT;
    os_faults_reset();
}

static void init_auto(uint64_t slow_us)
{
    init(AP__WHEN_AUTO, slow_us);
    if (ap__os_huge_pages() != AP__HUGE_PAGES_ADVISED) {
        cr_skip_test("the system does not leave huge pages to programs");
    }
}

Test(huge_pages, are_asked_for_where_small_blocks_fill_chunks_of_a_big_heap)
{
    init_auto(UINT64_MAX);
    ap__huge_pages_advise_chunk(first_unit, UNIT, true, BIG_HEAP / 2);
    ap__huge_pages_advise_chunk(first_unit, UNIT, false, BIG_HEAP);
    ap__huge_pages_advise_chunk(first_unit + AP_GRANULE, UNIT, true, BIG_HEAP);
    ap__huge_pages_advise_chunk(first_unit, UNIT / 2, true, BIG_HEAP);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 0);
    cr_assert(!ap__huge_pages_expected(first_unit));
    ap__huge_pages_advise_chunk(first_unit, 2 * UNIT, true, BIG_HEAP);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 2, "and the first is brought");
    cr_assert(ap__huge_pages_expected(first_unit));
}

Test(huge_pages, that_come_too_slowly_are_given_up_for_the_chunk)
{
    init_auto(0);
    ap__huge_pages_advise_chunk(first_unit, 2 * UNIT, true, BIG_HEAP);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 3, "advised, tried, taken back");
    cr_assert(!ap__huge_pages_expected(first_unit));
    ap__huge_pages_advise_chunk(first_unit, 2 * UNIT, true, BIG_HEAP);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 3, "the next one is not tried");
    for (int i = 0; i < 1000; i++) {
        ap__huge_pages_advise_chunk(first_unit, 2 * UNIT, true, BIG_HEAP);
    }
    cr_assert_leq(os_faults_count(OS_FAULTS_MADVISE), 3 * 1000ul / 15, "one in sixteen is");
    cr_assert_geq(os_faults_count(OS_FAULTS_MADVISE), 3 * 1000ul / 17);
}

Test(huge_pages, units_that_were_purged_go_without_for_good)
{
    init_auto(UINT64_MAX);
    ap__huge_pages_purged(first_unit, AP_GRANULE);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 0, "nobody asks for any yet");
    ap__huge_pages_advise_chunk(first_unit, 4 * UNIT, true, BIG_HEAP);
    ap__huge_pages_purged(first_unit + UNIT - AP_GRANULE, 2 * AP_GRANULE);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 2 + 2, "it lay in two units");
    cr_assert(!ap__huge_pages_expected(first_unit));
    cr_assert(!ap__huge_pages_expected(first_unit + UNIT));
    cr_assert(ap__huge_pages_expected(first_unit + 2 * UNIT));
    ap__huge_pages_purged(first_unit, 2 * UNIT);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 2 + 2, "each is told once");
}

Test(huge_pages, a_chunk_that_asks_does_so_whatever_the_next_one_does)
{
    init_auto(UINT64_MAX);
    ap__huge_pages_advise_chunk(first_unit, 2 * UNIT, true, BIG_HEAP);
    os_faults_fail_always(OS_FAULTS_MADVISE);
    ap__huge_pages_advise_chunk(first_unit + 2 * UNIT, 2 * UNIT, true, BIG_HEAP);
    os_faults_reset();
    cr_assert(ap__huge_pages_expected(first_unit + UNIT));
    cr_assert(!ap__huge_pages_expected(first_unit + 2 * UNIT));
    ap__huge_pages_purged(first_unit, AP_GRANULE);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 1, "else the kernel fills it again");
    cr_assert(!ap__huge_pages_expected(first_unit));
    ap__huge_pages_purged(first_unit + 2 * UNIT, AP_GRANULE);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 1, "nobody asked for that one");
}

Test(huge_pages, a_refusal_is_no_expectation)
{
    init_auto(UINT64_MAX);
    os_faults_fail_always(OS_FAULTS_MADVISE);
    ap__huge_pages_advise_chunk(first_unit, UNIT, true, BIG_HEAP);
    cr_assert(!ap__huge_pages_expected(first_unit));
}

Test(huge_pages, never_is_said_for_every_chunk)
{
    init(AP__WHEN_NEVER, 0);
    ap__huge_pages_advise_chunk(first_unit, UNIT, true, BIG_HEAP);
    ap__huge_pages_advise_chunk(first_unit + UNIT, UNIT, false, UNIT);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 2);
    cr_assert(!ap__huge_pages_expected(first_unit));
}

Test(huge_pages, always_asks_for_every_chunk_also_after_a_purge)
{
    init(AP__WHEN_ALWAYS, 0);
    ap__huge_pages_advise_chunk(first_unit, UNIT, false, UNIT);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 1);
    ap__huge_pages_purged(first_unit, UNIT);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 1);
}
