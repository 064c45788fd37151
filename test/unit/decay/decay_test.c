/* SPDX-License-Identifier: MIT */
/*
 * decay_test.c: what goes back to the kernel when.
 * Goal: long spans in a fifth of the time, short ones in the whole, free pages inside spans in use and
 * forgotten batches too; nothing that was used meanwhile; nothing twice; an end when the kernel refuses.
 * Method: time is a number that the test passes in; madvise is counted and made to fail.
 */
#include "decay/decay.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <string.h>

#include "central/central_free_list.h"
#include "central/transfer_cache.h"
#include "decay/pressure.h"
#include "heap/heap_limits.h"
#include "heap/page_heap.h"
#include "heap/region.h"
#include "meta/meta.h"
#include "support/heap_check.h"
#include "support/os_faults.h"

enum { CLASS_64 = 4, DECAY_MS = 1600, HOUR_MS = 3600000 };

static uint64_t now_ms;

static void init(uint64_t decay_ms)
{
    cr_assert(ap__region_init((size_t)1 << 30));
    ap__transfer_init(1, 1 << 20);
    ap__decay_init(decay_ms);
    now_ms = HOUR_MS;
    (void)ap__decay_step(now_ms);
}

/* Time goes by in small steps. Returns what the last step did. */
static int64_t pass(uint64_t ms)
{
    int64_t wait = 0;
    for (uint64_t end = now_ms + ms; now_ms < end;) {
        now_ms += 10;
        wait = ap__decay_step(now_ms);
    }
    return wait;
}

static size_t dirty(void)
{
    return page_heap_check().dirty_granules;
}

/* Free spans of one length that do not coalesce: every other is kept. */
static void free_spans(size_t granules, size_t count)
{
    static struct ap__span *spans[200];
    for (size_t i = 0; i < 2 * count; i++) {
        spans[i] = ap__page_heap_take(granules, AP_GRANULE, 0);
        cr_assert_not_null(spans[i]);
    }
    for (size_t i = 0; i < 2 * count; i += 2) {
        ap__page_heap_give(spans[i]);
    }
}

Test(decay, short_spans_stay_for_a_while_and_are_gone_after_the_whole_time)
{
    init(DECAY_MS);
    free_spans(2, 50);
    cr_assert_eq(dirty(), 100);
    pass(DECAY_MS / 8);
    cr_assert_geq(dirty(), 90u);
    pass(DECAY_MS / 2);
    cr_assert(dirty() > 10 && dirty() < 60, "%zu", dirty());
    cr_assert_eq(pass(DECAY_MS / 2), -1, "nothing is left to do");
    cr_assert_eq(dirty(), 0);
}

Test(decay, long_spans_are_gone_in_a_fifth_of_it)
{
    init(DECAY_MS);
    free_spans(AP_LONG_SPAN_GRANULES, 4);
    free_spans(2, 10);
    pass(DECAY_MS / 5 + DECAY_MS / 16);
    cr_assert_eq(ap__page_heap_dirty_bytes(AP__DIRTY_LONG), 0);
    cr_assert_geq(ap__page_heap_dirty_bytes(AP__DIRTY_SHORT), 18 * AP_GRANULE);
}

Test(decay, a_purge_may_end_inside_a_span)
{
    init(DECAY_MS);
    ap__page_heap_give(ap__page_heap_take(1000, AP_GRANULE, 0));
    cr_assert_eq(ap__page_heap_purge(AP__DIRTY_LONG, 600 * AP_GRANULE), 400 * AP_GRANULE);
    cr_assert_eq(dirty(), 600);
    cr_assert_eq(ap__page_heap_purge(AP__DIRTY_LONG, 600 * AP_GRANULE), 0);
    struct ap__span *span = ap__page_heap_take(600, AP_GRANULE, 0);
    cr_assert_eq(dirty(), 0, "the lower end, which is taken first, was kept");
    ap__page_heap_give(span);
}

Test(decay, memory_that_is_used_in_time_is_not_purged)
{
    init(DECAY_MS);
    os_faults_reset();
    for (int i = 0; i < 100; i++) {
        struct ap__span *span = ap__page_heap_take(64, AP_GRANULE, 0);
        pass(DECAY_MS / 100);
        ap__page_heap_give(span);
        pass(DECAY_MS / 100);
    }
    cr_assert_leq(os_faults_count(OS_FAULTS_MADVISE), 100 / 4ul, "it breathes");
}

/* Memory that became unused just before a program fell asleep, and its first step after that. */
static void sleep_on_unused_memory(uint64_t known_ms)
{
    init(DECAY_MS);
    ap__central_set_epoch(0);
    free_spans(2, 50);
    free_spans(AP_LONG_SPAN_GRANULES, 5);
    now_ms += 1 + 2 * DECAY_MS;
    (void)ap__decay_step_since(now_ms, now_ms - known_ms);
}

Test(decay, what_may_have_become_unused_just_now_stays)
{
    sleep_on_unused_memory(0);
    cr_assert_geq(dirty(), 170u);
}

Test(decay, what_is_known_to_be_unused_for_long_goes_in_one_step)
{
    sleep_on_unused_memory(2 * DECAY_MS);
    cr_assert_eq(dirty(), 0);
}

Test(decay, what_is_known_to_be_unused_for_a_while_goes_in_part)
{
    sleep_on_unused_memory(DECAY_MS / 2);
    cr_assert_eq(ap__page_heap_dirty_bytes(AP__DIRTY_LONG), 0);
    size_t left = ap__page_heap_dirty_bytes(AP__DIRTY_SHORT) / AP_GRANULE;
    cr_assert(left >= 30 && left <= 80, "%zu", left);
}

Test(decay, a_thread_whose_clock_was_read_earlier_ends_nothing_early)
{
    init(DECAY_MS);
    free_spans(2, 50);
    pass(DECAY_MS / 8);
    (void)ap__decay_step(now_ms - 1);
    cr_assert_geq(dirty(), 90u);
}

/* --- spans in use --- */

enum { SLOTS_64 = 1024, SPANS = 8 };
static void *blocks[SPANS * SLOTS_64];

/* Eight spans with a live block on one page of each. */
static void use_spans(void)
{
    cr_assert_eq(ap__central_take(CLASS_64, blocks, SPANS * SLOTS_64), SPANS * SLOTS_64);
    for (unsigned i = 0; i < SPANS * SLOTS_64; i++) {
        memset(blocks[i], 1, 64);
    }
    for (unsigned i = 0; i < SPANS * SLOTS_64; i++) {
        if (i % SLOTS_64 != 100) {
            ap__central_give(CLASS_64, &blocks[i], 1, "free");
        }
    }
    ap__decay_expect_work();
}

Test(decay, free_pages_inside_spans_go_gradually)
{
    init(DECAY_MS);
    os_faults_reset();
    use_spans();
    pass(DECAY_MS / 8);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 0, "not at once");
    pass(DECAY_MS / 2);
    unsigned long half = os_faults_count(OS_FAULTS_MADVISE);
    cr_assert(half > 0 && half < 2ul * SPANS, "some: %lu", half);
    cr_assert_eq(pass(DECAY_MS), -1, "nothing is left to do");
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 2ul * SPANS, "before and behind the block");
    for (unsigned i = 100; i < SPANS * SLOTS_64; i += SLOTS_64) {
        cr_assert_eq(((char *)blocks[i])[5], 1);
    }
    pass(10 * DECAY_MS);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 2ul * SPANS, "once");
}

Test(decay, a_span_that_hands_out_blocks_keeps_its_pages)
{
    init(DECAY_MS);
    os_faults_reset();
    use_spans();
    void *p = NULL;
    for (int i = 0; i < 40; i++) {
        cr_assert_eq(ap__central_take(CLASS_64, &p, 1), 1);
        ap__central_give(CLASS_64, &p, 1, "free");
        ap__decay_expect_work();
        pass(DECAY_MS / 10);
    }
    cr_assert_leq(os_faults_count(OS_FAULTS_MADVISE), 2ul * (SPANS - 1), "all but that span");
    cr_assert_geq(os_faults_count(OS_FAULTS_MADVISE), 2ul * (SPANS - 2));
}

Test(decay, blocks_forgotten_in_a_transfer_cache_go_home)
{
    init(DECAY_MS);
    void *batch[20];
    cr_assert_eq(ap__central_take(CLASS_64, batch, 20), 20);
    cr_assert_eq(ap__transfer_give(CLASS_64, batch, 20), 20);
    ap__decay_expect_work();
    pass(DECAY_MS / 20);
    cr_assert_eq(ap__transfer_take(CLASS_64, batch, 5), 5, "in use: they stay");
    cr_assert_eq(ap__transfer_give(CLASS_64, batch, 5), 5);
    cr_assert_eq(ap__transfer_count(CLASS_64), 20);
    cr_assert_eq(pass(3 * DECAY_MS), -1);
    cr_assert_eq(ap__transfer_count(CLASS_64), 0);
    struct ap__central_stats stats;
    ap__central_stats(CLASS_64, &stats);
    cr_assert_eq(stats.claimed, 0);
}

static void give_batch(void)
{
    void *batch[20];
    cr_assert_eq(ap__central_take(CLASS_64, batch, 20), 20);
    cr_assert_eq(ap__transfer_give(CLASS_64, batch, 20), 20);
}

static unsigned looks_noted;

static bool note_look(unsigned age_least)
{
    cr_assert_geq(age_least, 1);
    looks_noted++;
    return false;
}

/* As a poll does, which expects something each time. */
static void step_of_0(uint64_t ms)
{
    ap__decay_expect_work();
    cr_assert_eq(ap__decay_step(now_ms += ms), -1);
}

Test(decay, of_0_they_go_when_they_have_lain_from_one_look_to_the_next)
{
    init(0);
    ap__decay_look_also(note_look);
    give_batch();
    step_of_0(20);
    cr_assert_eq(ap__transfer_count(CLASS_64), 20, "a thread may be about to take them");
    cr_assert_eq(looks_noted, 1);
    step_of_0(5);
    cr_assert_eq(ap__transfer_count(CLASS_64), 20);
    cr_assert_eq(looks_noted, 1, "not at each poll");
    step_of_0(5);
    cr_assert_eq(ap__transfer_count(CLASS_64), 0);
    cr_assert_eq(looks_noted, 2, "sleeping threads' caches are looked at, too");
    cr_assert_eq(dirty(), 0);
}

Test(decay, of_0_a_poll_looks)
{
    init(0);
    give_batch();
    ap__decay_look_also(note_look);
    ap__decay_poll();
    cr_assert_eq(looks_noted, 1);
}

/* --- metadata --- */

enum { RECORDS = 200, RECORD_BYTES = 4096 };
static void *records[RECORDS];

static void take_records(void)
{
    for (unsigned i = 0; i < RECORDS; i++) {
        records[i] = ap__meta_take(RECORD_BYTES);
        cr_assert_not_null(records[i]);
        memset(records[i], 1, RECORD_BYTES);
    }
}

static void give_records(void)
{
    for (unsigned i = 0; i < RECORDS; i++) {
        ap__meta_give(records[i], RECORD_BYTES);
    }
    ap__decay_expect_work();
}

static size_t unused_records(void)
{
    struct ap__meta_stats stats;
    ap__meta_stats(&stats);
    return stats.free_bytes / RECORD_BYTES;
}

Test(decay, metadata_that_nobody_uses_goes)
{
    init(DECAY_MS);
    take_records();
    pass(DECAY_MS);
    give_records();
    os_faults_reset();
    pass(DECAY_MS / 32);
    cr_assert_geq(unused_records(), RECORDS, "not at once");
    cr_assert_eq(pass(DECAY_MS / 2), -1, "nothing is left to do");
    cr_assert_lt(unused_records(), RECORDS / 16);
    unsigned long calls = os_faults_count(OS_FAULTS_MADVISE);
    cr_assert_neq(calls, 0);
    ap__decay_expect_work();
    cr_assert_eq(pass(10 * DECAY_MS), -1);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), calls, "once");
}

Test(decay, metadata_that_is_used_in_time_stays)
{
    init(DECAY_MS);
    take_records();
    pass(DECAY_MS);
    os_faults_reset();
    for (int i = 0; i < 100; i++) {
        give_records();
        pass(DECAY_MS / 40);
        take_records();
        pass(DECAY_MS / 40);
    }
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 0, "it breathes");
}

Test(decay, a_kernel_that_takes_no_metadata_is_not_asked_for_ever)
{
    init(DECAY_MS);
    take_records();
    give_records();
    os_faults_reset();
    os_faults_fail_always(OS_FAULTS_MADVISE);
    cr_assert_eq(pass(DECAY_MS), -1);
    unsigned long calls = os_faults_count(OS_FAULTS_MADVISE);
    cr_assert_neq(calls, 0);
    ap__decay_expect_work();
    cr_assert_eq(pass(10 * DECAY_MS), -1);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), calls);
}

Test(decay, above_the_soft_limit_metadata_goes_at_once)
{
    init(DECAY_MS);
    take_records();
    ap__heap_limits_set_soft(40 * AP_GRANULE);
    struct ap__span *used = ap__page_heap_take(50, AP_GRANULE, 0);
    cr_assert_not_null(used);
    give_records();
    pass(100);
    cr_assert_lt(unused_records(), RECORDS / 16);
    os_faults_reset();
    pass(1000);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 0, "not in vain");
}

Test(decay, of_0_gives_metadata_back_in_one_step)
{
    init(0);
    take_records();
    give_records();
    cr_assert_eq(ap__decay_step(now_ms), -1);
    cr_assert_lt(unused_records(), RECORDS / 16);
}

/* --- refusals, bounds, options --- */

Test(decay, a_kernel_that_refuses_is_not_asked_for_ever)
{
    init(DECAY_MS);
    free_spans(2, 50);
    use_spans();
    os_faults_reset();
    os_faults_fail_always(OS_FAULTS_MADVISE);
    cr_assert_eq(pass(10 * DECAY_MS), -1, "asleep");
    unsigned long asked = os_faults_count(OS_FAULTS_MADVISE);
    cr_assert_neq(asked, 0);
    os_faults_reset();
    ap__decay_expect_work();
    cr_assert_eq(pass(10 * DECAY_MS), -1);
    cr_assert_eq(dirty(), 0, "it agrees again");
}

Test(decay, of_0_gives_back_in_one_step)
{
    init(0);
    free_spans(2, 50);
    use_spans();
    cr_assert_eq(ap__decay_step(now_ms), -1);
    cr_assert_eq(dirty(), 0);
    cr_assert_geq(os_faults_count(OS_FAULTS_MADVISE), 2ul * SPANS);
}

Test(decay, of_never_gives_nothing_back)
{
    init(AP__DECAY_NEVER);
    free_spans(2, 50);
    use_spans();
    size_t before = dirty();
    cr_assert_neq(before, 0);
    os_faults_reset();
    cr_assert_eq(pass(100 * DECAY_MS), -1);
    cr_assert_eq(dirty(), before);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 0);
}

Test(decay, polls_step_only_without_a_helper)
{
    init(0);
    free_spans(2, 50);
    ap__decay_set_helped(true);
    ap__decay_poll();
    cr_assert_eq(dirty(), 100);
    ap__decay_set_helped(false);
    ap__decay_poll();
    cr_assert_eq(dirty(), 0);
}

/* --- pressure --- */

struct told {
    unsigned times;
    size_t used_bytes, limit_bytes;
};

static void tell(void *context, size_t used_bytes, size_t limit_bytes)
{
    struct told *told = context;
    *told = (struct told){told->times + 1, used_bytes, limit_bytes};
}

Test(decay, above_the_soft_limit_nothing_waits_and_the_program_is_told_once)
{
    struct told told = {0};
    init(DECAY_MS);
    ap__heap_limits_set_soft(40 * AP_GRANULE);
    ap__pressure_set_callback(tell, &told);
    struct ap__span *used = ap__page_heap_take(30, AP_GRANULE, 0);
    struct ap__span *more = ap__page_heap_take(20, AP_GRANULE, 0);
    cr_assert_eq(ap__heap_limits_pressure(), AP__PRESSURE_USED);
    pass(100);
    cr_assert_eq(told.times, 1);
    cr_assert_eq(told.used_bytes, 50 * AP_GRANULE);
    cr_assert_eq(told.limit_bytes, 40 * AP_GRANULE);
    ap__page_heap_give(more);
    cr_assert_eq(ap__heap_limits_pressure(), AP__PRESSURE_UNUSED);
    pass(100);
    cr_assert_eq(dirty(), 0, "long before its time");
    cr_assert_eq(ap__heap_limits_pressure(), AP__PRESSURE_NONE);
    more = ap__page_heap_take(20, AP_GRANULE, 0);
    pass(100);
    cr_assert_eq(told.times, 2, "above it again");
    ap__page_heap_give(more);
    ap__page_heap_give(used);
    ap__pressure_set_callback(NULL, NULL);
    more = ap__page_heap_take(60, AP_GRANULE, 0);
    pass(100);
    cr_assert_eq(told.times, 2, "nobody wants to know");
}

static unsigned least_age_asked_for = UINT_MAX;

static bool look_above(unsigned age_least)
{
    least_age_asked_for = age_least < least_age_asked_for ? age_least : least_age_asked_for;
    return false;
}

Test(decay, above_the_soft_limit_caches_are_emptied)
{
    init(DECAY_MS);
    ap__decay_look_also(look_above);
    void *batch[20];
    cr_assert_eq(ap__central_take(CLASS_64, batch, 20), 20);
    cr_assert_eq(ap__transfer_give(CLASS_64, batch, 20), 20);
    ap__heap_limits_set_soft(40 * AP_GRANULE);
    struct ap__span *used = ap__page_heap_take(50, AP_GRANULE, 0);
    pass(DECAY_MS / 16 - 10);
    cr_assert_eq(ap__transfer_count(CLASS_64), 0);
    cr_assert_eq(least_age_asked_for, 0, "thread caches, too");
    ap__page_heap_give(used);
    struct ap__central_stats stats;
    ap__central_stats(CLASS_64, &stats);
    cr_assert_eq(stats.spans, 0);
}

Test(decay, the_hard_limit_refuses_spans_and_purges_what_is_unused)
{
    init(DECAY_MS);
    ap__heap_limits_set_hard(100 * AP_GRANULE);
    struct ap__span *half = ap__page_heap_take(60, AP_GRANULE, 0);
    cr_assert_not_null(half);
    cr_assert_null(ap__page_heap_take(41, AP_GRANULE, 0));
    struct ap__span *rest = ap__page_heap_take(40, AP_GRANULE, 0);
    cr_assert_not_null(rest);
    cr_assert(!ap__page_heap_extend(rest, 41));
    cr_assert_null(ap__page_heap_take(1, AP_GRANULE, CLASS_64));
    ap__page_heap_give(half);
    cr_assert_eq(dirty(), 60);
    half = ap__page_heap_take(61 - 1, 64 * AP_GRANULE, 0); /* elsewhere: aligned */
    cr_assert_not_null(half);
    cr_assert_eq(dirty(), 0);
    struct ap__page_heap_stats stats;
    ap__page_heap_stats(&stats);
    cr_assert_leq(stats.large_bytes + stats.dirty_bytes, 100 * AP_GRANULE);
}
