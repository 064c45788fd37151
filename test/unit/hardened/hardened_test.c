/* SPDX-License-Identifier: MIT */
/*
 * hardened_test.c: hardened blocks when the kernel refuses.
 * Goal: without guards, or without memory, blocks are handed out and come back as ever, and nothing is
 * lost: what cannot be made accessible again is tried once more later, and what there is, is used. Method: faults by the n-th call;
 * then the whole heap is walked. What is found of misuse is tested through the entry points.
 */
#include "hardened/hardened.h"

#include <criterion/criterion.h>
#include <string.h>

#include "cache/fine_classes.h"
#include "hardened/canary.h"
#include "hardened/quarantine.h"
#include "heap/heap_limits.h"
#include "heap/page_heap.h"
#include "life/init.h"
#include "support/heap_check.h"
#include "support/os_faults.h"

#define KIB ((size_t)1 << 10)

static struct ap__thread_cache *cache;

static void set_up(void)
{
    cache = ap__life_enter();
    ap__hardened_init(256 * KIB, 42);
}

TestSuite(hardened, .init = set_up, .timeout = 60);

static void use(size_t alignment, size_t size)
{
    unsigned char *p = ap__hardened_take(cache, alignment, size);
    if (p == NULL) {
        return;
    }
    size_t known;
    cr_assert_eq((uintptr_t)p % alignment, 0);
    cr_assert(ap__is_zero(p, size));
    cr_assert(ap__hardened_size(p, &known, "free"));
    cr_assert_eq(known, size);
    memset(p, 0xAA, size);
    cr_assert(ap__hardened_give(cache, p, "free"));
}

static void use_all(void)
{
    for (size_t size = 1; size < 3000 * KIB; size = size * 3 / 2 + 1) {
        for (size_t alignment = 16; alignment <= 512 * KIB; alignment *= 8) {
            use(alignment, size);
        }
    }
    (void)ap__hardened_flush(cache);
}

Test(hardened, blocks_of_every_size_and_alignment_come_back_zeroed)
{
    for (int round = 0; round < 20; round++) {
        use_all();
    }
    (void)heap_check();
    struct ap__quarantine_stats waiting;
    ap__quarantine_stats(&waiting);
    cr_assert_eq(waiting.blocks + waiting.large, 0);
}

/* Sizes around every slot and page; resized in place or not at all. */
Test(hardened, what_a_block_gains_in_place_reads_as_zero)
{
    for (size_t size = 0; size < 600 * KIB; size = size < 300 ? size + 1 : size * 9 / 8) {
        for (size_t more = 1; more < 1000; more = more * 3 + 1) {
            unsigned char *p = ap__hardened_take(cache, 16, size);
            cr_assert_not_null(p);
            memset(p, 0xAA, size);
            if (ap__hardened_resize(p, size, size + more)) {
                cr_assert(ap__is_zero(p + size, more), "%zu to %zu bytes", size, size + more);
                memset(p + size, 0xAA, more);
                /* What is given up and gained once more is not what it was. */
                cr_assert(ap__hardened_resize(p, size + more, size) || size == 0);
                if (ap__hardened_resize(p, size, size + more)) {
                    cr_assert(ap__is_zero(p + size, more));
                }
            }
            cr_assert(ap__hardened_give(cache, p, "free"));
        }
    }
}

Test(hardened, any_call_of_the_kernel_may_fail)
{
    static const enum os_faults_call calls[] = {OS_FAULTS_MMAP, OS_FAULTS_MUNMAP,
                                                OS_FAULTS_MPROTECT, OS_FAULTS_MADVISE};
    for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++) {
        for (unsigned long n = 1;; n++) {
            os_faults_reset();
            os_faults_fail_nth(calls[c], n);
            use_all();
            bool reached = os_faults_count(calls[c]) >= n;
            os_faults_reset();
            if (!reached || n > 600) {
                break;
            }
        }
        use_all();
    }
    (void)heap_check();
}

Test(hardened, without_guards_everything_else_works)
{
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    use_all();
    os_faults_fail_always(OS_FAULTS_MADVISE);
    use_all();
    os_faults_reset();
    use_all();
    (void)heap_check();
}

Test(hardened, what_waits_is_used_before_memory_is_refused)
{
    enum { BLOCKS = 64 };
    void *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = ap__hardened_take(cache, 16, 1000 * KIB);
        cr_assert_not_null(blocks[i]);
    }
    for (int i = 0; i < BLOCKS; i++) {
        cr_assert(ap__hardened_give(cache, blocks[i], "free"));
    }
    os_faults_fail_always(OS_FAULTS_MMAP);
    struct ap__page_heap_stats stats;
    ap__page_heap_stats(&stats);
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = ap__hardened_take(cache, 16, 1000 * KIB);
        cr_assert_not_null(blocks[i], "%d", i);
    }
    os_faults_reset();
}

Test(hardened, slots_of_the_next_class_are_used_before_memory_is_refused)
{
    enum { FINE_SIZE = 144, FREE = 10 };
    static void *blocks[FREE];
    unsigned fine = ap__class_of_size(FINE_SIZE);
    cr_assert(ap__class_is_fine(fine));
    ap__fine_classes_init(AP__WHEN_ALWAYS);
    size_t fits = FINE_SIZE - AP__TRAILER_BYTES;
    for (unsigned i = 0; i < FREE; i++) {
        blocks[i] = ap__hardened_take(cache, 16, fits + 1);
        cr_assert_eq(ap__page_heap_class_of(blocks[i]), fine + 1);
    }
    for (unsigned i = 0; i < FREE; i += 2) {
        cr_assert(ap__hardened_give(cache, blocks[i], "free"));
    }
    ap__heap_limits_set_hard(0);
    for (unsigned i = 0; i < FREE; i += 2) {
        blocks[i] = ap__hardened_take(cache, 16, fits);
        cr_assert_eq(ap__page_heap_class_of(blocks[i]), fine + 1);
        size_t known;
        cr_assert(ap__hardened_size(blocks[i], &known, "free"));
        cr_assert_eq(known, fits);
    }
    ap__heap_limits_set_hard(SIZE_MAX);
    for (unsigned i = 0; i < FREE; i++) {
        cr_assert(ap__hardened_give(cache, blocks[i], "free"));
    }
    (void)heap_check();
}

Test(hardened, other_addresses_are_no_blocks)
{
    static _Alignas(64) char elsewhere[64];
    size_t size;
    cr_assert_not(ap__hardened_give(cache, elsewhere, "free"));
    cr_assert_not(ap__hardened_size(elsewhere, &size, "free"));
}
