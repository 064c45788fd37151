/* SPDX-License-Identifier: MIT */
/*
 * errno_matrix_test.c: errno after every function, for blocks of every function and four sizes.
 * Goal: success and every form of free leave errno alone. Method: an errno no call sets, loops over
 * the tables of entry_points.h and release.h. Registered twice: with the heap's reservation, and
 * with one so small that large blocks are mappings of their own.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "release.h"

TestSuite(errno_matrix, .timeout = 120);

static void expect_unchanged(const char *what, unsigned which, size_t size)
{
    cr_assert_eq(errno, STALE_ERRNO, "%s of a block of %s(%zu): errno %d", what,
                 allocator_name(which), size, errno);
}

static void expect_all_leave_it_alone(const struct entry_points *e, unsigned which, size_t size)
{
    for (unsigned how = 0; how < RELEASES; how++) {
        if (!release_fits(how, which)) {
            continue;
        }
        errno = STALE_ERRNO;
        void *p = allocate(e, which, size);
        cr_assert_not_null(p);
        expect_unchanged("allocation", which, size);
        (void)e->usable_size(p);
        expect_unchanged("usable size", which, size);
        release(e, how, p, size);
        expect_unchanged(release_names[how], which, size);
    }
}

Test(errno_matrix, allocation_and_release_leave_it_alone)
{
    FOR_EACH_SET (e) {
        for (unsigned which = 0; which < ALLOCATORS; which++) {
            for (size_t i = 0; i < FOUR_SIZES; i++) {
                expect_all_leave_it_alone(e, which, four_sizes[i]);
            }
        }
    }
}

static void expect_resizing_leaves_it_alone(const struct entry_points *e, unsigned which,
                                            size_t from, size_t to)
{
    void *p = allocate(e, which, from);
    cr_assert_not_null(p);
    errno = STALE_ERRNO;
    p = e->realloc(p, to);
    cr_assert_not_null(p);
    expect_unchanged("realloc", which, from);
    p = e->reallocarray(p, from / 16, 16);
    cr_assert_not_null(p);
    expect_unchanged("reallocarray", which, from);
    e->free(p);
    expect_unchanged("free", which, from);
}

Test(errno_matrix, resizing_leaves_it_alone)
{
    FOR_EACH_SET (e) {
        for (unsigned which = 0; which < ALLOCATORS; which++) {
            for (size_t from = 0; from < FOUR_SIZES; from++) {
                for (size_t to = 0; to < FOUR_SIZES; to++) {
                    expect_resizing_leaves_it_alone(e, which, four_sizes[from], four_sizes[to]);
                }
            }
        }
    }
}

/* Releases the blocks of every function beside trims that the kernel refuses, at least at first: locked pages. */
Test(errno_matrix, releasing_and_trimming_locked_pages_leaves_it_alone)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < FOUR_SIZES; i++) {
            for (unsigned how = 0; how < RELEASES; how++) {
                unsigned which = how == RELEASE_ALIGNED_SIZED ? 4 : 0;
                size_t locked = four_sizes[i] < 65536 ? four_sizes[i] : 65536;
                void *p = allocate(e, which, four_sizes[i]);
                cr_assert_not_null(p);
                if (mlock(p, locked) != 0) {
                    cr_skip_test("this process may not lock memory");
                }
                errno = STALE_ERRNO;
                release(e, how, p, four_sizes[i]);
                ap_thread_idle();
                (void)e->malloc_trim(0);
                (void)ap_trim();
                expect_unchanged(release_names[how], which, four_sizes[i]);
                (void)munlock(p, locked);
            }
        }
    }
}

/* --- no more mappings: nothing can be unmapped or cut, either --- */

/* Splits a mapping of ours into single pages until the kernel has no more mappings to give. */
static void *exhaust_mappings(size_t *size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    *size = (size_t)300000 * page;
    char *p = mmap(NULL, *size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    cr_assert_neq((void *)p, MAP_FAILED);
    for (size_t at = page; at < *size; at += 2 * page) {
        if (mprotect(p + at, page, PROT_READ) != 0) {
            return p;
        }
    }
    (void)munmap(p, *size);
    return NULL;
}

enum { KINDS = ALLOCATORS * FOUR_SIZES };

static void allocate_all(const struct entry_points *e, void *blocks[KINDS])
{
    for (unsigned k = 0; k < KINDS; k++) {
        blocks[k] = allocate(e, k / FOUR_SIZES, four_sizes[k % FOUR_SIZES]);
        cr_assert_not_null(blocks[k]);
        mark(blocks[k], four_sizes[k % FOUR_SIZES], k);
    }
}

static void release_all(const struct entry_points *e, void *blocks[KINDS], unsigned first_way)
{
    for (unsigned k = 0; k < KINDS; k++) {
        unsigned which = k / FOUR_SIZES, how = (first_way + k) % RELEASES;
        size_t size = four_sizes[k % FOUR_SIZES];
        how = release_fits(how, which) ? how : 0;
        cr_assert(is_marked(blocks[k], size, size, k));
        errno = STALE_ERRNO;
        release(e, how, blocks[k], size);
        expect_unchanged(release_names[how], which, size);
    }
}

Test(errno_matrix, releasing_with_all_mappings_in_use_leaves_it_alone)
{
    FOR_EACH_SET (e) {
        void *blocks[KINDS];
        size_t size;
        allocate_all(e, blocks);
        void *splinters = exhaust_mappings(&size);
        if (splinters == NULL) {
            cr_skip_test("this machine does not limit the number of mappings");
        }
        release_all(e, blocks, e == entry_points ? 0 : 3);
        (void)e->malloc_trim(0);
        cr_assert_eq(errno, STALE_ERRNO);
        (void)munmap(splinters, size);
        allocate_all(e, blocks); /* what could not be given back is there to be used */
        release_all(e, blocks, 1);
    }
}
