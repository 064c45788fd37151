/* SPDX-License-Identifier: MIT */
/*
 * thread_cache_test.c: one thread's free lists.
 * Goal: slow start, streaks, bounds, flush of the oldest, the fold, no loss of a block on any path. Method: a
 * cache of the test's own on a fresh heap; blocks are counted where they come from.
 */
#include "cache/thread_cache.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache_limits.h"
#include "central/central_free_list.h"
#include "central/transfer_cache.h"
#include "heap/region.h"
#include "meta/meta.h"
#include "support/child.h"
#include "support/heap_check.h"
#include "support/hit_paths.h"
#include "support/os_faults.h"

enum { CLASS_64 = 4, CLASS_LARGEST = AP_CLASS_COUNT - 1, MANY = 4000 };

static struct ap__thread_cache cache;

static void init(size_t thread_bytes_max)
{
    cr_assert(ap__region_init((size_t)1 << 30));
    ap__cache_limits_init(thread_bytes_max, 1 << 30);
    ap__transfer_init(1, 0);
    ap__thread_cache_init(&cache);
}

static void *take(unsigned size_class)
{
    return hit_path_take(&cache, size_class);
}

static void give(unsigned size_class, void *p)
{
    hit_path_give(&cache, size_class, p);
}

static void check_bounds(void)
{
    size_t capacity_bytes = 0;
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        const struct ap__free_list_info *info = &cache.infos[c];
        cr_assert_leq(ap__thread_cache_count(&cache, c), info->capacity);
        cr_assert_leq(info->capacity, info->room);
        capacity_bytes += info->capacity * (size_t)ap__size_class[c].size;
    }
    cr_assert_eq(capacity_bytes, cache.capacity_bytes);
    cr_assert_leq(capacity_bytes, AP_CACHE_FREE_BYTES + cache.granted_bytes);
}

static size_t purge(unsigned size_class)
{
    bool pending = false;
    return ap__central_purge(size_class, 0, 0, &pending);
}

/* Takes what the list has. */
static void drain(unsigned size_class)
{
    while (ap__thread_cache_count(&cache, size_class) > 0) {
        cr_assert_not_null(take(size_class));
    }
}

/* Refills of a list that gives nothing back: twice the last, within a batch and an eighth of what there was so far. */
Test(thread_cache, refills_double_up_to_their_bound)
{
    init(4 << 20);
    size_t all = 0;
    size_t expected = ap__cache_limits_initial_refill(CLASS_64);
    size_t batch = ap__size_class[CLASS_64].batch;
    for (int refill = 0; refill < 40; refill++) {
        cr_assert_not_null(take(CLASS_64));
        cr_assert_eq(blocks_claimed(CLASS_64) - all, expected);
        all = blocks_claimed(CLASS_64);
        drain(CLASS_64);
        expected = ap__min(2 * expected + 1, batch + all / 8);
        expected = ap__min(expected, ap__cache_limits_refill_max(CLASS_64));
        check_bounds();
    }
    cr_assert_eq(expected, AP_STREAK_MAX);
}

/* How many blocks the next refill of an empty list brings; the program takes them all. */
static size_t take_refill(unsigned size_class)
{
    cr_assert_eq(ap__thread_cache_count(&cache, size_class), 0);
    cr_assert_not_null(take(size_class));
    size_t brought = ap__thread_cache_count(&cache, size_class) + 1;
    cr_assert_leq(brought, ap__max(cache.infos[size_class].capacity, 1), "class %u", size_class);
    check_bounds();
    drain(size_class);
    return brought;
}

/* Takes blocks until refills bring as many as they may. */
static void begin_streak(unsigned size_class)
{
    for (int i = 0; take_refill(size_class) < ap__cache_limits_refill_max(size_class); i++) {
        cr_assert_lt(i, 40, "class %u: they grow by an eighth", size_class);
    }
}

static void expect_about_a_batch(unsigned size_class)
{
    size_t batch = ap__size_class[size_class].batch;
    size_t brought = take_refill(size_class);
    cr_assert(brought >= batch && brought <= batch + 1, "class %u: %zu", size_class, brought);
}

/* Frees blocks that the list has not brought, and takes those that it has kept. */
static void give_and_drain(unsigned size_class, unsigned count)
{
    static void *blocks[MANY];
    cr_assert_eq(ap__central_take(size_class, blocks, count), count);
    for (unsigned i = 0; i < count; i++) {
        give(size_class, blocks[i]);
    }
    check_bounds();
    drain(size_class);
}

Test(thread_cache, a_list_that_only_grows_gets_more_than_a_batch)
{
    init(64 << 20);
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        begin_streak(c);
        for (int i = 0; i < 3; i++) {
            cr_assert_eq(take_refill(c), ap__cache_limits_refill_max(c), "class %u", c);
        }
    }
    cr_assert_gt(take_refill(CLASS_64), ap__size_class[CLASS_64].batch);
}

Test(thread_cache, an_overflow_ends_a_streak)
{
    init(64 << 20);
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        begin_streak(c);
        give_and_drain(c, cache.infos[c].capacity);
        cr_assert_eq(take_refill(c), ap__cache_limits_refill_max(c), "class %u: full, no more", c);
        give_and_drain(c, cache.infos[c].capacity + 1u); /* most lists grow */
        expect_about_a_batch(c);
        begin_streak(c);
        give_and_drain(c, ap__cache_limits_capacity_max(c) + 1); /* none can */
        expect_about_a_batch(c);
    }
}

Test(thread_cache, blocks_from_another_cache_end_a_streak)
{
    init(64 << 20);
    ap__transfer_init(1, 1 << 20);
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        void *block;
        begin_streak(c);
        cr_assert_eq(ap__central_take(c, &block, 1), 1);
        cr_assert_eq(ap__transfer_give(c, &block, 1), 1);
        cr_assert_eq(take_refill(c), 1, "the one that has travelled");
        expect_about_a_batch(c);
    }
}

Test(thread_cache, an_emptied_cache_has_no_streak)
{
    init(64 << 20);
    begin_streak(CLASS_64);
    ap__thread_cache_empty(&cache);
    size_t all = 0;
    for (int i = 0; i < 6; i++) {
        size_t brought = take_refill(CLASS_64);
        cr_assert_leq(brought, ap__size_class[CLASS_64].batch + all / 8, "refill %d", i);
        all += brought;
    }
}

Test(thread_cache, a_refill_brings_what_the_list_can_hold_and_one_at_least)
{
    init(0);
    bool is_short = false; /* a list has some room, and would have liked more */
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        const struct ap__free_list_info *info = &cache.infos[c];
        for (int i = 0; i < 10; i++) {
            size_t brought = take_refill(c);
            cr_assert_eq(brought, ap__min(info->refill, ap__max(info->capacity, 1)));
            is_short |= info->capacity != 0 && info->capacity < info->refill;
        }
    }
    cr_assert(is_short);
    cr_assert_eq(cache.infos[CLASS_LARGEST].capacity, 0, "straight to the program");
}

Test(thread_cache, hands_out_ascending_addresses_and_takes_back_last_first)
{
    init(4 << 20);
    char *a = take(CLASS_64);
    char *b = take(CLASS_64);
    cr_assert_eq(b, a + 64);
    give(CLASS_64, a);
    give(CLASS_64, b);
    cr_assert_eq(take(CLASS_64), b);
    cr_assert_eq(take(CLASS_64), a);
}

Test(thread_cache, overflow_gives_back_the_oldest_and_keeps_the_newest)
{
    static void *blocks[MANY];
    init(4 << 20);
    for (int i = 0; i < MANY; i++) {
        blocks[i] = take(CLASS_64);
    }
    for (int i = 0; i < MANY; i++) {
        give(CLASS_64, blocks[i]);
        check_bounds();
    }
    size_t kept = ap__thread_cache_count(&cache, CLASS_64);
    cr_assert_leq(kept, ap__cache_limits_capacity_max(CLASS_64));
    cr_assert_eq(blocks_claimed(CLASS_64), kept);
    for (size_t i = 0; i < kept; i++) {
        cr_assert_eq(take(CLASS_64), blocks[MANY - 1 - i]);
    }
}

Test(thread_cache, without_a_grant_it_stays_within_the_free_allowance)
{
    static void *blocks[MANY];
    init(0);
    for (unsigned c = 1; c < AP_CLASS_COUNT; c += 5) {
        for (int i = 0; i < 300; i++) {
            blocks[i] = take(c);
            cr_assert_not_null(blocks[i]);
        }
        for (int i = 0; i < 300; i++) {
            give(c, blocks[i]);
        }
        check_bounds();
        cr_assert_eq(cache.granted_bytes, 0);
    }
    ap__thread_cache_empty(&cache);
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        (void)purge(c);
    }
    cr_assert_eq(heap_check().small_spans, 0);
}

Test(thread_cache, blocks_unused_between_two_visits_go_back)
{
    static void *blocks[MANY];
    init(4 << 20);
    for (int i = 0; i < 200; i++) {
        blocks[i] = take(CLASS_64);
    }
    for (int i = 0; i < 200; i++) {
        give(CLASS_64, blocks[i]);
    }
    size_t before = ap__thread_cache_count(&cache, CLASS_64);
    /* Slow events of another class: visits come and go while this one is not used. */
    for (int i = 0; i < MANY; i++) {
        blocks[i] = take(CLASS_LARGEST);
    }
    for (int i = 0; i < MANY; i++) {
        give(CLASS_LARGEST, blocks[i]);
    }
    cr_assert_lt(ap__thread_cache_count(&cache, CLASS_64), before / 8 + 2);
    check_bounds();
}

Test(thread_cache, a_fold_hides_nothing_from_the_program)
{
    static void *blocks[200];
    init(4 << 20);
    for (int i = 0; i < 200; i++) {
        blocks[i] = take(CLASS_64);
    }
    for (int i = 0; i < 200; i++) {
        give(CLASS_64, blocks[i]);
    }
    for (int i = 0; cache.infos[CLASS_64].hidden == 0; i++) {
        cr_assert_not_null(take(CLASS_LARGEST));
        cr_assert_lt(i, MANY, "a visit comes some time");
    }
    size_t kept = ap__thread_cache_count(&cache, CLASS_64);
    cr_assert_geq(kept, 200); /* and what the last refill brought too much */
    cr_assert_gt(cache.infos[CLASS_64].hidden, kept - 200, "the fold hides some of ours");
    for (size_t i = 0; i < 200; i++) {
        cr_assert(ap__thread_cache_holds(&cache, CLASS_64, blocks[i]));
    }
    for (size_t i = 0; i < 200; i++) {
        cr_assert_eq(take(CLASS_64), blocks[199 - i], "through the fold, in order");
    }
    cr_assert_eq(ap__thread_cache_count(&cache, CLASS_64), kept - 200);
}

/* Whether the list is as a fold has to leave it that hides all. */
static bool is_all_hidden(unsigned size_class)
{
    const struct ap__free_list_info *info = &cache.infos[size_class];
    return info->hidden == ap__thread_cache_used(&cache, size_class) &&
           cache.lists[size_class].full == ap__free_list_top(&cache.lists[size_class]);
}

/* Of 3 KiB: none stays in sight once the list has been full; a few come and go after the next allocation. */
Test(thread_cache, of_blocks_beyond_2_kib_a_fold_hides_all)
{
    enum { CLASS_3K = 44, COUNT = 40, FEW = 4 };
    void *blocks[COUNT];
    init(4 << 20);
    cr_assert_eq(ap__size_class[CLASS_3K].size, 3072);
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = take(CLASS_3K);
    }
    drain(CLASS_3K);
    int slow = 0;
    for (int i = 0; i < COUNT; i++) {
        struct ap__free_list *list = &cache.lists[CLASS_3K];
        bool is_slow = ap__free_list_top(list) == list->full;
        give(CLASS_3K, blocks[i]);
        slow += is_slow;
        cr_assert(!is_slow || is_all_hidden(CLASS_3K), "block %d", i);
        cr_assert(ap__thread_cache_holds(&cache, CLASS_3K, blocks[i]), "block %d", i);
        check_bounds();
    }
    cr_assert_geq(slow, COUNT - 2 * FEW, "once full, it stays so");
    void *few[FEW];
    for (int i = 0; i < FEW; i++) {
        few[i] = take(CLASS_3K);
        cr_assert_eq(few[i], blocks[COUNT - 1 - i], "the newest first");
    }
    for (int i = FEW; i-- > 0;) {
        struct ap__free_list *list = &cache.lists[CLASS_3K];
        cr_assert_neq(ap__free_list_top(list), list->full, "block %d is no slow one", i);
        give(CLASS_3K, few[i]);
    }
}

/* Slow events of a program that takes some blocks and gives them back, again and again. */
static uint64_t count_slow_paths(unsigned size_class, int rounds)
{
    enum { SET = 20 };
    void *blocks[SET];
    uint64_t before = atomic_load(&cache.refills) + atomic_load(&cache.flushes);
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < SET; i++) {
            blocks[i] = take(size_class);
        }
        for (int i = 0; i < SET; i++) {
            give(size_class, blocks[i]);
        }
    }
    return atomic_load(&cache.refills) + atomic_load(&cache.flushes) - before;
}

Test(thread_cache, room_that_lists_do_not_use_is_for_one_that_has_none)
{
    enum { CLASS_48 = 3 };
    size_t bound = 2 << 20;
    init(bound);
    for (unsigned c = CLASS_48 + 1; c < AP_CLASS_COUNT; c++) {
        (void)take_refill(c);
        give_and_drain(c, ap__cache_limits_capacity_max(c));
    }
    cr_assert_gt(cache.capacity_bytes, bound - (bound >> 3), "all room is theirs");
    (void)count_slow_paths(CLASS_48, 200);
    cr_assert_eq(count_slow_paths(CLASS_48, 200), 0, "it has found room");
    check_bounds();
}

/* Blocks of a made-up sort of thread: it frees and never allocates. */
Test(thread_cache, a_list_that_is_only_pushed_to_does_not_grow_beyond_a_batch)
{
    init(64 << 20);
    void *blocks[MANY];
    cr_assert_eq(ap__central_take(CLASS_64, blocks, MANY), MANY);
    for (int i = 0; i < MANY; i++) {
        give(CLASS_64, blocks[i]);
        cr_assert_leq(cache.infos[CLASS_64].capacity, ap__size_class[CLASS_64].batch);
    }
    cr_assert_geq((size_t)atomic_load(&cache.flushes), MANY / ap__size_class[CLASS_64].batch - 1);
    cr_assert_leq((size_t)atomic_load(&cache.flushes), MANY / ap__size_class[CLASS_64].batch + 1,
                  "whole batches");
    ap__thread_cache_empty(&cache);
    cr_assert_eq(blocks_claimed(CLASS_64), 0);
}

Test(thread_cache, blocks_pass_through_the_transfer_cache_once_there_are_two_caches)
{
    enum { CLASS_16K = 1 + AP_LINEAR_CLASSES + 7 * AP_CLASSES_PER_DOUBLING - 1 };
    init(64 << 20);
    ap__transfer_init(1, 1 << 20);
    cr_assert_eq(ap__size_class[CLASS_16K].size, 16384);
    ap__transfer_take(CLASS_64, (void *[]){NULL}, 1);
    give(CLASS_64, take(CLASS_64));
    ap__thread_cache_empty(&cache);
    cr_assert_eq(ap__transfer_count(CLASS_64), 0, "nobody to pass them to");
    ap__central_share();
    give(CLASS_64, take(CLASS_64));
    give(CLASS_16K, take(CLASS_16K));
    ap__thread_cache_empty(&cache);
    cr_assert_neq(ap__transfer_count(CLASS_64), 0);
    cr_assert_eq(ap__transfer_count(CLASS_16K), 0, "too big to lie about");
}

Test(thread_cache, first_blocks_lie_on_lines_of_their_own)
{
    enum { CLASS_16 = 1, LINE = 64 };
    init(64 << 20);
    void *others[2];
    cr_assert_eq(ap__central_take(CLASS_16, others, 2), 2);
    ap__central_give(CLASS_16, others, 1, "free");
    void *p = take(CLASS_16);
    cr_assert_neq((uintptr_t)p / LINE, (uintptr_t)others[1] / LINE);
    give(CLASS_16, p);
    ap__thread_cache_empty(&cache);
    ap__central_give(CLASS_16, others + 1, 1, "free");
    cr_assert_eq(blocks_claimed(CLASS_16), 0);
}

Test(thread_cache, emptying_gives_blocks_arrays_and_grants_back)
{
    static void *blocks[MANY];
    init(4 << 20);
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        for (int i = 0; i < 50; i++) {
            blocks[i] = take(c);
        }
        for (int i = 0; i < 50; i++) {
            give(c, blocks[i]);
        }
    }
    ap__thread_cache_empty(&cache);
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        cr_assert_eq(blocks_claimed(c), 0);
        cr_assert_eq(cache.infos[c].capacity, 0);
    }
    cr_assert_eq(cache.granted_bytes, 0);
    cr_assert_eq(cache.capacity_bytes, 0);
    cr_assert_eq(ap__cache_limits_grant(0, 4 << 20), 4 << 20, "all grants are free again");
    cr_assert_not_null(take(CLASS_64));
}

Test(thread_cache, without_memory_for_arrays_blocks_still_come_and_go)
{
    void *blocks[100];
    init(4 << 20);
    blocks[0] = take(CLASS_64); /* the heap has a span */
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    os_faults_fail_always(OS_FAULTS_MMAP);
    while (ap__meta_take(AP_CACHE_LINE) != NULL) { /* until the rest of its mapping is used up */
    }
    for (int i = 1; i < 100; i++) {
        blocks[i] = take(CLASS_64);
        cr_assert_not_null(blocks[i]);
    }
    for (int i = 0; i < 100; i++) {
        give(CLASS_64, blocks[i]);
    }
    os_faults_reset();
    ap__thread_cache_empty(&cache);
    cr_assert_eq(blocks_claimed(CLASS_64), 0);
}

Test(thread_cache, no_memory_at_all_is_null)
{
    init(4 << 20);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    os_faults_fail_always(OS_FAULTS_MMAP);
    cr_assert_null(take(CLASS_64));
    cr_assert_null(take(CLASS_LARGEST));
    os_faults_reset();
    cr_assert_not_null(take(CLASS_64));
    check_bounds();
}

/* What a hit path does that a signal handler interrupted between its load and its store of `top`. */
struct stale_top {
    unsigned blocks; /* in the list, with a fold or without */
    int top;         /* above the bottom, in words */
    bool frees;      /* or allocates */
};

static void go_on_from_a_stale_top(void *argument)
{
    const struct stale_top *stale = argument;
    static void *blocks[MANY];
    for (unsigned i = 0; i < stale->blocks; i++) {
        blocks[i] = take(CLASS_64);
    }
    for (unsigned i = 0; i < stale->blocks; i++) {
        give(CLASS_64, blocks[i]);
    }
    ap__slot *bottom = atomic_load(&cache.infos[CLASS_64].bottom);
    ap__free_list_set_top(&cache.lists[CLASS_64], bottom + stale->top);
    if (stale->frees) {
        ap__thread_cache_overflow(&cache, CLASS_64, blocks[0], "free");
    } else {
        (void)ap__thread_cache_refill(&cache, CLASS_64);
    }
}

Test(thread_cache, a_list_left_without_order_is_reported_before_it_is_used)
{
    static const struct stale_top stale[] = {
        {600, 2, false},    {600, 2, true},  /* below the fold */
        {600, -1, false},   {600, -1, true}, /* below the list */
        {600, MANY, false}, {600, MANY, true}, {2, -1, false}, {2, MANY, false},
    };
    init(4 << 20);
    for (size_t i = 0; i < sizeof stale / sizeof *stale; i++) {
        struct child_result result;
        child_run(&result, go_on_from_a_stale_top, (void *)&stale[i]);
        cr_assert_eq(result.signal, SIGABRT, "%zu: signal %d, %s", i, result.signal, result.text);
        const char *end = strchr(result.text, '\n');
        cr_assert_not_null(
            strstr(result.text, "apmalloc: a thread cache is damaged: a signal handler"), "%zu: %s",
            i, result.text);
        cr_assert(end != NULL && end[1] == '\0', "%zu: one line: %s", i, result.text);
    }
}
