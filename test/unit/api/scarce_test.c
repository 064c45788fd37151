/* SPDX-License-Identifier: MIT */
/*
 * scarce_test.c: small blocks where there is no memory for another span.
 * Goal: before malloc gives up it has looked wherever a block may be that holds the size: in the class above a fine one, and
 * at what other processors' threads have passed on. Method: a class gets a span and some of its blocks back; then the heap
 * may have no more.
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "apmalloc.h"
#include "cache/fine_classes.h"
#include "central/central_free_list.h"
#include "central/transfer_cache.h"
#include "heap/heap_limits.h"
#include "support/heap_check.h"
#include "support/processor.h"

enum { FREE = 5, CPUS = 2 };

static void *blocks[2 * FREE];

static size_t size_of(unsigned size_class)
{
    return ap__size_class[size_class].size;
}

static void refuse_memory(bool refuses)
{
    ap__heap_limits_set_hard(refuses ? 0 : SIZE_MAX);
}

/* The class has so many free blocks, each beside one that is not, and there is no memory for more. */
static void leave_free(unsigned size_class, unsigned free)
{
    refuse_memory(false);
    for (unsigned i = 0; i < 2 * free; i++) {
        cr_assert_not_null(blocks[i] = ap_malloc(size_of(size_class)));
    }
    refuse_memory(true);
    while (ap_malloc(size_of(size_class)) != NULL) {
    }
    for (unsigned i = 0; i < 2 * free; i += 2) {
        ap_free(blocks[i]);
    }
}

static void expect_of_coarse(unsigned fine, void *(*take)(size_t size))
{
    leave_free(fine + 1, FREE);
    for (unsigned i = 0; i < FREE; i++) {
        void *p = take(size_of(fine));
        cr_assert_not_null(p, "block %u of class %u", i, fine);
        cr_assert_eq(ap_usable_size(p), size_of(fine + 1));
    }
    errno = 0;
    cr_assert_null(take(size_of(fine)));
    cr_assert_eq(errno, ENOMEM);
}

static void for_each_fine_class(void *(*take)(size_t size))
{
    ap_free(ap_malloc(1));
    ap__fine_classes_init(AP__WHEN_ALWAYS);
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        if (ap__class_is_fine(c)) {
            expect_of_coarse(c, take);
        }
    }
    refuse_memory(false);
    heap_check();
}

Test(scarce, a_fine_class_without_memory_has_the_blocks_of_the_next)
{
    for_each_fine_class(ap_malloc);
}

static void *take_zeroed(size_t size)
{
    const unsigned char *p = ap_calloc(1, size);
    for (size_t i = 0; p != NULL && i < size; i++) {
        cr_assert_eq(p[i], 0);
    }
    return (void *)p;
}

Test(scarce, zeroed_blocks_too)
{
    for_each_fine_class(take_zeroed);
}

/* As far as the class is aligned itself. */
static void *take_aligned(size_t size)
{
    size_t alignment = size & (~size + 1);
    void *p = ap_aligned_alloc(alignment, size);
    cr_assert_eq((uintptr_t)p % alignment, 0);
    return p;
}

Test(scarce, aligned_blocks_too)
{
    for_each_fine_class(take_aligned);
}

Test(scarce, a_class_that_is_not_fine_has_no_blocks_of_the_next)
{
    unsigned size_class = ap__class_of_size(1024);
    ap_free(ap_malloc(1));
    cr_assert(!ap__class_is_fine(size_class));
    leave_free(size_class + 2, FREE);
    while (ap_malloc(1024) != NULL) {
    }
    cr_assert_not_null(ap_malloc(size_of(size_class + 2)));
}

/* ------------------------------------------------------------ on their way between threads */

Test(scarce, what_other_processors_have_passed_on_is_found)
{
    unsigned size_class = ap__class_of_size(1024);
    if (processor_run_on_shard(1, CPUS) < 0 || processor_run_on_shard(0, CPUS) < 0) {
        cr_skip_test("needs two processors that do not share a shard");
    }
    ap_free(ap_malloc(1));
    ap__transfer_init(CPUS, (size_t)1 << 20);
    for (unsigned i = 0; i < FREE; i++) {
        cr_assert_not_null(blocks[i] = ap_malloc(1024));
    }
    refuse_memory(true);
    while (ap_malloc(1024) != NULL) {
    }
    (void)processor_run_on_shard(1, CPUS);
    cr_assert_eq(ap__transfer_give(size_class, blocks, FREE), FREE);
    (void)processor_run_on_shard(0, CPUS);
    for (unsigned i = 0; i < FREE; i++) {
        cr_assert_not_null(ap_malloc(1024), "block %u", i);
    }
    cr_assert_null(ap_malloc(1024));
    cr_assert_eq(ap__transfer_count(size_class), 0);
    refuse_memory(false);
    heap_check();
}
