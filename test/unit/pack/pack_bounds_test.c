/* SPDX-License-Identifier: MIT */
/*
 * pack_bounds_test.c: how much a class keeps before its blocks are packed.
 * Goal: a bound for each class of packed sizes and for no other; for blocks that replace each other, and for those that
 * threads wait for, it rises in small heaps, by default; elsewhere the class is recycled instead, it and no other. Method: direct calls on a fresh heap; a thread that waits for the lock.
 */
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "central/central_free_list.h"
#include "packed.h"
#include "support/recycle.h"

enum { OFTEN = 200 /* times that blocks come and go */ };

static void expect_bounds(size_t bytes)
{
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        size_t size = ap__size_class[c].size;
        bool may_be_packed = size > 1024 && size <= AP__PACK_SIZE_MAX;
        cr_assert_eq(ap__central_bound(c), may_be_packed ? bytes : SIZE_MAX, "class %u", c);
    }
}

Test(pack_bounds, classes_of_packed_sizes_have_a_bound)
{
    ap__pack_init(AP__WHEN_AUTO, false);
    expect_bounds(AP__PACK_BOUND_BYTES);
    ap__pack_init(AP__WHEN_ALWAYS, false);
    expect_bounds(0);
    ap__pack_init(AP__WHEN_NEVER, false);
    expect_bounds(SIZE_MAX);
}

static void come_and_go(size_t size, unsigned thread)
{
    for (unsigned i = 0; i < OFTEN; i++) {
        give(take(size, thread));
    }
}

/* A class and the fine one below it have that bound, all others another. */
static void expect_one_raised(size_t size)
{
    unsigned raised = ap__class_of_size(size);
    raised += ap__class_is_fine(raised);
    for (unsigned c = ap__class_of_size(AP__PACK_SIZE_MIN); c <= ap__class_of_size(LONGEST); c++) {
        bool is_raised = c == raised || c + 1 == raised;
        cr_assert_eq(ap__central_bound(c), is_raised ? AP__PACK_RAISED_BYTES : AP__PACK_BOUND_BYTES,
                     "%zu, class %u", size, c);
    }
}

/* Which fine classes are open. */
static bool is_open[AP_CLASS_COUNT];

/* The class of the size is recycled, and the fine one below it, if it is open; no other is. 0: none is. */
static void expect_recycled(size_t size)
{
    unsigned recycled = size != 0 ? ap__class_of_size(size) : 0;
    recycled += size != 0 && ap__class_is_fine(recycled);
    cr_assert_eq(ap__pack_recycles_any(), size != 0);
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        bool is_recycled = size != 0 && (c == recycled || (c + 1 == recycled && is_open[c]));
        cr_assert_eq(ap__pack_is_recycled(c), is_recycled, "%zu, class %u", size, c);
    }
}

Test(pack_bounds, the_class_of_blocks_that_come_and_go_gets_a_higher_bound)
{
    static const size_t sizes[] = {1152, 1280, 4096, 10000, 57344, 65536};
    init();
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        ap__pack_init(AP__WHEN_AUTO, false);
        memset(&ap__pack_pools[0].traffic, 0, sizeof ap__pack_pools[0].traffic);
        come_and_go(sizes[i], 0);
        expect_one_raised(sizes[i]);
        expect_recycled(0);
    }
}

Test(pack_bounds, pools_see_their_own_traffic)
{
    init();
    ap__pack_init(AP__WHEN_AUTO, false);
    for (unsigned i = 0; i < OFTEN; i++) {
        give(take(4096, i));
    }
    cr_assert_eq(ap__central_bound(ap__class_of_size(4096)), AP__PACK_BOUND_BYTES);
}

Test(pack_bounds, where_all_are_packed_classes_are_recycled)
{
    init();
    ap__pack_init(AP__WHEN_ALWAYS, false);
    expect_recycled(0);
    come_and_go(4096, 0);
    expect_bounds(0);
    expect_recycled(4096);
}

/* As if there had been no memory for a span of the class. */
Test(pack_bounds, and_where_none_should_be)
{
    init();
    ap__pack_init(AP__WHEN_NEVER, false);
    come_and_go(8192, 0);
    expect_bounds(SIZE_MAX);
    expect_recycled(8192);
}

Test(pack_bounds, in_a_heap_with_many_packed_blocks_classes_are_recycled_instead)
{
    static const size_t sizes[] = {1152, 1280, 4096, 10000, 57344, 65536};
    init();
    ap__pack_init(AP__WHEN_AUTO, false);
    while (ap__pack_block_bytes() < AP__PACK_RAISE_BYTES_MAX) {
        (void)take(LONGEST, 1);
    }
    expect_recycled(0);
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        recycle_none();
        memset(&ap__pack_pools[0].traffic, 0, sizeof ap__pack_pools[0].traffic);
        come_and_go(sizes[i], 0);
        expect_recycled(sizes[i]);
    }
    expect_bounds(AP__PACK_BOUND_BYTES);
}

Test(pack_bounds, in_one_with_a_little_less_the_bound_is_raised)
{
    init();
    ap__pack_init(AP__WHEN_AUTO, false);
    while (ap__pack_block_bytes() + LONGEST < AP__PACK_RAISE_BYTES_MAX) {
        (void)take(LONGEST, 1);
    }
    come_and_go(4096, 0);
    expect_one_raised(4096);
    expect_recycled(0);
}

Test(pack_bounds, growth_raises_no_bound)
{
    init();
    ap__pack_init(AP__WHEN_AUTO, false);
    for (unsigned i = 0; i < 2000; i++) {
        (void)take(4096, 0);
    }
    expect_bounds(AP__PACK_BOUND_BYTES);
    expect_recycled(0);
}

static void *wait_for_lock(void *lock)
{
    ap__lock_take(lock);
    ap__lock_release(lock);
    return NULL;
}

static uint64_t contended(const struct ap__lock *lock)
{
    struct ap__lock_stats figures = {0, 0};
    ap__lock_add_stats(lock, &figures);
    return figures.contended;
}

/* Another thread probably waits for this one: it counts itself if it came before the release. */
static void wait_once(struct ap__lock *lock)
{
    pthread_t thread;
    struct timespec pause = {0, 200000};
    ap__lock_take(lock);
    cr_assert_eq(pthread_create(&thread, NULL, wait_for_lock, lock), 0);
    (void)nanosleep(&pause, NULL);
    ap__lock_release(lock);
    pthread_join(thread, NULL);
}

Test(pack_bounds, waiting_for_the_lock_is_traffic)
{
    struct ap__lock *lock = &ap__pack_pools[0].lock;
    init();
    ap__pack_init(AP__WHEN_AUTO, false);
    for (unsigned waits = 0; waits < OFTEN;) {
        uint64_t before = contended(lock);
        wait_once(lock);
        if (contended(lock) != before) {
            waits++;
            (void)take(4096, 0);
        }
    }
    cr_assert_eq(ap__central_bound(ap__class_of_size(4096)), AP__PACK_RAISED_BYTES);
}

Test(pack_bounds, one_wait_counts_once)
{
    struct ap__lock *lock = &ap__pack_pools[0].lock;
    init();
    ap__pack_init(AP__WHEN_AUTO, false);
    do {
        wait_once(lock);
    } while (contended(lock) == 0);
    for (unsigned i = 0; i < 2 * OFTEN; i++) {
        (void)take(4096, 0);
    }
    expect_bounds(AP__PACK_BOUND_BYTES);
}

static void open_fine(unsigned fine)
{
    is_open[fine] = true;
    ap__pack_note_open(fine);
}

/* In the lists of a closed one, whose sizes the next class serves, no call would look for blocks. */
Test(pack_bounds, a_fine_class_is_recycled_when_it_is_open)
{
    unsigned fine = ap__class_of_size(4096) - 1, other = ap__class_of_size(10240) - 1;
    cr_assert(ap__class_is_fine(fine) && ap__class_is_fine(other));
    init();
    ap__pack_init(AP__WHEN_ALWAYS, false);
    expect_recycled(0);
    open_fine(other);
    expect_recycled(0);
    come_and_go(4096, 0);
    expect_recycled(4096);
    open_fine(fine);
    expect_recycled(4096);
    cr_assert(ap__pack_is_recycled(fine));
}
