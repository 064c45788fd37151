/* SPDX-License-Identifier: MIT */
/*
 * kernel_refuses_test.c: the kernel says no, with errors malloc must not pass on.
 * Goal: every NULL comes with ENOMEM whatever the kernel answered (EAGAIN, EPERM, ...); giving back
 * works and leaves errno alone when nothing can be unmapped, moved or discarded; afterwards there is
 * memory again. Method: in a child a filter answers the calls; the child prints what is wrong, which
 * must be nothing. Registered twice: with the heap's reservation, and with one so small that large
 * blocks are mappings of their own.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "expect.h"
#include "release.h"
#include "support/child.h"
#include "support/seccomp.h"

TestSuite(kernel_refuses, .timeout = 120);

struct plan {
    const struct entry_points *e;
    int error;
};

static const int errors[] = {ENOMEM, EAGAIN, EPERM, EINVAL};

static void refuse(const int *calls, size_t count, int error)
{
    if (!seccomp_refuse(calls, count, error)) {
        fail("no filter");
    }
}

static void expect_silent_success(void (*body)(void *))
{
    if (!seccomp_is_available()) {
        cr_skip_test("this kernel does not let a process filter its calls");
    }
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        struct plan plan = {&entry_points[i % ENTRY_POINT_SETS], errors[i]};
        struct child_result result;
        child_run(&result, body, &plan);
        cr_assert_eq(result.signal, 0, "%s, error %d: signal %d: %s", plan.e->set, errors[i],
                     result.signal, result.text);
        cr_assert_eq(result.status, 0, "%s, error %d: %s", plan.e->set, errors[i], result.text);
        cr_assert_str_eq(result.text, "");
    }
}

/* --- no memory to be had --- */

/* Blocks are chained through their first word until there are no more. */
static void **exhaust(const struct plan *plan, unsigned which, size_t size, void **chain)
{
    for (;;) {
        errno = STALE_ERRNO;
        void **block = allocate(plan->e, which, size);
        if (block == NULL) {
            break;
        }
        if (errno != STALE_ERRNO) {
            fail("%s(%zu) succeeded with errno %d", allocator_name(which), size, errno);
        }
        *block = chain;
        chain = block;
    }
    if (errno != ENOMEM) {
        fail("%s(%zu) failed with errno %d", allocator_name(which), size, errno);
    }
    return chain;
}

static void expect_no_growth(const struct plan *plan, void *p, size_t size)
{
    errno = STALE_ERRNO;
    if (plan->e->realloc(p, size) != NULL || errno != ENOMEM) {
        fail("realloc(%zu) with errno %d", size, errno);
    }
    errno = STALE_ERRNO;
    if (plan->e->reallocarray(p, size / 16, 16) != NULL || errno != ENOMEM) {
        fail("reallocarray(%zu) with errno %d", size, errno);
    }
    void *unchanged = p;
    errno = STALE_ERRNO;
    if (plan->e->posix_memalign(&unchanged, 4096, size) != ENOMEM || errno != ENOMEM ||
        unchanged != p) {
        fail("posix_memalign(%zu) with errno %d", size, errno);
    }
}

static void use_up_what_is_there(void *argument)
{
    static const int growing[] = {SYS_mmap, SYS_mprotect, SYS_mremap};
    const struct plan *plan = argument;
    void **chain = NULL;
    void *kept = plan->e->malloc(100);
    refuse(growing, 3, plan->error);
    for (size_t i = FOUR_SIZES;
         i-- > 0;) { /* what is too small for a large block serves small ones */
        for (unsigned which = 0; which < ALLOCATORS; which++) {
            chain = exhaust(plan, which, four_sizes[i], chain);
        }
    }
    expect_no_growth(plan, kept, four_sizes[FOUR_SIZES - 1]);
    while (chain != NULL) {
        void **next = *chain;
        errno = STALE_ERRNO;
        plan->e->free(chain);
        if (errno != STALE_ERRNO) {
            fail("free with errno %d", errno);
        }
        chain = next;
    }
    if (plan->e->malloc(16) == NULL || plan->e->calloc(1, 4096) == NULL) {
        fail("no block after all were freed");
    }
}

Test(kernel_refuses, memory_and_every_null_has_enomem)
{
    expect_silent_success(use_up_what_is_there);
}

/* --- nothing can be given back --- */

static void release_one_of_each(const struct plan *plan, unsigned how)
{
    for (unsigned which = 0; which < ALLOCATORS; which++) {
        for (size_t i = 0; i < FOUR_SIZES; i++) {
            void *p = allocate(plan->e, which, four_sizes[i]);
            if (p == NULL) {
                fail("%s(%zu): none", allocator_name(which), four_sizes[i]);
            }
            mark(p, four_sizes[i], how);
            errno = STALE_ERRNO;
            release(plan->e, release_fits(how, which) ? how : 0, p, four_sizes[i]);
            if (errno != STALE_ERRNO) {
                fail("%s of %s(%zu): errno %d", release_names[how], allocator_name(which),
                     four_sizes[i], errno);
            }
        }
    }
}

static void give_back_in_vain(void *argument)
{
    static const int shrinking[] = {SYS_munmap, SYS_madvise, SYS_mremap};
    const struct plan *plan = argument;
    refuse(shrinking, 3, plan->error);
    for (unsigned how = 0; how < RELEASES; how++) {
        release_one_of_each(plan, how);
        errno = STALE_ERRNO;
        ap_thread_idle();
        (void)plan->e->malloc_trim(0);
        (void)ap_trim();
        if (errno != STALE_ERRNO) {
            fail("trim: errno %d", errno);
        }
    }
    /* Nothing was discarded, so nothing is zero by itself. */
    for (size_t i = 0; i < FOUR_SIZES; i++) {
        void *p = plan->e->calloc(1, four_sizes[i]);
        if (p == NULL || !is_zero(p, four_sizes[i])) {
            fail("calloc(%zu) is not zero", four_sizes[i]);
        }
    }
}

Test(kernel_refuses, to_take_memory_back_and_release_leaves_errno_alone)
{
    expect_silent_success(give_back_in_vain);
}
