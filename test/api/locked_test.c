/* SPDX-License-Identifier: MIT */
/*
 * locked_test.c: a process whose memory is locked, and may not lock much.
 * Goal: after mlockall(MCL_FUTURE) the kernel answers EAGAIN to new mappings beyond RLIMIT_MEMLOCK;
 * callers see ENOMEM, every block can be freed, and there is memory again. Method: in a child without
 * privileges. Registered twice: with the heap's reservation, from which memory comes that is no new
 * mapping, and with one so small that blocks are new mappings.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <grp.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "expect.h"
#include "release.h"
#include "support/child.h"

TestSuite(locked, .timeout = 120);

enum { NOBODY = 65534, LOCKABLE_MIB = 4, BLOCKS_MAX = 64 };
#define MIB ((size_t)1 << 20)

/* The right to lock everything goes with the user. */
static void give_up_privileges(void)
{
    if (geteuid() == 0) {
        expect(setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
                   setresuid(NOBODY, NOBODY, NOBODY) == 0,
               "privileges can be given up");
    }
}

static void lock_the_future(void)
{
    const struct rlimit limit = {LOCKABLE_MIB * MIB, LOCKABLE_MIB * MIB};
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0) {
        _exit(77);
    }
    give_up_privileges();
    if (mlockall(MCL_FUTURE) != 0) {
        _exit(77);
    }
    errno = 0;
    void *p = mmap(NULL, 2 * LOCKABLE_MIB * MIB, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED || errno != EAGAIN) {
        _exit(77); /* whatever this kernel does, it is not what is tested here */
    }
}

static void allocate_some(const struct entry_points *e, unsigned which, size_t size)
{
    void *blocks[BLOCKS_MAX];
    unsigned n = 0;
    for (; n < (size > MIB ? 2 : BLOCKS_MAX); n++) {
        errno = STALE_ERRNO;
        blocks[n] = allocate(e, which, size);
        if (blocks[n] == NULL) {
            break;
        }
        expect(errno == STALE_ERRNO, "success leaves errno alone");
        mark(blocks[n], size, n);
    }
    if (errno != STALE_ERRNO && errno != ENOMEM) {
        fail("%s(%zu) failed with errno %d", allocator_name(which), size, errno);
    }
    for (unsigned b = 0; b < n; b++) {
        errno = STALE_ERRNO;
        expect(is_marked(blocks[b], size, size, b), "a block holds what was written");
        e->free(blocks[b]);
        expect(errno == STALE_ERRNO, "free leaves errno alone");
    }
}

static void use_locked_heap(void *set)
{
    const struct entry_points *e = set;
    lock_the_future();
    for (unsigned which = 0; which < ALLOCATORS; which++) {
        for (size_t i = 0; i < FOUR_SIZES; i++) {
            allocate_some(e, which, four_sizes[i]);
        }
    }
    for (int again = 0; again < 100; again++) {
        void *p = e->malloc(1000);
        expect(p != NULL, "there is memory again");
        e->free(p);
    }
    (void)ap_trim(); /* whether or not the kernel takes locked pages: nothing to report */
}

Test(locked, memory_beyond_the_limit_is_enomem)
{
    FOR_EACH_SET (e) {
        struct child_result result;
        child_run(&result, use_locked_heap, (void *)(uintptr_t)e);
        if (result.status == 77) {
            cr_skip_test("this kernel has another answer than EAGAIN");
        }
        cr_assert_eq(result.signal, 0, "signal %d: %s", result.signal, result.text);
        cr_assert_eq(result.status, 0, "status %d: %s", result.status, result.text);
        cr_assert_str_eq(result.text, "");
    }
}
