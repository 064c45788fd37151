/* SPDX-License-Identifier: MIT */
/*
 * errno_test.c: what the calls do to errno.
 * Goal: success and every form of free leave it alone, also when the kernel refuses something on
 * the way; every NULL comes with ENOMEM or EINVAL. Method: an errno no call sets; mappings are
 * exhausted and pages locked, so that munmap and madvise really fail.
 */
#include "entry_points.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

TestSuite(errno_, .timeout = 120);

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static const size_t sizes[] = {0,         1,         16,        100,     4 * KIB, 30 * KIB,
                               100 * KIB, 256 * KIB, 300 * KIB, 1 * MIB, 64 * MIB};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

Test(errno_, free_leaves_it_alone)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            void *blocks[5];
            for (int b = 0; b < 5; b++) {
                blocks[b] = b == 4 ? e->aligned_alloc(64, sizes[i]) : e->malloc(sizes[i]);
                cr_assert_not_null(blocks[b]);
            }
            errno = STALE_ERRNO;
            e->free(blocks[0]);
            e->cfree(blocks[1]);
            e->free_sized(blocks[2], sizes[i]);
            cr_assert_null(e->realloc(blocks[3], 0));
            e->free_aligned_sized(blocks[4], 64, sizes[i]);
            e->free(NULL);
            cr_assert_eq(errno, STALE_ERRNO, "%zu bytes: errno %d", sizes[i], errno);
        }
    }
}

Test(errno_, success_leaves_it_alone)
{
    FOR_EACH_SET (e) {
        for (int round = 0; round < 3; round++) {
            for (size_t i = 0; i < SIZES; i++) {
                for (unsigned which = 0; which < ALLOCATORS; which++) {
                    errno = STALE_ERRNO;
                    void *p = allocate(e, which, sizes[i]);
                    cr_assert_not_null(p);
                    cr_assert_eq(errno, STALE_ERRNO, "%s(%zu): errno %d", allocator_name(which),
                                 sizes[i], errno);
                    p = e->realloc(p, sizes[SIZES - 1 - i] + 1);
                    cr_assert_not_null(p);
                    cr_assert_eq(errno, STALE_ERRNO, "realloc(%zu): errno %d",
                                 sizes[SIZES - 1 - i] + 1, errno);
                    (void)e->usable_size(p);
                    e->free(p);
                    cr_assert_eq(errno, STALE_ERRNO);
                }
            }
        }
    }
}

Test(errno_, questions_and_maintenance_leave_it_alone)
{
    FOR_EACH_SET (e) {
        void *p = e->malloc(64 * MIB);
        memset(p, 1, 64 * MIB);
        e->free(p);
        errno = STALE_ERRNO;
        (void)e->mallinfo();
        (void)e->mallinfo2();
        (void)ap_good_size(100);
        (void)ap_version();
        ap_thread_idle();
        (void)e->malloc_trim(0);
        (void)ap_trim();
        (void)e->mallopt(-8, 2);
        cr_assert_eq(errno, STALE_ERRNO);
    }
}

Test(errno_, every_null_has_a_reason)
{
    static const size_t impossible[] = {SIZE_MAX, (size_t)PTRDIFF_MAX + 1, PTRDIFF_MAX,
                                        (size_t)1 << 60, (size_t)1 << 50};
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < sizeof impossible / sizeof impossible[0]; i++) {
            for (unsigned which = 0; which < ALLOCATORS; which++) {
                errno = STALE_ERRNO;
                cr_assert_null(allocate(e, which, impossible[i]));
                cr_assert_eq(errno, ENOMEM, "%s(%#zx): errno %d", allocator_name(which),
                             impossible[i], errno);
            }
        }
        errno = STALE_ERRNO;
        cr_assert_null(e->aligned_alloc(48, 100));
        cr_assert_eq(errno, EINVAL);
        errno = STALE_ERRNO;
        cr_assert_null(e->memalign(SIZE_MAX, 100));
        cr_assert_eq(errno, EINVAL);
    }
}

/* --- the kernel refuses --- */

/* Splits a mapping of ours into single pages until the kernel has no more mappings to give. */
static void *exhaust_mappings(size_t *size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    *size = (size_t)300000 * page;
    char *p = mmap(NULL, *size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    cr_assert_neq(p, MAP_FAILED);
    for (size_t at = page; at < *size; at += 2 * page) {
        if (mprotect(p + at, page, PROT_READ) != 0) {
            return p;
        }
    }
    (void)munmap(p, *size);
    return NULL;
}

Test(errno_, free_with_all_mappings_in_use_leaves_it_alone_and_keeps_the_memory_usable)
{
    enum { BLOCKS = 64 };
    FOR_EACH_SET (e) {
        void *blocks[BLOCKS], *small[BLOCKS];
        size_t size;
        for (unsigned b = 0; b < BLOCKS; b++) {
            blocks[b] = e->malloc(b % 2 == 0 ? 300 * KIB : 2 * MIB);
            memset(blocks[b], 1, 300 * KIB);
            small[b] = e->malloc(1000);
        }
        void *splinters = exhaust_mappings(&size);
        if (splinters == NULL) {
            cr_skip_test("this machine does not limit the number of mappings");
        }
        errno = STALE_ERRNO;
        for (unsigned b = 0; b < BLOCKS; b += 2) {
            e->free(blocks[b]);
            e->free(small[b]);
        }
        (void)e->malloc_trim(0);
        cr_assert_eq(errno, STALE_ERRNO, "errno %d", errno);
        /* From what is there, allocation goes on. */
        for (unsigned b = 0; b < BLOCKS; b += 2) {
            small[b] = e->malloc(1000);
            cr_assert_not_null(small[b]);
            fill(small[b], 1000, b);
            blocks[b] = e->malloc(300 * KIB);
            cr_assert_not_null(blocks[b]);
            fill(blocks[b], 300 * KIB, b);
        }
        cr_assert_eq(errno, STALE_ERRNO, "errno %d", errno);
        for (unsigned b = 1; b < BLOCKS; b += 2) {
            e->free(blocks[b]);
            e->free(small[b]);
        }
        cr_assert_eq(errno, STALE_ERRNO, "errno %d", errno);
        (void)munmap(splinters, size);
        for (unsigned b = 0; b < BLOCKS; b += 2) {
            cr_assert(is_filled(blocks[b], 300 * KIB, b));
            cr_assert(is_filled(small[b], 1000, b));
            e->free(blocks[b]);
            e->free(small[b]);
        }
        void *after = e->malloc(64 * MIB);
        cr_assert_not_null(after);
        e->free(after);
    }
}

Test(errno_, free_and_trim_of_locked_pages_leave_it_alone)
{
    FOR_EACH_SET (e) {
        size_t size = 2 * MIB;
        char *p = e->malloc(size);
        memset(p, 0xAB, size);
        if (mlock(p, size) != 0) {
            cr_skip_test("this process may not lock memory");
        }
        errno = STALE_ERRNO;
        e->free(p); /* discarding locked pages fails with EINVAL, at least at first */
        (void)e->malloc_trim(0);
        (void)ap_trim();
        cr_assert_eq(errno, STALE_ERRNO, "errno %d", errno);
        /* What could not be discarded is not zero, and must not be taken for it. */
        for (int i = 0; i < 4; i++) {
            char *q = e->calloc(1, size);
            cr_assert_not_null(q);
            cr_assert(is_zero(q, size));
            memset(q, 0xCD, size);
            e->free(q);
        }
        (void)munlock(p, size);
    }
}
