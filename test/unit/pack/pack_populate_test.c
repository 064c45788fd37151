/* SPDX-License-Identifier: MIT */
/*
 * pack_populate_test.c: pages of fresh packed spans, asked for before they are touched.
 * Goal: a granule at a time, from a pool's eighth span on, where that is wanted, and once, not where a long block begins; what is populated goes back
 * like all other. Method: direct calls on a fresh heap; which pages are there, by mincore().
 */
#include <sys/mman.h>

#include "central/central_free_list.h"
#include "os/os.h"
#include "packed.h"
#include "support/heap_check.h"
#include "support/os_faults.h"

enum {
    POPULATED_FROM = 8, /* spans of the pool */
    POPULATED = AP__POPULATE_SIZE_MAX,
    PAGES_A_GRANULE = (1 << AP_PAGE_HEAP_GRANULE_SHIFT) / PAGE
};

static char *blocks[POPULATED_FROM * IN_SPAN];

static size_t resident_pages(const struct ap__span *span)
{
    unsigned char states[SPAN_BYTES / PAGE];
    size_t count = 0;
    cr_assert_eq(mincore((void *)span->start, SPAN_BYTES, states), 0);
    for (size_t i = 0; i < SPAN_BYTES / PAGE; i++) {
        count += states[i] & 1;
    }
    return count;
}

static void init_populating(bool populates)
{
    init();
    ap__pack_init(AP__WHEN_NEVER, populates);
    void *probe = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!ap__os_populate(probe, PAGE)) {
        cr_skip_test("the kernel does not populate");
    }
}

Test(pack_populate, from_the_eighth_span_on_they_are_populated_a_granule_at_a_time)
{
    init_populating(true);
    fill_spans(blocks, POPULATED_FROM - 1, 0);
    for (unsigned i = 0; i < POPULATED_FROM - 1; i++) {
        cr_assert_eq(resident_pages(span_of(blocks[i * IN_SPAN])), 0, "span %u", i);
    }
    char *p = take(POPULATED, 0);
    struct ap__span *span = span_of(p);
    cr_assert_eq(pool_spans(0), POPULATED_FROM);
    for (unsigned i = 1; i < AP_GRANULE / POPULATED; i++) {
        cr_assert_eq(resident_pages(span), PAGES_A_GRANULE);
        (void)take(POPULATED, 0);
    }
    cr_assert_eq(resident_pages(span), PAGES_A_GRANULE, "they fill the first granule");
    (void)take(POPULATED, 0);
    cr_assert_eq(resident_pages(span), 2 * PAGES_A_GRANULE);
    cr_assert(!span->packed.is_purged);
    os_faults_reset();
    give(p);
    cr_assert_eq(take(POPULATED, 0), p);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 0, "what lies below is there");
    heap_check();
}

Test(pack_populate, granules_that_long_blocks_begin_are_not)
{
    init_populating(true);
    fill_spans(blocks, POPULATED_FROM - 1, 0);
    struct ap__span *span = span_of(take(POPULATED, 0));
    cr_assert_eq(resident_pages(span), PAGES_A_GRANULE);
    (void)take(LONGEST, 0);
    cr_assert_eq(resident_pages(span), PAGES_A_GRANULE, "it may hardly be used");
    (void)take(POPULATED, 0);
    cr_assert_eq(resident_pages(span), PAGES_A_GRANULE, "it lies where that one has begun");
    for (unsigned i = 0; i < AP_GRANULE / POPULATED; i++) {
        (void)take(POPULATED, 0);
    }
    cr_assert_eq(resident_pages(span), 2 * PAGES_A_GRANULE);
    heap_check();
}

Test(pack_populate, what_is_populated_goes_back_like_all_other)
{
    init_populating(true);
    fill_spans(blocks, POPULATED_FROM - 1, 0);
    struct ap__span *span = span_of(take(2000, 0));
    bool pending = false;
    cr_assert_gt(ap__pack_purge(0, 0, &pending), 0);
    cr_assert_eq(resident_pages(span), 1);
}

Test(pack_populate, what_was_in_use_before_is_not_populated)
{
    init_populating(true);
    fill_spans(blocks, POPULATED_FROM - 1, 0);
    char *p = take(LONGEST, 1);
    (void)ap__os_discard(p, SPAN_BYTES);
    give(p);
    cr_assert_eq(take(POPULATED, 0), p);
    cr_assert_eq(resident_pages(span_of(p)), 0);
}

Test(pack_populate, nothing_is_populated_where_that_is_not_wanted)
{
    init_populating(false);
    fill_spans(blocks, POPULATED_FROM - 1, 0);
    for (unsigned i = 0; i < 2 * AP_GRANULE / POPULATED; i++) {
        cr_assert_eq(resident_pages(span_of(take(POPULATED, 0))), 0, "block %u", i);
    }
}
