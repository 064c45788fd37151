/* SPDX-License-Identifier: MIT */
/*
 * list_capacity_test.c: capacities, arrays and the account of one cache.
 * Goal: capacity grows to what was asked for and the bounds allow, and is what the account says at every step; what is
 * refused changes nothing. Method: direct calls on a cache of the test's own, whose lists hold made-up blocks.
 */
#include "cache/list_capacity.h"

#include <criterion/criterion.h>

#include "cache/cache_limits.h"
#include "meta/meta.h"
#include "support/os_faults.h"

enum { CLASS_64 = 4, CLASS_1024 = 32, SIZE_64 = 64, BOUND = 256 << 10 };

static struct ap__thread_cache cache;

static void init(void)
{
    cr_assert_eq(ap__size_class[CLASS_64].size, SIZE_64);
    cr_assert_eq(ap__size_class[CLASS_1024].size, 1024);
    ap__cache_limits_init(BOUND, (size_t)1 << 30);
    ap__thread_cache_init(&cache);
}

static unsigned capacity(unsigned size_class)
{
    return cache.infos[size_class].capacity;
}

static void check_account(void)
{
    size_t bytes = 0;
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        const struct ap__free_list_info *info = &cache.infos[c];
        bytes += info->capacity * (size_t)ap__size_class[c].size;
        cr_assert_leq(info->capacity, info->room, "class %u", c);
        const ap__slot *bottom = ap__free_list_bottom(info);
        cr_assert(info->capacity == 0 || cache.lists[c].full <= bottom + info->capacity, "class %u",
                  c);
    }
    cr_assert_eq(bytes, cache.capacity_bytes);
    cr_assert_leq(bytes, AP_CACHE_FREE_BYTES + cache.granted_bytes);
    cr_assert_leq(cache.granted_bytes, BOUND);
}

static void *block(size_t number)
{
    return (void *)(number * SIZE_64);
}

/* Fills a list to its capacity, from where it is. */
static void fill(unsigned size_class)
{
    for (size_t used = ap__thread_cache_used(&cache, size_class); used < capacity(size_class);
         used++) {
        ap__slot *top = ap__free_list_top(&cache.lists[size_class]) + 1;
        ap__slot_store(top, block(used + 1));
        ap__free_list_set_top(&cache.lists[size_class], top);
    }
}

static void expect_contents(unsigned size_class, size_t used)
{
    const ap__slot *bottom = ap__free_list_bottom(&cache.infos[size_class]);
    cr_assert_eq(ap__thread_cache_used(&cache, size_class), used);
    cr_assert_null(ap__slot_load(bottom), "the NULL that says empty");
    for (size_t i = 1; i <= used; i++) {
        cr_assert_eq(ap__slot_load(&bottom[i]), block(i), "place %zu", i);
    }
}

Test(list_capacity, doubles_up_to_what_is_of_use_and_keeps_the_blocks)
{
    init();
    unsigned expected = ap__cache_limits_initial_capacity(CLASS_64);
    for (unsigned most = 100; ap__list_grow(&cache, CLASS_64, most);) {
        cr_assert_eq(capacity(CLASS_64), expected);
        fill(CLASS_64);
        expect_contents(CLASS_64, expected);
        check_account();
        expected = ap__min(2 * expected + 1, most);
    }
    cr_assert_eq(capacity(CLASS_64), 100);
    expect_contents(CLASS_64, 100);
}

/* 32 KiB of room: to what doubling does not lead, one more at a time does. */
Test(list_capacity, stays_within_the_bounds_and_uses_them)
{
    init();
    ap__cache_limits_init(0, 0);
    while (ap__list_grow(&cache, CLASS_1024, 1000)) {
        check_account();
    }
    cr_assert_eq(capacity(CLASS_1024), AP_CACHE_FREE_BYTES / 1024);
    cache.is_trimmed = true; /* others have made room since the last visit */
    cr_assert_not(ap__list_grow(&cache, CLASS_64, 1000), "no byte is left");
    cr_assert_eq(capacity(CLASS_64), 0);
    cr_assert_null(ap__free_list_bottom(&cache.infos[CLASS_64]));
    check_account();
}

Test(list_capacity, a_list_of_nothing_takes_half_of_what_another_does_not_use)
{
    init();
    ap__cache_limits_init(0, 0);
    while (ap__list_grow(&cache, CLASS_1024, 1000)) {
    }
    unsigned before = capacity(CLASS_1024), batch = ap__size_class[CLASS_1024].batch;
    cache.is_trimmed = false;
    cr_assert(ap__list_grow(&cache, CLASS_64, 1000));
    cr_assert_eq(capacity(CLASS_1024), before - (before - batch) / 2);
    check_account();
    /* Once between two visits. */
    unsigned left = capacity(CLASS_1024);
    while (ap__list_grow(&cache, CLASS_64, 1000)) {
    }
    cr_assert_eq(capacity(CLASS_1024), left);
    check_account();
}

Test(list_capacity, what_a_list_holds_is_not_taken)
{
    init();
    ap__cache_limits_init(0, 0);
    while (ap__list_grow(&cache, CLASS_1024, 1000)) {
    }
    fill(CLASS_1024);
    unsigned before = capacity(CLASS_1024);
    cache.is_trimmed = false;
    cr_assert_not(ap__list_grow(&cache, CLASS_64, 1000));
    cr_assert_eq(capacity(CLASS_1024), before);
    expect_contents(CLASS_1024, before);
    check_account();
}

Test(list_capacity, lowering_frees_room_and_keeps_the_array)
{
    init();
    while (ap__list_grow(&cache, CLASS_64, 200)) {
    }
    const ap__slot *bottom = ap__free_list_bottom(&cache.infos[CLASS_64]);
    ap__list_lower_capacity(&cache, CLASS_64, 50);
    cr_assert_eq(capacity(CLASS_64), 50);
    cr_assert_eq(cache.capacity_bytes, 50 * SIZE_64);
    cr_assert_eq(cache.lists[CLASS_64].full, bottom + 50);
    cr_assert(ap__list_grow(&cache, CLASS_64, 200));
    cr_assert_eq(ap__free_list_bottom(&cache.infos[CLASS_64]), bottom);
    check_account();
}

Test(list_capacity, without_memory_for_an_array_nothing_changes)
{
    init();
    cr_assert(ap__list_grow(&cache, CLASS_64, 100));
    fill(CLASS_64);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    os_faults_fail_always(OS_FAULTS_MMAP);
    while (ap__meta_take(AP_CACHE_LINE) != NULL) { /* until the rest of its mapping is used up */
    }
    unsigned before = capacity(CLASS_64);
    cr_assert_not(ap__list_grow(&cache, CLASS_64, 100));
    cr_assert_eq(capacity(CLASS_64), before);
    expect_contents(CLASS_64, before);
    cr_assert_not(ap__list_grow(&cache, CLASS_1024, 100));
    cr_assert_null(ap__free_list_bottom(&cache.infos[CLASS_1024]));
    check_account();
    os_faults_reset();
    cr_assert(ap__list_grow(&cache, CLASS_64, 100));
    expect_contents(CLASS_64, before);
}

Test(list_capacity, dropped_lists_keep_a_cache_line_at_most)
{
    init();
    cr_assert(ap__list_grow(&cache, CLASS_64, 100));
    while (ap__list_grow(&cache, CLASS_1024, 100)) {
    }
    ap__list_drop(&cache, CLASS_64);
    ap__list_drop(&cache, CLASS_1024);
    ap__list_release_grants(&cache);
    cr_assert_not_null(ap__free_list_bottom(&cache.infos[CLASS_64]), "one line");
    cr_assert_null(ap__free_list_bottom(&cache.infos[CLASS_1024]));
    cr_assert_eq(cache.lists[CLASS_1024].full, ap__free_list_top(&cache.lists[CLASS_1024]), "full");
    cr_assert_null(ap__slot_load(ap__free_list_top(&cache.lists[CLASS_1024])), "and empty");
    cr_assert_eq(ap__cache_limits_granted(), 0);
    check_account();
    cr_assert(ap__list_grow(&cache, CLASS_1024, 100));
    check_account();
}
