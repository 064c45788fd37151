/* SPDX-License-Identifier: MIT */
/*
 * fine_classes_test.c: which class serves a size.
 * Goal: the class that serves a size holds it and is the smallest that is open; a fine class opens when its blocks
 * would save enough, and not a block earlier. Method: all sizes in each state; blocks from a fresh heap, one by one.
 */
#include "cache/fine_classes.h"

#include <criterion/criterion.h>

#include "central/central_free_list.h"
#include "heap/region.h"

enum { CLASS_64 = 4, CLASS_144 = 9, CLASS_160 = 10, ALL_FIT = UINT8_MAX };

static size_t size_of(unsigned c)
{
    return ap__size_class[c].size;
}

static bool is_open(unsigned c)
{
    return ap__class_for(size_of(c)) == c;
}

/* The smallest class that holds the size and is open: by a walk over all. */
static unsigned smallest_open(size_t size, size_t alignment)
{
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        if (size_of(c) >= size && size_of(c) % alignment == 0 && is_open(c)) {
            return c;
        }
    }
    return 0;
}

static void check_all_sizes(void)
{
    for (size_t size = 0; size <= AP_SMALL_SIZE_MAX; size++) {
        unsigned c = ap__class_for(size);
        cr_assert(c > 0 && c < AP_CLASS_COUNT && size_of(c) >= size, "size %zu", size);
        cr_assert_eq(c, smallest_open(size, 1), "size %zu", size);
        cr_assert(size > AP_BY_16_MAX || ap__class_by_16(size) == c, "size %zu", size);
        cr_assert(size <= AP_BY_16_MAX || size > AP_BY_128_MAX || ap__class_by_128(size) == c,
                  "size %zu", size);
    }
    for (size_t alignment = 1; alignment <= AP_GRANULE; alignment *= 2) {
        for (size_t size = 0; size <= AP_SMALL_SIZE_MAX; size += size / 16 + 1) {
            cr_assert_eq(ap__class_for_aligned(alignment, size), smallest_open(size, alignment),
                         "%zu of %zu", size, alignment);
        }
    }
    cr_assert_eq(ap__class_for_aligned(2 * AP_GRANULE, 16), 0);
    cr_assert_eq(ap__class_for_aligned(16, AP_SMALL_SIZE_MAX + 1), 0);
}

Test(fine_classes, at_first_none_is_open)
{
    check_all_sizes();
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        cr_assert_eq(is_open(c), !ap__class_is_fine(c), "class %u", c);
    }
}

Test(fine_classes, all_are_open_where_that_is_asked_for)
{
    ap__fine_classes_init(AP__WHEN_ALWAYS);
    check_all_sizes();
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        cr_assert(is_open(c), "class %u", c);
    }
}

/* Blocks of a class in use. */
static void use(unsigned size_class, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        void *p;
        cr_assert_eq(ap__central_take(size_class, &p, 1), 1);
    }
}

static void init(enum ap__when when)
{
    cr_assert(ap__region_init((size_t)1 << 30));
    cr_assert_eq(size_of(CLASS_144), 144);
    cr_assert_eq(size_of(CLASS_160), 160);
    ap__fine_classes_init(when);
}

static void consider(unsigned size_class, uint8_t fitting)
{
    ap__fine_classes_consider(size_class, fitting, ap__fine_classes_worth());
}

/* 8,192 blocks that are 16 bytes longer than they need be: 128 KiB. */
Test(fine_classes, a_class_opens_when_it_saves_128_kib)
{
    init(AP__WHEN_AUTO);
    use(CLASS_160, 8191);
    consider(CLASS_160, ALL_FIT);
    cr_assert_not(is_open(CLASS_144));
    use(CLASS_160, 1);
    consider(CLASS_160, ALL_FIT);
    cr_assert(is_open(CLASS_144));
    check_all_sizes();
}

Test(fine_classes, what_would_not_fit_does_not_count)
{
    init(AP__WHEN_AUTO);
    use(CLASS_160, (size_t)2 * 8192);
    consider(CLASS_160, ALL_FIT / 2 - 2);
    cr_assert_not(is_open(CLASS_144));
    consider(CLASS_160, ALL_FIT / 2 + 2);
    cr_assert(is_open(CLASS_144));
}

/* 64 MiB beside which 128 KiB are nothing: 1/128 of it is what must be saved. */
Test(fine_classes, a_class_opens_when_it_saves_a_128th_of_the_small_blocks)
{
    init(AP__WHEN_AUTO);
    use(CLASS_64, (size_t)1 << 20);
    size_t count = 8192;
    for (use(CLASS_160, count); count * 16 < (((size_t)64 << 20) + count * 160) / 128; count++) {
        consider(CLASS_160, ALL_FIT);
        cr_assert_not(is_open(CLASS_144), "%zu blocks", count);
        use(CLASS_160, 1);
    }
    cr_assert_gt(count, 30000);
    consider(CLASS_160, ALL_FIT);
    cr_assert(is_open(CLASS_144), "%zu blocks", count);
}

Test(fine_classes, none_opens_where_none_shall)
{
    init(AP__WHEN_NEVER);
    use(CLASS_160, (size_t)2 * 8192);
    consider(CLASS_160, ALL_FIT);
    cr_assert_not(is_open(CLASS_144));
}

Test(fine_classes, notes_are_a_mean_of_the_last_requests)
{
    uint8_t fitting = 0;
    for (int i = 0; i < 3; i++) {
        ap__fine_classes_note(&fitting, CLASS_160, 144);
    }
    cr_assert(fitting > 0 && fitting < ALL_FIT / 2, "%u: three say little", fitting);
    for (int i = 0; i < 100; i++) {
        ap__fine_classes_note(&fitting, CLASS_160, 129);
    }
    cr_assert_geq(fitting, ALL_FIT - 8);
    for (int i = 0; i < 100; i++) {
        ap__fine_classes_note(&fitting, CLASS_160, i % 2 == 0 ? 145 : 144);
    }
    cr_assert(fitting > 2 * ALL_FIT / 5 && fitting < 3 * ALL_FIT / 5, "%u", fitting);
    for (int i = 0; i < 100; i++) {
        ap__fine_classes_note(&fitting, CLASS_160, 145);
    }
    cr_assert_lt(fitting, 8);
}
