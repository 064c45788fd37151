/* SPDX-License-Identifier: MIT */
/*
 * contents_test.c: what is in a block, how large it is, and where it lies.
 * Goal: alignment, usable size, zeroes of calloc and kept contents of realloc, for every size class
 * and for large objects. Method: fill blocks with patterns and look whether they stay.
 */
#include "entry_points.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

TestSuite(contents, .timeout = 120);

enum { SIZES_MAX = 256 };

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define LARGEST_SMALL (256 * KIB)

/* The block size of every class, and `with_large` some sizes above. Returns how many. */
static size_t class_sizes(size_t sizes[SIZES_MAX], bool with_large)
{
    static const size_t large[] = {300 * KIB, 1 * MIB, 5 * MIB + 1, 33 * MIB};
    size_t n = 0;
    for (size_t size = 1; size <= LARGEST_SMALL; size = sizes[n++] + 1) {
        cr_assert_lt(n, SIZES_MAX - sizeof large / sizeof large[0]);
        sizes[n] = ap_good_size(size);
        cr_assert_geq(sizes[n], size);
    }
    for (size_t i = 0; with_large && i < sizeof large / sizeof large[0]; i++) {
        sizes[n++] = large[i];
    }
    return n;
}

Test(contents, every_block_is_aligned_to_16)
{
    FOR_EACH_SET (e) {
        static void *blocks[4097];
        for (size_t size = 1; size <= 4096; size++) {
            blocks[size] = e->malloc(size);
            cr_assert_not_null(blocks[size]);
            cr_assert_eq((uintptr_t)blocks[size] % 16, 0, "malloc(%zu)", size);
            fill(blocks[size], size, (unsigned)size);
        }
        for (size_t size = 1; size <= 4096; size++) {
            cr_assert(is_filled(blocks[size], size, (unsigned)size), "malloc(%zu)", size);
            e->free(blocks[size]);
        }
    }
}

Test(contents, usable_size_is_at_least_what_was_asked_for_and_can_be_written)
{
    enum { NEIGHBOURS = 3 };
    FOR_EACH_SET (e) {
        for (size_t size = 0; size <= 300 * KIB; size += 1 + size / 37) {
            for (unsigned which = 0; which < ALLOCATORS; which++) {
                void *blocks[NEIGHBOURS];
                size_t usable[NEIGHBOURS];
                for (unsigned i = 0; i < NEIGHBOURS; i++) {
                    blocks[i] = allocate(e, which, size);
                    cr_assert_not_null(blocks[i]);
                    usable[i] = e->usable_size(blocks[i]);
                    cr_assert_geq(usable[i], size, "%s(%zu)", allocator_name(which), size);
                    fill(blocks[i], usable[i], i);
                }
                for (unsigned i = 0; i < NEIGHBOURS; i++) {
                    cr_assert(is_filled(blocks[i], usable[i], i), "%s(%zu)", allocator_name(which),
                              size);
                    cr_assert_eq(e->usable_size(blocks[i]), usable[i], "constant while it lives");
                    e->free(blocks[i]);
                }
            }
        }
    }
}

Test(contents, good_size_is_what_malloc_gives)
{
    for (size_t size = 0; size <= 300 * KIB; size++) {
        void *p = ap_malloc(size);
        cr_assert_not_null(p);
        size_t usable = ap_usable_size(p);
        cr_assert_eq(ap_good_size(size), usable, "size %zu: %zu, not %zu", size, usable,
                     ap_good_size(size));
        ap_free(p);
    }
    for (size_t size = 300 * KIB; size <= 200 * MIB; size += size / 7 + 12345) {
        void *p = ap_malloc(size);
        cr_assert_not_null(p);
        cr_assert_eq(ap_good_size(size), ap_usable_size(p), "size %zu", size);
        ap_free(p);
    }
}

Test(contents, good_size_is_a_fixed_point_and_rises)
{
    size_t last = 0;
    for (size_t size = 0; size <= 600 * KIB; size++) {
        size_t good = ap_good_size(size);
        cr_assert_geq(good, size);
        cr_assert_geq(good, last);
        cr_assert_eq(ap_good_size(good), good);
        last = good;
    }
}

/* A fifth of the block: a quarter of what was asked for. */
Test(contents, small_waste_is_at_most_a_fifth)
{
    for (size_t size = 129; size <= LARGEST_SMALL; size++) {
        cr_assert_leq((ap_good_size(size) - size) * 5, ap_good_size(size), "size %zu", size);
    }
}

Test(contents, alignments_are_kept_for_all_sizes)
{
    FOR_EACH_SET (e) {
        for (size_t alignment = 16; alignment <= 64 * KIB; alignment *= 2) {
            for (size_t size = 1; size <= 300 * KIB; size = size * 2 + 3) {
                void *blocks[3];
                for (unsigned i = 0; i < 3; i++) {
                    cr_assert_eq(e->posix_memalign(&blocks[i], alignment, size), 0);
                    cr_assert_eq((uintptr_t)blocks[i] % alignment, 0);
                    cr_assert_geq(e->usable_size(blocks[i]), size);
                    fill(blocks[i], size, i);
                }
                for (unsigned i = 0; i < 3; i++) {
                    cr_assert(is_filled(blocks[i], size, i));
                    e->free(blocks[i]);
                }
            }
        }
    }
}

/* --- calloc --- */

Test(contents, calloc_is_zero_for_every_class_after_dirty_reuse)
{
    enum { BLOCKS = 8 };
    size_t sizes[SIZES_MAX];
    size_t n = class_sizes(sizes, true);
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < n; i++) {
            void *blocks[BLOCKS];
            for (unsigned b = 0; b < BLOCKS; b++) {
                blocks[b] = e->malloc(sizes[i]);
                cr_assert_not_null(blocks[b]);
                memset(blocks[b], 0xFF, e->usable_size(blocks[b]));
            }
            for (unsigned b = 0; b < BLOCKS; b++) {
                e->free(blocks[b]);
            }
            for (unsigned b = 0; b < BLOCKS; b++) {
                blocks[b] = e->calloc(sizes[i], 1);
                cr_assert_not_null(blocks[b]);
                cr_assert(is_zero(blocks[b], sizes[i]), "calloc(%zu)", sizes[i]);
            }
            for (unsigned b = 0; b < BLOCKS; b++) {
                e->free(blocks[b]);
            }
        }
    }
}

Test(contents, calloc_is_zero_where_blocks_of_other_sizes_were)
{
    /* Dirty spans travel between classes and to large objects and back. */
    static const size_t sizes[] = {48, 4 * KIB, 200 * KIB, 700 * KIB, 3 * MIB, 16, 1 * MIB};
    enum { BYTES = 12 << 20 };
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            size_t count = BYTES / sizes[i];
            void **blocks = e->malloc(count * sizeof *blocks);
            cr_assert_not_null(blocks);
            for (size_t b = 0; b < count; b++) {
                blocks[b] = e->calloc(1, sizes[i]);
                cr_assert_not_null(blocks[b]);
                cr_assert(is_zero(blocks[b], sizes[i]), "calloc(%zu) number %zu", sizes[i], b);
                memset(blocks[b], 0xEE, sizes[i]);
            }
            for (size_t b = 0; b < count; b++) {
                e->free(blocks[b]);
            }
            if (i % 2 == 1) {
                (void)e->malloc_trim(0);
            }
            memset(blocks, 0xDD, count * sizeof *blocks);
            e->free(blocks);
        }
    }
}

Test(contents, calloc_is_zero_after_a_large_block_grew_and_was_freed)
{
    FOR_EACH_SET (e) {
        for (size_t size = 300 * KIB; size < 40 * MIB; size *= 3) {
            char *p = e->malloc(size);
            cr_assert_not_null(p);
            memset(p, 0xFF, size);
            p = e->realloc(p, 2 * size);
            cr_assert_not_null(p);
            memset(p, 0xFF, 2 * size);
            e->free(p);
            char *a = e->calloc(2, size), *b = e->calloc(1, size);
            cr_assert(is_zero(a, 2 * size));
            cr_assert(is_zero(b, size));
            /* What realloc leaves behind must be known to be dirty, and what it moved from too. */
            memset(a, 0xAA, 2 * size);
            a = e->realloc(a, size / 2);
            char *c = e->calloc(1, size);
            cr_assert(is_zero(c, size));
            e->free(a);
            e->free(b);
            e->free(c);
        }
    }
}

/* --- realloc --- */

static void expect_prefix_kept(const struct entry_points *e, size_t from, size_t to)
{
    size_t kept = from < to ? from : to;
    char *p = e->malloc(from);
    cr_assert_not_null(p);
    fill(p, from, (unsigned)from);
    p = e->realloc(p, to);
    cr_assert_not_null(p, "realloc(%zu -> %zu)", from, to);
    cr_assert(is_filled(p, kept, (unsigned)from), "realloc(%zu -> %zu)", from, to);
    cr_assert_geq(e->usable_size(p), to);
    fill(p, to, (unsigned)to); /* all of it can be written */
    cr_assert(is_filled(p, to, (unsigned)to));
    e->free(p);
}

Test(contents, realloc_keeps_the_prefix_between_all_classes)
{
    size_t sizes[SIZES_MAX];
    size_t n = class_sizes(sizes, false);
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < n; i++) {
            for (size_t j = 0; j < n; j++) {
                expect_prefix_kept(e, sizes[i], sizes[j]);
            }
            expect_prefix_kept(e, sizes[i], sizes[i] + 1);
            expect_prefix_kept(e, sizes[i] + 1, sizes[i]);
        }
    }
}

Test(contents, realloc_keeps_the_prefix_to_from_and_between_large_objects)
{
    static const size_t sizes[] = {
        1,         16,      5000,        200 * KIB, LARGEST_SMALL, 256 * KIB + 1,
        300 * KIB, 1 * MIB, 1 * MIB + 1, 5 * MIB,   33 * MIB};
    enum { N = sizeof sizes / sizeof sizes[0] };
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < N; i++) {
            for (size_t j = 0; j < N; j++) {
                expect_prefix_kept(e, sizes[i], sizes[j]);
            }
        }
    }
}

Test(contents, realloc_to_the_usable_size_does_not_move)
{
    FOR_EACH_SET (e) {
        for (size_t size = 1; size <= 3 * MIB; size += 1 + size / 50) {
            char *p = e->malloc(size);
            size_t usable = e->usable_size(p);
            uintptr_t place = (uintptr_t)p;
            fill(p, size, 5);
            p = e->realloc(p, usable);
            cr_assert_eq((uintptr_t)p, place, "size %zu, usable %zu", size, usable);
            p = e->realloc(p, (usable + 1) / 2);
            cr_assert_eq((uintptr_t)p, place, "size %zu down to %zu", size, (usable + 1) / 2);
            cr_assert(is_filled(p, size < (usable + 1) / 2 ? size : (usable + 1) / 2, 5));
            e->free(p);
        }
    }
}

/* Pages of the process that the kernel has had to bring so far. */
static size_t pages_brought(void)
{
    struct rusage usage;
    cr_assert_eq(getrusage(RUSAGE_SELF, &usage), 0);
    return (size_t)usage.ru_minflt;
}

/* A copy would bring a page of the new place for each page of the old one. */
Test(contents, a_vector_that_grows_to_a_gibibyte_is_not_copied)
{
    enum { PAGE = 4096 };
    const size_t first = (size_t)64 << 20, last = (size_t)1 << 30;
    for (unsigned set = 0; set < ENTRY_POINT_SETS; set++) {
        const struct entry_points *e = &entry_points[set];
        char *vector = e->malloc(first);
        cr_assert_not_null(vector);
        for (size_t at = 0; at < first; at += PAGE) {
            vector[at] = 1;
        }
        size_t before = pages_brought();
        for (size_t size = 2 * first; size <= last; size *= 2) {
            void *neighbour = e->malloc(first); /* so that it cannot always grow where it is */
            vector = e->realloc(vector, size);
            cr_assert_not_null(vector);
            e->free(neighbour);
        }
        cr_assert_leq(pages_brought() - before, first / PAGE / 10, "%zu pages were brought",
                      pages_brought() - before);
        for (size_t at = 0; at < first; at += PAGE) {
            cr_assert_eq(vector[at], 1);
        }
        e->free(vector);
    }
}

Test(contents, a_large_block_grows_step_by_step_without_loss)
{
    FOR_EACH_SET (e) {
        size_t size = 1;
        char *p = e->malloc(size);
        fill(p, size, 6);
        void *obstacle = NULL;
        while (size < 64 * MIB) {
            size_t larger = size + size / 3 + 100;
            p = e->realloc(p, larger);
            cr_assert_not_null(p);
            cr_assert(is_filled(p, size, 6), "%zu -> %zu", size, larger);
            fill(p, larger, 6);
            size = larger;
            e->free(obstacle);
            obstacle = e->malloc(400 * KIB); /* sometimes right behind it */
        }
        while (size > 100) {
            size -= size / 4;
            p = e->realloc(p, size);
            cr_assert_not_null(p);
            cr_assert(is_filled(p, size, 6));
        }
        e->free(obstacle);
        e->free(p);
    }
}

Test(contents, many_large_blocks_grow_in_turn_without_loss)
{
    enum { BLOCKS = 12, ROUNDS = 12 };
    FOR_EACH_SET (e) {
        char *blocks[BLOCKS];
        size_t sizes[BLOCKS];
        for (unsigned b = 0; b < BLOCKS; b++) {
            sizes[b] = 260 * KIB + b * 4096;
            blocks[b] = e->malloc(sizes[b]);
            fill(blocks[b], sizes[b], b);
        }
        for (unsigned round = 0; round < ROUNDS; round++) {
            for (unsigned b = 0; b < BLOCKS; b++) {
                size_t next = (round + b) % 4 == 3 ? sizes[b] / 2 + 1 : sizes[b] * 3 / 2;
                size_t kept = next < sizes[b] ? next : sizes[b];
                blocks[b] = e->realloc(blocks[b], next);
                cr_assert_not_null(blocks[b]);
                cr_assert(is_filled(blocks[b], kept, b));
                fill(blocks[b], next, b);
                sizes[b] = next;
            }
        }
        for (unsigned b = 0; b < BLOCKS; b++) {
            cr_assert(is_filled(blocks[b], sizes[b], b));
            e->free(blocks[b]);
        }
    }
}

/* Without room for more, each class from 16 bytes to 64 KiB would be a copy: 80 of them. */
Test(contents, a_block_that_grows_by_little_is_seldom_copied)
{
    FOR_EACH_SET (e) {
        char *p = e->malloc(16);
        unsigned copies = 0;
        for (size_t size = 16; size < 64 * KIB; size++) {
            uintptr_t place = (uintptr_t)p;
            p = e->realloc(p, size);
            copies += (uintptr_t)p != place;
            cr_assert_leq(e->usable_size(p), size + size / 3 + 16, "%zu bytes", size);
        }
        cr_assert_leq(copies, 45);
        e->free(p);
    }
}

Test(contents, a_block_that_doubles_gets_no_more_than_that)
{
    FOR_EACH_SET (e) {
        char *p = e->malloc(16);
        for (size_t size = 32; size <= 64 * KIB; size *= 2) {
            p = e->realloc(p, size);
            cr_assert_eq(e->usable_size(p), size);
        }
        e->free(p);
    }
}

Test(contents, realloc_of_an_over_aligned_block_keeps_the_contents)
{
    FOR_EACH_SET (e) {
        for (size_t alignment = 32; alignment <= 4 * MIB; alignment *= 4) {
            static const size_t steps[] = {10, 1000, 70000, 300 << 10, 2 << 20, 500, 5 << 20};
            char *p = e->aligned_alloc(alignment, steps[0]);
            cr_assert_not_null(p);
            fill(p, steps[0], 7);
            for (size_t i = 1; i < sizeof steps / sizeof steps[0]; i++) {
                size_t kept = steps[i] < steps[i - 1] ? steps[i] : steps[i - 1];
                p = e->realloc(p, steps[i]);
                cr_assert_not_null(p);
                cr_assert_geq(e->usable_size(p), steps[i], "alignment %zu, step %zu", alignment, i);
                cr_assert(is_filled(p, kept, 7), "alignment %zu, step %zu", alignment, i);
                fill(p, steps[i], 7);
            }
            e->free(p);
        }
    }
}

Test(contents, realloc_of_a_small_block_with_a_huge_alignment_is_large_enough)
{
    static const size_t from[] = {1, 100, 5000, 70000};
    static const size_t to[] = {10, 3000, 46614, 200 * KIB, LARGEST_SMALL, 300 * KIB};
    FOR_EACH_SET (e) {
        for (size_t alignment = 4 * KIB; alignment <= 4 * MIB; alignment *= 4) {
            for (size_t i = 0; i < sizeof from / sizeof from[0]; i++) {
                for (size_t j = 0; j < sizeof to / sizeof to[0]; j++) {
                    char *p = e->aligned_alloc(alignment, from[i]);
                    cr_assert_not_null(p);
                    fill(p, from[i], 9);
                    p = e->realloc(p, to[j]);
                    cr_assert_not_null(p);
                    cr_assert_geq(e->usable_size(p), to[j], "alignment %zu: %zu -> %zu", alignment,
                                  from[i], to[j]);
                    cr_assert(is_filled(p, from[i] < to[j] ? from[i] : to[j], 9));
                    e->free(p);
                }
            }
        }
    }
}

Test(contents, reallocarray_keeps_the_prefix)
{
    FOR_EACH_SET (e) {
        char *p = e->reallocarray(NULL, 10, 10);
        fill(p, 100, 8);
        p = e->reallocarray(p, 1000, 1000);
        cr_assert_not_null(p);
        cr_assert(is_filled(p, 100, 8));
        p = e->reallocarray(p, 5, 10);
        cr_assert(is_filled(p, 50, 8));
        e->free(p);
    }
}
