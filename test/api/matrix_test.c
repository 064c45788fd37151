/* SPDX-License-Identifier: MIT */
/*
 * matrix_test.c: every allocating function, times four sizes, times what can be done with a block.
 * Goal: a contract that holds for a block of malloc holds for a block of any function, small or
 * large. Method: loops over the tables of entry_points.h and the sizes of release.h. Registered
 * twice: with the heap's reservation, and with one so small that large blocks lie outside of it.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "release.h"

TestSuite(matrix, .timeout = 120);

#define MIB ((size_t)1 << 20)

#define FOR_EACH_BLOCK_KIND(e, which, i)                                                           \
    FOR_EACH_SET (e)                                                                               \
        for (unsigned which = 0; which < ALLOCATORS; which++)                                      \
            for (size_t i = 0; i < FOUR_SIZES; i++)

static void *allocate_or_fail(const struct entry_points *e, unsigned which, size_t size)
{
    void *p = allocate(e, which, size);
    cr_assert_not_null(p, "%s %s(%zu)", e->set, allocator_name(which), size);
    return p;
}

/* --- size and place --- */

static size_t promised_alignment(unsigned which)
{
    const char *name = allocator_name(which);
    bool pages = strstr(name, "valloc") != NULL;
    return pages ? (size_t)sysconf(_SC_PAGESIZE) : strstr(name, "align") != NULL ? 64 : 16;
}

static void expect_three_good_blocks(const struct entry_points *e, unsigned which, size_t size)
{
    void *blocks[3];
    size_t usable[3];
    for (unsigned b = 0; b < 3; b++) {
        blocks[b] = allocate_or_fail(e, which, size);
        usable[b] = e->usable_size(blocks[b]);
        cr_assert_geq(usable[b], size, "%s %s(%zu)", e->set, allocator_name(which), size);
        cr_assert_eq((uintptr_t)blocks[b] % promised_alignment(which), 0, "%s %s(%zu)", e->set,
                     allocator_name(which), size);
        mark(blocks[b], usable[b], b);
    }
    for (unsigned b = 0; b < 3; b++) {
        cr_assert(is_marked(blocks[b], usable[b], usable[b], b), "%s %s(%zu)", e->set,
                  allocator_name(which), size);
        cr_assert_eq(e->usable_size(blocks[b]), usable[b]);
        e->free(blocks[b]);
    }
}

Test(matrix, blocks_are_aligned_large_enough_and_their_own)
{
    FOR_EACH_BLOCK_KIND(e, which, i)
    {
        expect_three_good_blocks(e, which, four_sizes[i]);
    }
}

/* --- zeroes --- */

/* What the heap knows to be zero or not, it knows of 64 KiB at once; each page costs a page fault. */
enum { DIRTY_STEP = 32 << 10, DIRTY_BYTES = 16 };

static void make_dirty(void *p, size_t size)
{
    for (size_t at = 0; at < size; at += DIRTY_STEP) {
        memset((char *)p + at, 0xFF, DIRTY_BYTES);
    }
}

static bool is_clean(const void *p, size_t size)
{
    for (size_t at = 0; at < size; at += DIRTY_STEP) {
        if (!is_zero((const char *)p + at, DIRTY_BYTES)) {
            return false;
        }
    }
    return true;
}

static void expect_zero_after(const struct entry_points *e, unsigned which, size_t size)
{
    const size_t counts[] = {1, 8, size};
    size_t count = counts[which % 3];
    void *dirty = allocate_or_fail(e, which, size);
    make_dirty(dirty, size);
    e->free(dirty);
    void *p = e->calloc(count, size / count);
    cr_assert_not_null(p);
    cr_assert(which == 0 ? is_zero(p, size) : is_clean(p, size), "calloc(%zu, %zu) after %s", count,
              size / count, allocator_name(which));
    e->free(p);
}

Test(matrix, calloc_is_zero_where_a_dirty_block_of_any_function_was)
{
    FOR_EACH_BLOCK_KIND(e, which, i)
    {
        expect_zero_after(e, which, four_sizes[i]);
    }
}

/* --- realloc --- */

static void expect_resized(const struct entry_points *e, unsigned which, size_t from, size_t to,
                           bool as_array)
{
    size_t kept = from < to ? from : to;
    void *p = allocate_or_fail(e, which, from);
    mark(p, from, which);
    p = as_array ? e->reallocarray(p, to / 16, 16) : e->realloc(p, to);
    cr_assert_not_null(p, "%s(%zu) to %zu", allocator_name(which), from, to);
    cr_assert_geq(e->usable_size(p), to);
    cr_assert(is_marked(p, kept, from, which), "%s(%zu) to %zu", allocator_name(which), from, to);
    mark(p, to, which + 1);
    cr_assert(is_marked(p, to, to, which + 1));
    e->free(p);
}

Test(matrix, realloc_and_reallocarray_keep_the_contents)
{
    FOR_EACH_BLOCK_KIND(e, which, from)
    {
        for (size_t to = 0; to < FOUR_SIZES; to++) {
            expect_resized(e, which, four_sizes[from], four_sizes[to], false);
            expect_resized(e, which, four_sizes[from], four_sizes[to], true);
        }
    }
}

static void expect_refused(const struct entry_points *e, void *p, size_t count, size_t size)
{
    errno = STALE_ERRNO;
    cr_assert_null(e->reallocarray(p, count, size), "%#zx times %#zx", count, size);
    cr_assert_eq(errno, ENOMEM, "%#zx times %#zx: errno %d", count, size, errno);
}

Test(matrix, a_failed_realloc_or_reallocarray_leaves_the_block)
{
    static const size_t impossible[] = {(size_t)-1, (size_t)-256, (size_t)PTRDIFF_MAX + 1,
                                        (size_t)1 << 50};
    FOR_EACH_BLOCK_KIND(e, which, i)
    {
        size_t size = four_sizes[i];
        void *p = allocate_or_fail(e, which, size);
        size_t usable = e->usable_size(p);
        mark(p, size, 3);
        for (size_t w = 0; w < sizeof impossible / sizeof impossible[0]; w++) {
            errno = STALE_ERRNO;
            cr_assert_null(e->realloc(p, impossible[w]));
            cr_assert_eq(errno, ENOMEM);
            expect_refused(e, p, impossible[w], 1);
        }
        expect_refused(e, p, (size_t)1 << 32, (size_t)1 << 32); /* wraps to 0: no free */
        expect_refused(e, p, SIZE_MAX / 2 + 1, 2);              /* the same */
        expect_refused(e, p, SIZE_MAX, SIZE_MAX);               /* wraps to 1 */
        cr_assert_eq(e->usable_size(p), usable);
        cr_assert(is_marked(p, size, size, 3), "%s(%zu)", allocator_name(which), size);
        e->free(p);
    }
}

Test(matrix, realloc_to_the_usable_size_or_half_of_it_stays)
{
    FOR_EACH_BLOCK_KIND(e, which, i)
    {
        void *p = allocate_or_fail(e, which, four_sizes[i]);
        uintptr_t place = (uintptr_t)p;
        size_t usable = e->usable_size(p);
        mark(p, usable, 4);
        p = e->realloc(p, usable);
        cr_assert_eq((uintptr_t)p, place, "%s(%zu) to %zu", allocator_name(which), four_sizes[i],
                     usable);
        p = e->reallocarray(p, usable / 2, 1);
        cr_assert_eq((uintptr_t)p, place, "%s(%zu) to %zu", allocator_name(which), four_sizes[i],
                     usable / 2);
        cr_assert(is_marked(p, usable / 2, usable, 4));
        e->free(p);
    }
}

/* --- giving back --- */

Test(matrix, every_release_frees_the_block_of_every_function)
{
    FOR_EACH_SET (e) {
        e->free(e->malloc(1));
        for (unsigned which = 0; which < ALLOCATORS; which++) {
            size_t before = ap_mallinfo2().uordblks;
            for (size_t i = 0; i < FOUR_SIZES; i++) {
                for (unsigned how = 0; how < RELEASES; how++) {
                    if (release_fits(how, which)) {
                        release(e, how, allocate_or_fail(e, which, four_sizes[i]), four_sizes[i]);
                    }
                }
            }
            cr_assert_eq(ap_mallinfo2().uordblks, before, "%s", allocator_name(which));
        }
    }
}

/* --- impossible requests --- */

static void expect_error(const void *result, int error, const char *what, size_t size)
{
    cr_assert_null(result, "%s, size %zu", what, size);
    cr_assert_eq(errno, error, "%s, size %zu: errno %d", what, size, errno);
    errno = STALE_ERRNO;
}

Test(matrix, wrong_alignments_are_refused_for_every_size)
{
    static const size_t wrong[] = {0, 3, 24, 65, 0x300, SIZE_MAX};
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < FOUR_SIZES; i++) {
            size_t size = four_sizes[i];
            errno = STALE_ERRNO;
            for (size_t w = 0; w < sizeof wrong / sizeof wrong[0]; w++) {
                void *unchanged = &unchanged;
                cr_assert_eq(e->posix_memalign(&unchanged, wrong[w], size), EINVAL);
                cr_assert_eq(unchanged, (void *)&unchanged);
                expect_error(e->aligned_alloc(wrong[w], size), EINVAL, "aligned_alloc", size);
            }
            expect_error(e->memalign(SIZE_MAX, size), EINVAL, "memalign", size);
            expect_error(e->memalign(SIZE_MAX / 2 + 2, size), EINVAL, "memalign", size);
            expect_error(e->aligned_alloc(SIZE_MAX / 2 + 1, size), ENOMEM, "aligned_alloc", size);
            expect_error(e->memalign(SIZE_MAX / 2 + 1, size), ENOMEM, "memalign", size);
        }
    }
}

/* Products that overflow in calloc and reallocarray, with something in the cache to hand out. */
Test(matrix, products_that_overflow_are_refused_right_after_a_free)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < FOUR_SIZES; i++) {
            size_t size = four_sizes[i], count = SIZE_MAX / size + 1; /* the product is 0 */
            e->free(e->malloc(size));
            errno = STALE_ERRNO;
            expect_error(e->calloc(count, size), ENOMEM, "calloc", size);
            expect_error(e->calloc(size, count), ENOMEM, "calloc", size);
            expect_error(e->calloc(count + 1, size), ENOMEM, "calloc", size);
            expect_error(e->reallocarray(NULL, count, size), ENOMEM, "reallocarray", size);
            expect_error(e->reallocarray(NULL, size, count + 1), ENOMEM, "reallocarray", size);
        }
    }
}

/* --- alignments --- */

static void expect_aligned(const struct entry_points *e, void *p, size_t alignment, size_t size)
{
    cr_assert_not_null(p, "alignment %zu, size %zu", alignment, size);
    cr_assert_eq((uintptr_t)p % alignment, 0, "alignment %zu, size %zu", alignment, size);
    cr_assert_geq(e->usable_size(p), size, "alignment %zu, size %zu", alignment, size);
    mark(p, size, 5);
    cr_assert(is_marked(p, size, size, 5));
    e->free_aligned_sized(p, alignment, size);
}

Test(matrix, alignments_to_2_mib_are_kept_for_every_size)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < FOUR_SIZES; i++) {
            for (size_t alignment = 8; alignment <= 2 * MIB; alignment *= 2) {
                size_t size = four_sizes[i] + 1; /* no multiple of anything */
                void *p = NULL;
                cr_assert_eq(e->posix_memalign(&p, alignment, size), 0);
                expect_aligned(e, p, alignment, size);
                expect_aligned(e, e->aligned_alloc(alignment, size), alignment, size);
                expect_aligned(e, e->memalign(alignment, size), alignment, size);
                expect_aligned(e, e->memalign(alignment - 1, size), alignment, size);
            }
        }
    }
}

static size_t address_space_bytes(void)
{
    size_t pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    cr_assert_not_null(statm);
    cr_assert_eq(fscanf(statm, "%zu", &pages), 1);
    (void)fclose(statm);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

Test(matrix, what_a_huge_alignment_skips_is_not_kept)
{
    enum { BLOCKS = 20 };
    FOR_EACH_SET (e) {
        void *blocks[BLOCKS];
        e->free(e->memalign(1024 * MIB, 16));
        size_t before = address_space_bytes();
        for (unsigned b = 0; b < BLOCKS; b++) {
            blocks[b] = e->memalign(1024 * MIB, 16);
            cr_assert_not_null(blocks[b]);
            cr_assert_eq((uintptr_t)blocks[b] % (1024 * MIB), 0);
        }
        size_t more = address_space_bytes() - before;
        cr_assert_leq(more, 512 * MIB, "%zu bytes of addresses for %d small blocks", more, BLOCKS);
        for (unsigned b = 0; b < BLOCKS; b++) {
            e->free(blocks[b]);
        }
    }
}
