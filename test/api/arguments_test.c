/* SPDX-License-Identifier: MIT */
/*
 * arguments_test.c: every argument a caller may pass, sensible or not.
 * Goal: what C, POSIX and glibc document for sizes, counts and alignments at and beyond their
 * limits. Method: each contract over both sets of names; failures are tried right after a small
 * malloc and free, when the thread cache has something to offer.
 */
#include "entry_points.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <malloc.h>
#include <string.h>
#include <unistd.h>

TestSuite(arguments, .timeout = 120);

#define GIB ((size_t)1 << 30)

/* Puts a small block into the thread cache. */
static void warm_up(const struct entry_points *e)
{
    e->free(opaque(e->malloc(16)));
}

static void expect_enomem(const struct entry_points *e, const char *what, size_t size,
                          const void *result)
{
    cr_assert_null(result, "%s %s(%#zx) did not fail", e->set, what, size);
    cr_assert_eq(errno, ENOMEM, "%s %s(%#zx): errno %d", e->set, what, size, errno);
}

/* Every function that takes a size refuses this one, and what it was given stays a block. */
static void expect_too_large(const struct entry_points *e, size_t size)
{
    for (unsigned which = 0; which < ALLOCATORS; which++) {
        warm_up(e);
        errno = 0;
        expect_enomem(e, allocator_name(which), size, allocate(e, which, size));
    }
    char *p = e->malloc(16);
    cr_assert_not_null(p);
    memcpy(p, "0123456789abcde", 16);
    errno = 0;
    expect_enomem(e, "realloc", size, e->realloc(p, size));
    errno = 0;
    expect_enomem(e, "reallocarray", size, e->reallocarray(p, size, 1));
    cr_assert_str_eq(p, "0123456789abcde");
    e->free(p);
}

/* --- size 0 --- */

Test(arguments, size_0_yields_distinct_blocks_that_can_be_freed)
{
    enum { EACH = 20 };
    FOR_EACH_SET (e) {
        void *blocks[(ALLOCATORS + 1) * EACH];
        unsigned n = 0;
        for (unsigned i = 0; i < EACH; i++) {
            for (unsigned which = 0; which < ALLOCATORS; which++) {
                errno = STALE_ERRNO;
                blocks[n] = allocate(e, which, 0);
                cr_assert_not_null(blocks[n], "%s %s(0)", e->set, allocator_name(which));
                cr_assert_eq(errno, STALE_ERRNO);
                n++;
            }
            blocks[n] = e->calloc(0, 100);
            cr_assert_not_null(blocks[n]);
            n++;
        }
        for (unsigned i = 0; i < n; i++) {
            cr_assert_eq((uintptr_t)blocks[i] % 16, 0);
            for (unsigned j = 0; j < i; j++) {
                cr_assert_neq(blocks[i], blocks[j]);
            }
        }
        for (unsigned i = 0; i < n; i++) {
            e->free(blocks[i]);
        }
    }
}

Test(arguments, size_0_blocks_are_writable_as_far_as_their_usable_size)
{
    FOR_EACH_SET (e) {
        void *a = e->malloc(0), *b = e->malloc(0);
        size_t n = e->usable_size(a);
        fill(b, e->usable_size(b), 2);
        fill(a, n, 1);
        cr_assert(is_filled(b, e->usable_size(b), 2));
        cr_assert(is_filled(a, n, 1));
        e->free(a);
        e->free(b);
    }
}

/* --- sizes that cannot be had --- */

Test(arguments, sizes_above_ptrdiff_max_fail_with_enomem)
{
    FOR_EACH_SET (e) {
        const size_t sizes[] = {SIZE_MAX,
                                (size_t)-8,
                                (size_t)-2,
                                (size_t) - (512 << 10),
                                (size_t)PTRDIFF_MAX + 1,
                                SIZE_MAX / 2 + 1,
                                SIZE_MAX / 2 + 4096};
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            expect_too_large(e, sizes[i]);
        }
    }
}

Test(arguments, the_16_kib_below_size_max_and_above_ptrdiff_max_fail)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < (1 << 14); i += 1 + i / 64) {
            expect_too_large(e, SIZE_MAX - i);
            expect_too_large(e, (size_t)PTRDIFF_MAX + 1 + i);
        }
        for (size_t i = 0; i <= (1 << 14); i++) {
            warm_up(e);
            expect_enomem(e, "malloc", SIZE_MAX - i, e->malloc(SIZE_MAX - i));
            size_t above = (size_t)PTRDIFF_MAX + 1 + i;
            expect_enomem(e, "malloc", above, e->malloc(above));
        }
    }
}

Test(arguments, every_multiple_of_2_to_the_50_fails)
{
    FOR_EACH_SET (e) {
        for (size_t k = 1; k < (1 << 14); k++) {
            warm_up(e);
            errno = 0;
            expect_enomem(e, "malloc", k << 50, e->malloc(k << 50));
            size_t just_below = k << 50 | (((size_t)1 << 50) - 1);
            errno = 0;
            expect_enomem(e, "malloc", just_below, e->malloc(just_below));
            if (k % 61 == 0) {
                expect_too_large(e, k << 50);
                expect_too_large(e, just_below);
            }
        }
    }
}

Test(arguments, products_that_overflow_fail_with_enomem)
{
    static const size_t pairs[][2] = {
        {SIZE_MAX, 2},
        {2, SIZE_MAX},
        {((size_t)1 << 32) + 1, (size_t)1 << 32},
        {(size_t)PTRDIFF_MAX / 2 + 1, 2},
        {(size_t)1 << 32, (size_t)1 << 32}, /* wraps to exactly 0 */
        {(size_t)1 << 63, 2},
        {SIZE_MAX / 16 + 1, 16},
        {SIZE_MAX, SIZE_MAX}, /* wraps to 1 */
    };
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
            size_t count = pairs[i][0], size = pairs[i][1];
            warm_up(e);
            errno = 0;
            expect_enomem(e, "calloc", count, e->calloc(count, size));
            errno = 0;
            expect_enomem(e, "reallocarray", count, e->reallocarray(NULL, count, size));
            char *p = e->malloc(40);
            fill(p, 40, 1);
            errno = 0;
            expect_enomem(e, "reallocarray", count, e->reallocarray(p, count, size));
            cr_assert(is_filled(p, 40, 1), "a failing reallocarray touched its block");
            e->free(p);
        }
    }
}

Test(arguments, good_size_of_an_impossible_size_is_0)
{
    cr_assert_eq(ap_good_size(SIZE_MAX), 0);
    cr_assert_eq(ap_good_size((size_t)PTRDIFF_MAX + 1), 0);
}

/* --- realloc --- */

Test(arguments, a_failed_realloc_leaves_the_block)
{
    static const size_t sizes[] = {16, 100, 4096, 200 << 10, 300 << 10, 2 << 20};
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            void *p = e->malloc(sizes[i]);
            cr_assert_not_null(p);
            fill(p, sizes[i], 3);
            errno = 0;
            expect_enomem(e, "realloc", (size_t)-1, e->realloc(p, (size_t)-1));
            errno = 0;
            expect_enomem(e, "realloc", (size_t)-256, e->realloc(p, (size_t)-256));
            errno = 0;
            expect_enomem(e, "realloc", (size_t)1 << 50, e->realloc(p, (size_t)1 << 50));
            cr_assert(is_filled(p, sizes[i], 3));
            cr_assert_geq(e->usable_size(p), sizes[i]);
            e->free(p);
        }
    }
}

Test(arguments, realloc_to_0_frees_and_returns_null)
{
    static const size_t sizes[] = {0, 16, 4096, 256 << 10, 1 << 20};
    FOR_EACH_SET (e) {
        e->free(e->malloc(1));
        size_t before = ap_mallinfo2().uordblks;
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            void *p = e->malloc(sizes[i]);
            cr_assert_not_null(p);
            errno = STALE_ERRNO;
            cr_assert_null(e->realloc(p, 0));
            cr_assert_eq(errno, STALE_ERRNO);
            p = e->malloc(sizes[i]);
            cr_assert_null(e->reallocarray(p, 0, 8));
            p = e->malloc(sizes[i]);
            cr_assert_null(e->reallocarray(p, 8, 0));
            cr_assert_eq(errno, STALE_ERRNO);
        }
        cr_assert_eq(ap_mallinfo2().uordblks, before);
    }
}

Test(arguments, realloc_of_null_allocates)
{
    FOR_EACH_SET (e) {
        void *p = e->realloc(NULL, 1000);
        cr_assert_not_null(p);
        cr_assert_geq(e->usable_size(p), 1000);
        e->free(p);
        p = e->reallocarray(NULL, 10, 100);
        cr_assert_geq(e->usable_size(p), 1000);
        e->free(p);
    }
}

/* --- alignments --- */

Test(arguments, aligned_alloc_refuses_what_is_no_power_of_two)
{
    static const size_t wrong[] = {0, 3, 65, 24, 0x300, 4097, SIZE_MAX};
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
            errno = 0;
            cr_assert_null(e->aligned_alloc(wrong[i], 64), "alignment %zu", wrong[i]);
            cr_assert_eq(errno, EINVAL, "alignment %zu: errno %d", wrong[i], errno);
        }
    }
}

Test(arguments, aligned_alloc_accepts_small_alignments_and_sizes_that_are_no_multiple)
{
    FOR_EACH_SET (e) {
        for (size_t alignment = 1; alignment <= 64; alignment *= 2) {
            void *p = e->aligned_alloc(alignment, 65);
            cr_assert_not_null(p);
            cr_assert_eq((uintptr_t)p % (alignment < 16 ? 16 : alignment), 0);
            cr_assert_geq(e->usable_size(p), 65);
            e->free(p);
        }
    }
}

Test(arguments, aligned_alloc_of_an_impossible_alignment_and_size_fails)
{
    FOR_EACH_SET (e) {
        errno = 0;
        expect_enomem(e, "aligned_alloc", 64, e->aligned_alloc(SIZE_MAX / 2 + 1, 64));
        errno = 0;
        expect_enomem(e, "aligned_alloc", 64, e->aligned_alloc(SIZE_MAX / 2 + 1, SIZE_MAX / 2 + 1));
        errno = 0;
        expect_enomem(e, "memalign", SIZE_MAX, e->memalign(SIZE_MAX / 2 + 1, SIZE_MAX));
    }
}

Test(arguments, posix_memalign_returns_einval_and_leaves_the_result_alone)
{
    static const size_t wrong[] = {0, 1, 2, 4, 24, 0x300, (size_t)-1, 12, 4095};
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
            void *p = &p;
            errno = STALE_ERRNO;
            cr_assert_eq(e->posix_memalign(&p, wrong[i], 64), EINVAL, "alignment %zu", wrong[i]);
            cr_assert_eq(p, (void *)&p);
        }
    }
}

Test(arguments, posix_memalign_returns_enomem_sets_errno_and_leaves_the_result_alone)
{
    static const size_t sizes[] = {SIZE_MAX, (size_t)-8, (size_t)PTRDIFF_MAX + 1, (size_t)1 << 50};
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            void *p = &p;
            errno = 0;
            cr_assert_eq(e->posix_memalign(&p, 64, sizes[i]), ENOMEM);
            cr_assert_eq(p, (void *)&p);
            cr_assert_eq(errno, ENOMEM);
        }
    }
}

Test(arguments, memalign_rounds_other_alignments_up_to_a_power_of_two)
{
    static const size_t given[] = {0, 1, 3, 17, 24, 100, 0x300, 5000, 70000};
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
            size_t rounded = 16;
            while (rounded < given[i]) {
                rounded *= 2;
            }
            void *p = e->memalign(given[i], 100);
            cr_assert_not_null(p, "alignment %zu", given[i]);
            cr_assert_eq((uintptr_t)p % rounded, 0, "alignment %zu", given[i]);
            e->free(p);
        }
    }
}

Test(arguments, memalign_of_extreme_arguments_fails_as_documented)
{
    FOR_EACH_SET (e) {
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        errno = 0;
        cr_assert_null(e->memalign((size_t)-1, page));
        cr_assert_eq(errno, EINVAL);
        errno = 0;
        cr_assert_null(e->memalign(SIZE_MAX / 2 + 2, 1));
        cr_assert_eq(errno, EINVAL);
        errno = 0;
        expect_enomem(e, "memalign", (size_t)-page, e->memalign(page, (size_t)-page));
        errno = 0;
        expect_enomem(e, "memalign", (size_t)-1, e->memalign(8, (size_t)-1));
    }
}

Test(arguments, huge_alignments_are_kept_or_fail_with_enomem)
{
    static const unsigned shifts[] = {12, 13, 16, 17, 20, 21, 24, 30, 32, 36, 40, 46, 62, 63};
    static const size_t sizes[] = {0, 1, 100, 5000, 70000, 300 << 10, 3 << 20};
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < sizeof shifts / sizeof shifts[0]; i++) {
            for (size_t j = 0; j < sizeof sizes / sizeof sizes[0]; j++) {
                size_t alignment = (size_t)1 << shifts[i];
                errno = 0;
                char *p = e->memalign(alignment, sizes[j]);
                if (p == NULL) {
                    cr_assert_eq(errno, ENOMEM, "2^%u: errno %d", shifts[i], errno);
                    cr_assert_gt(shifts[i], 24, "2^%u for %zu bytes", shifts[i], sizes[j]);
                    continue;
                }
                cr_assert_eq((uintptr_t)p % alignment, 0);
                cr_assert_geq(e->usable_size(p), sizes[j]);
                fill(p, sizes[j], 4);
                cr_assert(is_filled(p, sizes[j], 4));
                e->free(p);
            }
        }
    }
}

Test(arguments, a_freed_huge_alignment_can_be_had_again_and_again)
{
    FOR_EACH_SET (e) {
        void *first = e->memalign(GIB, 100);
        if (first == NULL) {
            continue; /* little address space */
        }
        e->free(first);
        for (int i = 0; i < 5000; i++) {
            void *p = e->memalign(GIB, 100);
            cr_assert_not_null(p, "round %d", i);
            e->free(p);
        }
    }
}

Test(arguments, valloc_and_pvalloc_of_impossible_sizes_fail)
{
    FOR_EACH_SET (e) {
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        const size_t sizes[] = {(size_t)-1, (size_t)-page, (size_t)-page + 1,
                                (size_t)PTRDIFF_MAX - 1, (size_t)PTRDIFF_MAX + 1};
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            errno = 0;
            expect_enomem(e, "valloc", sizes[i], e->valloc(sizes[i]));
            errno = 0;
            expect_enomem(e, "pvalloc", sizes[i], e->pvalloc(sizes[i]));
        }
    }
}

Test(arguments, valloc_is_page_aligned_and_pvalloc_whole_pages)
{
    FOR_EACH_SET (e) {
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        for (size_t size = 0; size <= 3 * page; size += 5) {
            void *v = e->valloc(size), *p = e->pvalloc(size);
            cr_assert_not_null(v);
            cr_assert_not_null(p);
            cr_assert_eq((uintptr_t)v % page, 0);
            cr_assert_eq((uintptr_t)p % page, 0);
            cr_assert_geq(e->usable_size(v), size);
            size_t whole = size == 0 ? page : (size + page - 1) / page * page;
            cr_assert_geq(e->usable_size(p), whole);
            e->free(v);
            e->free(p);
        }
    }
}

/* --- NULL --- */

Test(arguments, null_is_nothing_to_free_and_has_no_usable_bytes)
{
    FOR_EACH_SET (e) {
        errno = STALE_ERRNO;
        e->free(NULL);
        e->cfree(NULL);
        e->free_sized(NULL, 0);
        e->free_sized(NULL, 100);
        e->free_aligned_sized(NULL, 0, 0);
        e->free_aligned_sized(NULL, 64, 64);
        cr_assert_eq(e->usable_size(NULL), 0);
        cr_assert_eq(errno, STALE_ERRNO);
    }
}

Test(arguments, every_form_of_free_frees)
{
    FOR_EACH_SET (e) {
        e->free(e->malloc(100));
        size_t before = ap_mallinfo2().uordblks;
        for (size_t size = 1; size <= 400000; size = size * 3 / 2 + 7) {
            e->cfree(e->malloc(size));
            e->free_sized(e->malloc(size), size);
            e->free_sized(e->calloc(1, size), size);
            e->free_sized(e->realloc(e->malloc(10), size), size);
            e->free_aligned_sized(e->aligned_alloc(64, size), 64, size);
            e->free_aligned_sized(e->aligned_alloc(8192, size), 8192, size);
            ap_free(e->malloc(size));
            entry_points[0].free(e->malloc(size));
        }
        cr_assert_eq(ap_mallinfo2().uordblks, before);
    }
}

/* --- mallopt --- */

Test(arguments, mallopt_knows_glibcs_parameters_and_no_others)
{
    static const int known[] = {M_MXFAST,         M_TRIM_THRESHOLD, M_TOP_PAD,
                                M_MMAP_THRESHOLD, M_MMAP_MAX,       M_CHECK_ACTION,
                                M_PERTURB,        M_ARENA_TEST,     M_ARENA_MAX};
    static const int unknown[] = {12345, -12345, 100, INT32_MAX, INT32_MIN};
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
            cr_assert_eq(e->mallopt(known[i], 64), 1, "parameter %d", known[i]);
        }
        for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
            errno = STALE_ERRNO;
            cr_assert_eq(e->mallopt(unknown[i], 1), 0, "parameter %d", unknown[i]);
            cr_assert_eq(errno, STALE_ERRNO);
        }
        e->free(e->malloc(100));
    }
}

Test(arguments, version_is_that_of_the_header)
{
    char expected[32];
    (void)snprintf(expected, sizeof expected, "%d.%d.%d", AP_VERSION_MAJOR, AP_VERSION_MINOR,
                   AP_VERSION_PATCH);
    cr_assert_str_eq(ap_version(), expected);
}
