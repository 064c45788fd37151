/* SPDX-License-Identifier: MIT */
/*
 * free_list_test.c: the stack of block addresses as free_list.h draws it.
 * Goal: a list is what the picture says, with and without a fold, whatever was done to it; the hit paths
 * rely on that without looking. Method: the words of real lists are compared with the picture, and a
 * list beside a plain stack through random use. The seed is printed.
 */
#include "cache/free_list.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cache/cache_limits.h"
#include "cache/thread.h"
#include "central/transfer_cache.h"
#include "heap/region.h"
#include "support/hit_paths.h"

enum { CLASS = 4, OTHER_CLASS = AP_CLASS_COUNT - 1, ROUNDS = 30000, MOST = 3000 };

static struct ap__thread_cache cache;

static void init(void)
{
    cr_assert(ap__region_init((size_t)1 << 30));
    ap__cache_limits_init(4 << 20, 1 << 30);
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

/* The picture: order of the pointers, and exactly one NULL up to the top. */
static void check_picture(void)
{
    const struct ap__free_list *list = &cache.lists[CLASS];
    const struct ap__free_list_info *info = &cache.infos[CLASS];
    const ap__slot *bottom = atomic_load(&info->bottom);
    const ap__slot *top = ap__free_list_top(list);
    if (bottom == NULL) {
        cr_assert(top == &ap__free_list_none && list->full == &ap__free_list_none);
        cr_assert_eq(info->capacity + info->room + info->hidden, 0);
        return;
    }
    cr_assert(bottom + info->hidden <= top && top <= list->full);
    cr_assert_leq(list->full, bottom + info->capacity);
    cr_assert_leq(info->capacity, info->room);
    for (const ap__slot *at = bottom; at <= top; at++) {
        cr_assert_eq(ap__slot_load(at) == NULL, at == bottom + info->hidden);
    }
}

Test(free_list, one_never_used_is_empty_and_full_at_once)
{
    init();
    for (unsigned c = 0; c < AP_CLASS_COUNT; c++) {
        cr_assert_eq(ap__free_list_top(&cache.lists[c]), cache.lists[c].full, "full");
        cr_assert_null(ap__slot_load(ap__free_list_top(&cache.lists[c])), "and empty");
    }
    check_picture();
    cr_assert_null(ap__slot_load(&ap__free_list_none));
}

Test(free_list, the_hit_paths_find_a_list_by_one_shift)
{
    cr_assert_eq(sizeof(struct ap__free_list), 16);
    cr_assert_eq(offsetof(struct ap__thread_cache, lists), 0);
}

Test(free_list, an_emptied_one_is_empty_and_full_and_keeps_a_cache_line_at_most)
{
    enum { TOO_MANY = 10 * AP_CACHE_INITIAL_BLOCKS };
    init();
    for (size_t count = 1; count <= TOO_MANY; count += TOO_MANY - 1) {
        void *blocks[TOO_MANY];
        for (size_t i = 0; i < count; i++) {
            blocks[i] = take(CLASS);
        }
        for (size_t i = 0; i < count; i++) {
            give(CLASS, blocks[i]);
        }
        cr_assert_neq(ap__free_list_top(&cache.lists[CLASS]), &ap__free_list_none);
        check_picture();
        ap__thread_cache_empty(&cache);
        check_picture();
        const struct ap__free_list *list = &cache.lists[CLASS];
        cr_assert_eq(ap__free_list_top(list), list->full);
        cr_assert_null(ap__slot_load(ap__free_list_top(list)));
        cr_assert_eq(cache.infos[CLASS].room, count == 1 ? AP_CACHE_INITIAL_BLOCKS : 0);
    }
}

Test(free_list, holds_its_blocks_and_no_others_above_and_below_a_fold)
{
    init();
    void *blocks[100];
    for (int i = 0; i < 100; i++) {
        blocks[i] = take(CLASS);
    }
    for (int i = 0; i < 50; i++) {
        give(CLASS, blocks[i]);
    }
    for (int folded = 0; folded < 2; folded++) {
        for (int i = 0; i < 100; i++) {
            cr_assert_eq(ap__thread_cache_holds(&cache, CLASS, blocks[i]), i < 50, "%d", i);
        }
        while (cache.infos[CLASS].hidden == 0) { /* until a visit comes */
            cr_assert_not_null(take(OTHER_CLASS));
        }
        check_picture();
    }
}

Test(free_list, is_a_stack_through_random_use)
{
    static void *held[MOST];
    static void
        *model[MOST]; /* blocks in the list, the newest last; refills and flushes reset it */
    size_t held_count = 0;
    size_t known = 0; /* of the model */
    unsigned seed = (unsigned)time(NULL);
    printf("# free_list: seed %u\n", seed);
    srand(seed);
    init();
    unsigned folds = 0;
    for (int round = 0; round < ROUNDS; round++) {
        bool giving = held_count != 0 && (held_count == MOST || rand() % 2 == 0);
        uint64_t moved = cache.refills + cache.flushes;
        if (giving) {
            void *p = held[--held_count];
            give(CLASS, p);
            known = cache.refills + cache.flushes == moved ? known : 0;
            model[known++] = p;
        } else {
            void *p = take(CLASS);
            if (cache.refills + cache.flushes != moved) {
                known = 0;
            } else if (known != 0) {
                cr_assert_eq(p, model[--known], "round %d", round);
            }
            held[held_count++] = p;
        }
        if (rand() % 16 == 0) { /* slow events, so that visits come */
            give(OTHER_CLASS, take(OTHER_CLASS));
            (void)take(OTHER_CLASS);
        }
        folds += cache.infos[CLASS].hidden != 0;
        check_picture();
    }
    cr_assert_gt(folds, 0, "folds were met");
}
