/* SPDX-License-Identifier: MIT */
/*
 * pressure_test.c: the program's function in the middle of a call that allocates or frees.
 * Goal: it may itself allocate, free, empty the cache and trim, whatever slow path it was called from; the
 * call it stands in then goes on as if nothing had been. Method: pressure comes and goes at every step,
 * and nothing helps, so that slow paths of all classes call the function.
 */
#include "decay/pressure.h"

#include <criterion/criterion.h>
#include <string.h>

#include "apmalloc.h"
#include "cache/cache_limits.h"
#include "decay/decay.h"
#include "heap/heap_limits.h"

enum { BLOCKS = 4000, BLOCKS_INSIDE = 300, SIZE_MOST = 3000, ROUNDS = 6 };

static unsigned calls;

/* More than a list holds, so that lists grow, overflow and vanish under the caller. */
static void allocate_inside(void *context, size_t used_bytes, size_t limit_bytes)
{
    static void *inside[BLOCKS_INSIDE];
    size_t *size = context;
    (void)used_bytes, (void)limit_bytes;
    for (size_t i = 0; i < BLOCKS_INSIDE; i++) {
        inside[i] = ap_malloc(*size);
        cr_assert_not_null(inside[i]);
        memset(inside[i], 0xaa, *size);
    }
    for (size_t i = 0; i < BLOCKS_INSIDE; i++) {
        ap_free(inside[i]);
    }
    if (++calls % 3 == 0) {
        ap_thread_idle();
    } else if (calls % 3 == 1) {
        (void)ap_trim();
    }
}

static void let_pressure_come_and_go(void)
{
    static unsigned times;
    bool presses = times++ / 97 % 2 != 0;
    ap__heap_limits_set_soft(presses ? 0 : SIZE_MAX);
    ap__heap_limits_note(1, 0);
}

/* Takes blocks of `*size` and gives them back; each must keep what was written into it. */
static void churn(const size_t *size)
{
    static unsigned char *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        let_pressure_come_and_go();
        blocks[i] = ap_malloc(*size);
        cr_assert_not_null(blocks[i]);
        memset(blocks[i], (int)i & 0x7f, *size);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        let_pressure_come_and_go();
        cr_assert_eq(blocks[i][0], i & 0x7f);
        cr_assert_eq(blocks[i][*size - 1], i & 0x7f);
        ap_free(blocks[i]);
    }
}

Test(pressure, the_function_may_allocate_inside_every_slow_path)
{
    size_t before = ap_mallinfo2().uordblks;
    size_t size = 0;
    ap__decay_init(0); /* every look is a step */
    ap__pressure_set_callback(allocate_inside, &size);
    for (unsigned round = 0; round < ROUNDS; round++) {
        ap__cache_limits_init(round << 16, round << 16); /* 0: each call is a slow one */
        for (size = 16; size < SIZE_MOST; size += 16 + size / 4) {
            churn(&size);
        }
    }
    ap__pressure_set_callback(NULL, NULL);
    cr_assert_gt(calls, 100u, "only %u calls", calls);
    cr_assert_eq(ap_mallinfo2().uordblks, before);
}

static void count_call(void *context, size_t used_bytes, size_t limit_bytes)
{
    (void)context;
    cr_assert_gt(used_bytes, limit_bytes);
    calls++;
}

/* The heap has not changed since: the mark that it is above its limit is still set. */
Test(pressure, a_limit_that_was_lifted_is_not_told)
{
    void *p = ap_malloc(1 << 20);
    ap__decay_init(0);
    ap__pressure_set_callback(count_call, NULL);
    ap__heap_limits_set_soft(1000);
    ap__heap_limits_note(1 << 20, 0);
    ap__heap_limits_set_soft(SIZE_MAX);
    ap__pressure_tell();
    cr_assert_eq(calls, 0);
    ap__heap_limits_set_soft(1000);
    ap__pressure_tell();
    cr_assert_eq(calls, 1);
    ap__pressure_set_callback(NULL, NULL);
    ap_free(p);
}
