/* SPDX-License-Identifier: MIT */
/*
 * pack_kept_test.c: what comes back from lists that hold blocks of a class and packed ones.
 * Goal: each block goes home, in whatever order they lie; a packed one only if it is as long as the class, and only if
 * the class may have any. Method: all orders of a few, and a random one of many, of blocks taken below; wrong ones in a
 * child.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "central/central_free_list.h"
#include "packed.h"
#include "support/child.h"
#include "support/heap_check.h"
#include "support/recycle.h"

enum { SIZE = 4096, FEW = 7, MANY = 600 };

static unsigned size_class;

static void init_recycled(void)
{
    init();
    ap__pack_init(AP__WHEN_AUTO, false);
    size_class = ap__class_of_size(SIZE);
    cr_assert_eq(ap__size_class[size_class].size, SIZE);
    recycle(size_class, true);
}

static void *take_either(bool packed)
{
    void *p = NULL;
    if (packed) {
        return take(SIZE, 0);
    }
    cr_assert(ap__central_take(size_class, &p, 1) == 1 ||
              (ap__central_add_span(size_class) && ap__central_take(size_class, &p, 1) == 1));
    return p;
}

static size_t claimed(void)
{
    struct ap__central_stats figures;
    ap__central_stats(size_class, &figures);
    return figures.claimed;
}

static void expect_none_left(void)
{
    cr_assert_eq(claimed(), 0);
    cr_assert_eq(stats().blocks, 0);
    cr_assert_eq(stats().block_bytes, 0);
    (void)heap_check();
}

Test(pack_kept, every_order_of_a_few)
{
    init_recycled();
    for (unsigned count = 0; count <= FEW; count++) {
        for (unsigned packed = 0; packed < 1u << count; packed++) {
            void *blocks[FEW];
            for (unsigned i = 0; i < count; i++) {
                blocks[i] = take_either((packed >> i & 1) != 0);
            }
            cr_assert_eq(claimed() + stats().blocks, count);
            ap__pack_give_kept(size_class, blocks, count, "free");
            expect_none_left();
        }
    }
}

Test(pack_kept, many_at_random_some_at_a_time)
{
    static void *blocks[MANY];
    init_recycled();
    srand(1);
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < MANY; i++) {
            blocks[i] = take_either(rand() % 4 == 0);
        }
        for (unsigned i = 0; i < MANY; i++) {
            unsigned other = (unsigned)rand() % MANY;
            void *p = blocks[i];
            blocks[i] = blocks[other];
            blocks[other] = p;
        }
        for (unsigned i = 0, count; i < MANY; i += count) {
            count = 1 + (unsigned)rand() % 40;
            count = count < MANY - i ? count : MANY - i;
            ap__pack_give_kept(size_class, blocks + i, count, "free");
            cr_assert_eq(claimed() + stats().blocks, MANY - i - count);
        }
        expect_none_left();
    }
}

Test(pack_kept, what_is_given_stays_as_it_is)
{
    void *blocks[FEW], *copy[FEW];
    init_recycled();
    for (unsigned i = 0; i < FEW; i++) {
        copy[i] = blocks[i] = take_either(i % 3 != 0);
    }
    ap__pack_give_kept(size_class, blocks, FEW, "free");
    cr_assert_eq(memcmp(blocks, copy, sizeof copy), 0, "it may be the words of a list");
}

Test(pack_kept, to_check_them_leaves_them_as_they_are)
{
    init_recycled();
    for (unsigned packed = 0; packed < 1u << FEW; packed++) {
        void *blocks[FEW];
        for (unsigned i = 0; i < FEW; i++) {
            blocks[i] = take_either((packed >> i & 1) != 0);
        }
        ap__pack_check_kept(size_class, blocks, FEW, "free");
        cr_assert_eq(claimed() + stats().blocks, FEW);
        ap__pack_give_kept(size_class, blocks, FEW, "free");
    }
    expect_none_left();
}

/* ------------------------------------------------------------ wrong ones */

/* Only to give it finds the last one. */
enum wrong { NOT_RECYCLED, SHORTER, LONGER, FREE_ALREADY, INSIDE, INSIDE_OF_CLASS, TWICE };

static void make_wrong(enum wrong wrong, void **blocks)
{
    init_recycled();
    for (unsigned i = 0; i < 3; i++) {
        blocks[i] = take_either(wrong != INSIDE_OF_CLASS || i != 1);
    }
    switch (wrong) {
    case NOT_RECYCLED:
        recycle(size_class, false);
        break;
    case SHORTER:
        (void)ap__pack_resize(span_of(blocks[1]), blocks[1], SIZE, SIZE / 2);
        break;
    case LONGER:
        blocks[1] = take(SIZE + 128, 0);
        break;
    case FREE_ALREADY:
        give(blocks[1]);
        break;
    case TWICE:
        blocks[2] = blocks[0];
        break;
    default:
        blocks[1] = (char *)blocks[1] + 256;
        break;
    }
}

static void give_wrong(void *wrong)
{
    void *blocks[3];
    make_wrong(*(enum wrong *)wrong, blocks);
    ap__pack_give_kept(size_class, blocks, 3, "free");
}

static void check_wrong(void *wrong)
{
    void *blocks[3];
    make_wrong(*(enum wrong *)wrong, blocks);
    ap__pack_check_kept(size_class, blocks, 3, "free");
}

static void expect_report(void (*function)(void *), enum wrong wrong)
{
    struct child_result result;
    child_run(&result, function, &wrong);
    cr_expect(result.signal == SIGABRT && strstr(result.text, "apmalloc: free(") != NULL,
              "%d: signal %d, status %d: %s", (int)wrong, result.signal, result.status,
              result.text);
}

Test(pack_kept, a_wrong_one_is_reported)
{
    for (enum wrong wrong = NOT_RECYCLED; wrong < TWICE; wrong++) {
        expect_report(give_wrong, wrong);
        expect_report(check_wrong, wrong);
    }
    expect_report(give_wrong, TWICE);
}
