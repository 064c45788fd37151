/* SPDX-License-Identifier: MIT */
/*
 * zero_size_test.c: what a program may do with a block of no bytes.
 * Goal: every function gives a request for nothing a block of its own whose usable bytes, at least
 * one, belong to nobody else; the block can be resized and given back in every way. Method: many such
 * blocks side by side, filled to the last usable byte.
 */
#include <criterion/criterion.h>

#include "release.h"

TestSuite(zero_size, .timeout = 120);

enum { BLOCKS = 300 };

static void expect_own_bytes(const struct entry_points *e, unsigned which)
{
    void *blocks[BLOCKS];
    for (unsigned b = 0; b < BLOCKS; b++) {
        blocks[b] = allocate(e, which, 0);
        cr_assert_not_null(blocks[b], "%s %s(0)", e->set, allocator_name(which));
        size_t usable = e->usable_size(blocks[b]);
        cr_assert_geq(usable, 16, "%s %s(0): %zu bytes", e->set, allocator_name(which), usable);
        fill(blocks[b], usable, b);
    }
    for (unsigned b = 0; b < BLOCKS; b++) {
        cr_assert(is_filled(blocks[b], e->usable_size(blocks[b]), b), "%s %s(0)", e->set,
                  allocator_name(which));
        e->free(blocks[b]);
    }
}

Test(zero_size, usable_bytes_are_nobody_elses)
{
    FOR_EACH_SET (e) {
        for (unsigned which = 0; which < ALLOCATORS; which++) {
            expect_own_bytes(e, which);
        }
    }
}

Test(zero_size, blocks_are_given_back_in_every_way)
{
    FOR_EACH_SET (e) {
        e->free(e->malloc(1));
        size_t before = ap_mallinfo2().uordblks;
        for (unsigned which = 0; which < ALLOCATORS; which++) {
            for (unsigned how = 0; how < RELEASES; how++) {
                void *p = allocate(e, which, 0);
                cr_assert_not_null(p);
                release(e, release_fits(how, which) ? how : 0, p, 0);
            }
        }
        cr_assert_eq(ap_mallinfo2().uordblks, before);
    }
}

Test(zero_size, blocks_grow_and_shrink_like_others)
{
    FOR_EACH_SET (e) {
        for (unsigned which = 0; which < ALLOCATORS; which++) {
            for (size_t i = 0; i < FOUR_SIZES; i++) {
                unsigned char *p = allocate(e, which, 0);
                p[0] = 'z';
                p = e->realloc(p, four_sizes[i]);
                cr_assert_not_null(p);
                cr_assert_eq(p[0], 'z', "%s(0) to %zu", allocator_name(which), four_sizes[i]);
                mark(p, four_sizes[i], which);
                p = e->realloc(p, 1);
                cr_assert_not_null(p);
                cr_assert_eq(p[0], (unsigned char)which);
                e->free(p);
            }
        }
    }
}
