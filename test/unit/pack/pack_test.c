/* SPDX-License-Identifier: MIT */
/*
 * pack_test.c: packed blocks: one out, one in, longer, shorter.
 * Goal: blocks are aligned, as long as asked and nobody else's; wrong addresses are reported; length changes where it
 * can, and nothing changes where it cannot; refusals lose nothing; fresh spans are populated; bounds and figures.
 * Method: direct calls on a fresh heap; fatal ones in a child.
 */
#include "pack/pack.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "central/central_free_list.h"
#include "os/bell.h"
#include "os/os.h"
#include "packed.h"
#include "support/child.h"
#include "support/heap_check.h"
#include "support/os_faults.h"

enum {
    SIZES = AP__PACK_SIZE_MAX - AP__PACK_SIZE_MIN + 1,
    POPULATED_FROM = 8, /* spans of the pool */
    PAGES_A_GRANULE = (1 << AP_PAGE_HEAP_GRANULE_SHIFT) / PAGE,
    RETURNS_A_LOOK = 16,
    LOOKS = 10000000,
    OFTEN = 200, /* times that blocks come and go */
};

static char *blocks[POPULATED_FROM * 4 * IN_SPAN];

/* ------------------------------------------------------------ take and give */

Test(pack, which_blocks_may_be_packed)
{
    cr_assert(!ap__pack_may(16, 0));
    cr_assert(!ap__pack_may(16, 1024));
    cr_assert(ap__pack_may(16, 1025));
    cr_assert(ap__pack_may(1, 65536));
    cr_assert(!ap__pack_may(16, 65537));
    cr_assert(!ap__pack_may(16, SIZE_MAX));
    cr_assert(ap__pack_may(128, 2000));
    cr_assert(!ap__pack_may(256, 2000));
}

Test(pack, blocks_of_every_size_hold_what_was_asked)
{
    init();
    for (size_t size = AP__PACK_SIZE_MIN; size <= AP__PACK_SIZE_MAX; size++) {
        char *p = take(size, 0);
        cr_assert_eq((uintptr_t)p % AP_UNIT_BYTES, 0);
        size_t bytes = usable(p);
        cr_assert(bytes >= size && bytes < size + AP_UNIT_BYTES, "%zu: %zu", size, bytes);
        cr_assert_eq(bytes % AP_UNIT_BYTES, 0);
        cr_assert_eq(stats().block_bytes, bytes);
        give(p);
    }
    cr_assert_eq(stats().spans, 0);
    heap_check();
}

Test(pack, blocks_do_not_overlap)
{
    enum { COUNT = 1000 };
    static unsigned char *held[COUNT];
    static size_t sizes[COUNT];
    init();
    for (unsigned i = 0; i < COUNT; i++) {
        sizes[i] = AP__PACK_SIZE_MIN + (size_t)i * 7919 % SIZES;
        held[i] = (unsigned char *)take(sizes[i], i % 3);
        memset(held[i], (int)(i % 251), usable(held[i]));
    }
    for (unsigned i = 0; i < COUNT; i++) {
        for (size_t at = 0; at < sizes[i]; at++) {
            cr_assert_eq(held[i][at], i % 251);
        }
    }
    cr_assert_eq(heap_check().packed_blocks, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        give(held[i]);
    }
    cr_assert_eq(stats().spans, 0);
}

Test(pack, blocks_lie_side_by_side_the_lowest_first)
{
    init();
    char *a = take(1500, 0);
    char *b = take(30000, 0);
    char *c = take(1025, 0);
    cr_assert_eq(b - a, 1536);
    cr_assert_eq(c - b, 30080);
    cr_assert_eq((uintptr_t)a, span_of(a)->start);
    give(a);
    give(b);
    cr_assert_eq(take(31616, 0), a, "where free runs meet");
    cr_assert_eq(take(1025, 0), c + 1152);
    heap_check();
}

Test(pack, the_span_with_the_shortest_run_that_will_do_is_used_first)
{
    init();
    fill_spans(blocks, 3, 0);
    give(blocks[0]);
    give(blocks[1]);
    give(blocks[IN_SPAN]);
    cr_assert_eq(take(40000, 0), blocks[IN_SPAN], "the latest of two that have one of any length");
    cr_assert_eq(take(20000, 0), blocks[IN_SPAN] + 40064, "what is left of it");
    cr_assert_eq(take(40000, 0), blocks[0]);
    give(blocks[2 * IN_SPAN]);
    cr_assert_eq(take(LONGEST, 0), blocks[2 * IN_SPAN], "no other has so long a run");
    heap_check();
}

Test(pack, spans_are_filled_to_the_last_unit)
{
    init();
    for (unsigned i = 0; i < 8192 / 64; i++) {
        blocks[i] = take(8192, 0);
        cr_assert_eq(blocks[i] - blocks[0], (ptrdiff_t)i * 8192);
    }
    cr_assert_eq(span_of(blocks[0])->packed.free_units, 0);
    cr_assert_eq(pool_spans(0), 1);
    cr_assert_neq(span_of(take(1025, 0)), span_of(blocks[0]));
    give(blocks[127]);
    cr_assert_eq(take(8192, 0), blocks[127]);
    heap_check();
}

Test(pack, runs_across_parts_of_a_span_are_found)
{
    enum { PART_BYTES = SPAN_BYTES / AP_PACK_PARTS };
    init();
    for (unsigned i = 0; i < 8192 / 64; i++) {
        blocks[i] = take(8192, 0);
    }
    for (unsigned part = 1; part < AP_PACK_PARTS; part++) {
        unsigned at = part * (PART_BYTES / 8192);
        for (unsigned order = 0; order < 2; order++) {
            give(blocks[at - 1 + order]);
            give(blocks[at - order]);
            heap_check();
            cr_assert_eq(take(16384, 0), blocks[at - 1], "part %u", part);
            give(blocks[at - 1]);
            cr_assert_eq(take(8192, 0), blocks[at - 1]);
            cr_assert_eq(take(8192, 0), blocks[at]);
        }
    }
}

static void expect_parts(const struct ap__span *span, const unsigned *runs)
{
    for (unsigned part = 0; part < AP_PACK_PARTS; part++) {
        cr_assert_eq(span->packed.part_most[part], runs[part], "part %u", part);
    }
}

Test(pack, after_a_search_in_vain_a_span_knows_its_runs)
{
    /* Two of the longest blocks a part. */
    static const unsigned runs[AP_PACK_PARTS] = {212, 212, 0, 0, 0, 0, 0, 212};
    static const unsigned gaps[] = {0, 2, 15};
    init();
    fill_spans(blocks, 1, 0);
    for (unsigned i = 0; i < 3; i++) {
        give(blocks[gaps[i]]);
    }
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(take((size_t)300 * AP_UNIT_BYTES, 0), blocks[gaps[i]]);
    }
    struct ap__span *span = span_of(blocks[0]);
    cr_assert_eq(span->packed.longest_most, AP_PACK_RUN_MAX, "a claim does not look");
    cr_assert_neq(span_of(take((size_t)213 * AP_UNIT_BYTES, 0)), span);
    cr_assert_eq(span->packed.longest_most, 212);
    expect_parts(span, runs);
    heap_check();
}

Test(pack, parts_of_a_span_know_the_runs_that_begin_in_front_of_them)
{
    static const unsigned runs[AP_PACK_PARTS] = {128, 64, 0, 0, 0, 0, 0, 0};
    init();
    for (unsigned i = 0; i < 8192 / 64; i++) {
        blocks[i] = take(8192, 0);
    }
    struct ap__span *span = span_of(blocks[0]);
    for (unsigned part = 0; part < AP_PACK_PARTS; part++) {
        span->packed.part_most[part] = 0;
    }
    give(blocks[15]);
    give(blocks[16]);
    expect_parts(span, runs);
    cr_assert_eq(span->packed.longest_most, 128);
    heap_check();
}

Test(pack, now_and_then_a_return_says_that_it_is_time)
{
    unsigned said = 0;
    init();
    (void)take(2000, 0);
    for (unsigned i = 0; i < 10 * RETURNS_A_LOOK; i++) {
        char *p = take(2000, 0);
        said += ap__pack_give(span_of(p), p, "free");
    }
    cr_assert_eq(said, 10);
}

Test(pack, a_return_rings)
{
    init();
    char *p = take(2000, 0);
    ap__bell_listen(&ap__heap_bell);
    (void)take(2000, 0);
    cr_assert_eq(atomic_load(&ap__heap_bell.asleep), 1);
    give(p);
    cr_assert_eq(atomic_load(&ap__heap_bell.asleep), 0);
}

/* ------------------------------------------------------------ addresses */

Test(pack, only_packed_spans_are_found)
{
    init();
    char *p = take(2000, 0);
    struct ap__span *span = span_of(p);
    char *start = (char *)span->start;
    cr_assert_eq(ap__pack_span_of(start + SPAN_BYTES - 1), span);
    cr_assert_neq(ap__pack_span_of(start + SPAN_BYTES), span);
    cr_assert_neq(ap__pack_span_of(start - 1), span);
    cr_assert_null(ap__pack_span_of(NULL));
    cr_assert_null(ap__pack_span_of(&span));
    cr_assert_null(ap__pack_span_of((char *)ap__region_base()));
    void *small = NULL;
    cr_assert_eq(ap__central_take(4, &small, 1), 1);
    cr_assert_null(ap__pack_span_of(small));
}

Test(pack, a_span_that_was_there_before_is_not_found)
{
    enum { COUNT = AP_PACK_POOLS, GRANULES = COUNT * AP__PACK_SPAN_GRANULES };
    unsigned stale = 0;
    init();
    for (unsigned i = 0; i < COUNT; i++) {
        blocks[i] = take(LONGEST, i);
        cr_assert_eq(blocks[i] - blocks[0], (ptrdiff_t)i * SPAN_BYTES);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        give(blocks[i]);
    }
    /* One span now; the records of those before are used elsewhere, and granules in its middle lead to them still. */
    struct ap__span *large = ap__page_heap_take(GRANULES, AP_GRANULE, 0);
    cr_assert_not_null(large);
    large->large.size_bytes = 1;
    cr_assert_eq(large->start, (uintptr_t)blocks[0]);
    for (unsigned i = 0; i < COUNT; i++) {
        (void)take(LONGEST, i);
    }
    for (unsigned i = 0; i < GRANULES; i++) {
        size_t granule = ap__region_granule_of(large->start) + i;
        stale += ap__region_span_of(granule)->state == AP__SPAN_PACKED;
        cr_assert_null(ap__pack_span_of((void *)ap__region_address_of(granule)));
    }
    cr_assert_gt(stale, 0);
}

struct misuse {
    struct ap__span *span;
    char *p;
};

static void give_wrong(void *argument)
{
    struct misuse *wrong = argument;
    (void)ap__pack_give(wrong->span, wrong->p, "realloc");
}

static void expect_report(struct ap__span *span, char *p, const char *cause)
{
    struct misuse wrong = {span, p};
    struct child_result result;
    child_run(&result, give_wrong, &wrong);
    char expected[200];
    snprintf(expected, sizeof expected, "apmalloc: realloc(%p): %s\n", (void *)p, cause);
    cr_assert_eq(result.signal, SIGABRT);
    cr_assert_str_eq(result.text, expected);
}

static const char NOT_LIVE[] = "double free, or a pointer that was never allocated";
static const char INTERIOR[] = "pointer into the middle of a block";

Test(pack, what_is_no_block_is_reported)
{
    init();
    char *p = take(3000, 0);
    char *next = take(3000, 0);
    char *last = take(3000, 0);
    struct ap__span *span = span_of(p);
    expect_report(span, next + 1, INTERIOR);
    expect_report(span, next + 16, INTERIOR);
    expect_report(span, next + AP_UNIT_BYTES, INTERIOR);
    expect_report(span, next + 3072 - AP_UNIT_BYTES, INTERIOR);
    expect_report(span, last + 3072, NOT_LIVE);
    expect_report(span, last + 3072 + 16, NOT_LIVE);
    expect_report(span, (char *)span->start + SPAN_BYTES - AP_UNIT_BYTES, NOT_LIVE);
    give(next);
    expect_report(span, next, NOT_LIVE);
    expect_report(span, next + AP_UNIT_BYTES, NOT_LIVE);
    cr_assert_eq(usable(p), 3072);
    cr_assert_eq(usable(last), 3072);
    heap_check();
}

Test(pack, a_double_free_that_comes_after_its_span_has_gone_is_reported)
{
    init();
    char *p = take(3000, 0);
    struct ap__span *span = span_of(p);
    give(p);
    cr_assert_neq(span->state, AP__SPAN_PACKED);
    expect_report(span, p, NOT_LIVE);
}

static void on_abort(int signal)
{
    (void)signal;
    char *p = ap__pack_take(3000, 0);
    give(p);
    _Exit(p != NULL ? 7 : 1);
}

static void give_twice(void *argument)
{
    struct misuse *wrong = argument;
    (void)signal(SIGABRT, on_abort);
    (void)ap__pack_give(wrong->span, wrong->p, "free");
}

Test(pack, a_report_holds_no_lock)
{
    init();
    char *p = take(3000, 0);
    (void)take(3000, 0);
    struct misuse wrong = {span_of(p), p};
    give(p);
    struct child_result result;
    child_run(&result, give_twice, &wrong);
    cr_assert_eq(result.status, 7);
}

Test(pack, what_is_no_block_has_no_usable_size)
{
    init();
    char *p = take(3000, 0);
    char *q = take(3000, 0);
    struct ap__span *span = span_of(p);
    cr_assert_eq(ap__pack_usable_size(span, p), 3072);
    cr_assert_eq(ap__pack_usable_size(span, p + 1), 0);
    cr_assert_eq(ap__pack_usable_size(span, p + AP_UNIT_BYTES), 0);
    cr_assert_eq(ap__pack_usable_size(span, q + 3072), 0);
    cr_assert_eq(ap__pack_why_no_block(span, p + AP_UNIT_BYTES), AP__MISUSE_INTERIOR);
    cr_assert_eq(ap__pack_why_no_block(span, q + 3072), AP__MISUSE_NOT_LIVE);
    give(q);
    cr_assert_eq(ap__pack_usable_size(span, q), 0);
    cr_assert_eq(ap__pack_usable_size(span, p), 3072);
}

static atomic_bool is_over;

/* Blocks that touch the one at `next` come and go in front of it. */
static void *change_in_front(void *next)
{
    while (!atomic_load(&is_over)) {
        char *p = take(2000, 0);
        cr_assert_eq(p + 2048, next);
        give(p);
    }
    return NULL;
}

Test(pack, a_live_block_has_its_size_whatever_happens_in_front_of_it)
{
    pthread_t thread;
    init();
    char *front = take(2000, 0);
    char *p = take(2000, 0);
    struct ap__span *span = span_of(p);
    give(front);
    cr_assert_eq(pthread_create(&thread, NULL, change_in_front, p), 0);
    for (unsigned i = 0; i < LOOKS; i++) {
        cr_assert_eq(ap__pack_usable_size(span, p), 2048);
    }
    atomic_store(&is_over, true);
    pthread_join(thread, NULL);
}

/* ------------------------------------------------------------ length */

static bool resize(char *p, size_t size_bytes)
{
    return ap__pack_resize(span_of(p), p, usable(p), size_bytes);
}

Test(pack, a_block_gets_any_length_where_there_is_room)
{
    init();
    char *front = take(2000, 0);
    char *p = take(2000, 0);
    memset(front, 1, 2048);
    memset(p, 2, 2048);
    for (unsigned i = 0; i < 300; i++) {
        size_t size = AP__PACK_SIZE_MIN + (size_t)i * 7919 % SIZES;
        cr_assert(resize(p, size));
        size_t bytes = usable(p);
        cr_assert(bytes >= size && bytes < size + AP_UNIT_BYTES);
        cr_assert_eq(stats().block_bytes, 2048 + bytes);
        cr_assert_eq(ap__pack_block_bytes(), 2048 + bytes);
        cr_assert_eq(stats().blocks, 2);
        cr_assert(p[0] == 2 && p[1024] == 2);
        memset(p, 2, bytes);
        heap_check();
    }
    cr_assert_eq(front[2047], 1);
    give(p);
    cr_assert_eq(stats().block_bytes, 2048);
    cr_assert_eq(span_of(front)->packed.free_units, 8192 - 16);
}

Test(pack, what_a_shorter_block_leaves_is_used)
{
    init();
    char *p = take(LONGEST, 0);
    char *next = take(LONGEST, 0);
    cr_assert(resize(p, 1500));
    cr_assert_eq(take(LONGEST - 1536, 0), p + 1536);
    cr_assert_eq(take(LONGEST, 0), next + LONGEST);
    heap_check();
}

Test(pack, what_a_full_spans_block_leaves_brings_the_span_back)
{
    init();
    fill_spans(blocks, 2, 0);
    cr_assert(resize(blocks[20], 5000));
    cr_assert_eq(take(20000, 0), blocks[20] + 5120);
    cr_assert_eq(pool_spans(0), 2);
    heap_check();
}

Test(pack, a_block_does_not_grow_into_its_neighbour)
{
    init();
    char *p = take(2000, 0);
    char *q = take(2000, 0);
    char *r = take(2000, 0);
    cr_assert(!resize(p, 2049));
    cr_assert_eq(usable(p), 2048);
    cr_assert(resize(p, 2048), "it is as long as that");
    give(q);
    cr_assert(!resize(p, 4097));
    cr_assert_eq(usable(p), 2048);
    cr_assert_eq(stats().block_bytes, 4096);
    heap_check();
    cr_assert(resize(p, 4096));
    cr_assert_eq(usable(p), 4096);
    cr_assert_eq(usable(r), 2048);
    heap_check();
}

Test(pack, a_block_does_not_grow_beyond_its_span)
{
    init();
    fill_spans(blocks, 2, 0);
    cr_assert_eq(span_of(blocks[IN_SPAN - 1])->start, (uintptr_t)blocks[0]);
    char *last = blocks[IN_SPAN - 1];
    cr_assert(resize(last, 2000));
    char *behind = take(LONGEST - 2048, 0);
    cr_assert_eq(behind - last, 2048);
    cr_assert(!resize(behind, LONGEST));
    cr_assert_eq(usable(behind), LONGEST - 2048);
    heap_check();
}

Test(pack, a_length_that_is_not_packed_is_refused)
{
    init();
    char *p = take(2000, 0);
    cr_assert(!resize(p, 1024));
    cr_assert(!resize(p, 0));
    cr_assert(!resize(p, LONGEST + 1));
    cr_assert(!resize(p, SIZE_MAX));
    cr_assert_eq(usable(p), 2048);
    cr_assert(resize(p, 1025));
    cr_assert(resize(p, LONGEST));
    heap_check();
}

Test(pack, a_block_that_grows_into_all_that_is_free_takes_its_span_off_its_list)
{
    init();
    fill_spans(blocks, 1, 0);
    give(blocks[5]);
    char *p = take(LONGEST - 4096, 0);
    cr_assert_eq(p, blocks[5]);
    cr_assert(resize(p, LONGEST));
    cr_assert_eq(span_of(p)->packed.bucket, AP_PACK_NO_BUCKET);
    cr_assert_eq(span_of(p)->packed.free_units, 0);
    heap_check();
}

/* ------------------------------------------------------------ without memory */

Test(pack, without_memory_there_are_no_blocks_beyond_what_is_free)
{
    init();
    fill_spans(blocks, 1, 0);
    give(blocks[3]);
    refuse_memory(true);
    cr_assert_eq(take(LONGEST, 0), blocks[3]);
    cr_assert_null(ap__pack_take(1025, 0));
    cr_assert_eq(stats().blocks, IN_SPAN);
    heap_check();
    refuse_memory(false);
    (void)take(1025, 0);
    cr_assert_eq(stats().spans, 2);
}

Test(pack, what_the_kernel_refuses_is_no_blocks)
{
    unsigned count = 0;
    init();
    os_faults_fail_always(OS_FAULTS_MMAP);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    while (ap__pack_take(LONGEST, 0) != NULL) {
        count++;
    }
    cr_assert_eq(count % IN_SPAN, 0);
    cr_assert_eq(stats().blocks, count);
    os_faults_reset();
    (void)take(LONGEST, 0);
    heap_check();
}

/* ------------------------------------------------------------ populate */

static size_t resident_pages(const struct ap__span *span)
{
    unsigned char states[SPAN_BYTES / PAGE];
    size_t count = 0;
    cr_assert_eq(mincore((void *)span->start, SPAN_BYTES, states), 0);
    for (size_t i = 0; i < SPAN_BYTES / PAGE; i++) {
        count += states[i] & 1;
    }
    return count;
}

static void init_populating(bool populates)
{
    init();
    ap__pack_init(AP__WHEN_NEVER, populates);
    void *probe = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!ap__os_populate(probe, PAGE)) {
        cr_skip_test("the kernel does not populate");
    }
}

Test(pack, from_the_eighth_span_on_they_are_populated_a_granule_at_a_time)
{
    init_populating(true);
    fill_spans(blocks, POPULATED_FROM - 1, 0);
    for (unsigned i = 0; i < POPULATED_FROM - 1; i++) {
        cr_assert_eq(resident_pages(span_of(blocks[i * IN_SPAN])), 0, "span %u", i);
    }
    char *p = take(40000, 0);
    struct ap__span *span = span_of(p);
    cr_assert_eq(pool_spans(0), POPULATED_FROM);
    cr_assert_eq(resident_pages(span), PAGES_A_GRANULE);
    (void)take(20000, 0);
    cr_assert_eq(resident_pages(span), PAGES_A_GRANULE, "it lies in the first granule");
    (void)take(40000, 0);
    cr_assert_eq(resident_pages(span), 2 * PAGES_A_GRANULE);
    (void)take(LONGEST, 0);
    cr_assert_eq(resident_pages(span), 3 * PAGES_A_GRANULE);
    cr_assert(!span->packed.is_purged);
    os_faults_reset();
    give(p);
    cr_assert_eq(take(40000, 0), p);
    cr_assert_eq(os_faults_count(OS_FAULTS_MADVISE), 0, "what lies below is there");
    heap_check();
}

Test(pack, what_is_populated_goes_back_like_all_other)
{
    init_populating(true);
    fill_spans(blocks, POPULATED_FROM - 1, 0);
    struct ap__span *span = span_of(take(2000, 0));
    bool pending = false;
    cr_assert_gt(ap__pack_purge(0, 0, &pending), 0);
    cr_assert_eq(resident_pages(span), 1);
}

Test(pack, what_was_in_use_before_is_not_populated)
{
    init_populating(true);
    fill_spans(blocks, POPULATED_FROM - 1, 0);
    char *p = take(LONGEST, 1);
    (void)ap__os_discard(p, SPAN_BYTES);
    give(p);
    cr_assert_eq(take(LONGEST, 0), p);
    cr_assert_eq(resident_pages(span_of(p)), 0);
}

Test(pack, nothing_is_populated_where_that_is_not_wanted)
{
    init_populating(false);
    fill_spans(blocks, POPULATED_FROM + 2, 0);
    for (unsigned i = 0; i < POPULATED_FROM + 2; i++) {
        cr_assert_eq(resident_pages(span_of(blocks[i * IN_SPAN])), 0, "span %u", i);
    }
}

/* ------------------------------------------------------------ bounds of classes */

static void expect_bounds(size_t bytes)
{
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        size_t size = ap__size_class[c].size;
        bool may_be_packed = size > 1024 && size <= AP__PACK_SIZE_MAX;
        cr_assert_eq(ap__central_bound(c), may_be_packed ? bytes : SIZE_MAX, "class %u", c);
    }
}

Test(pack, classes_of_packed_sizes_have_a_bound)
{
    ap__pack_init(AP__WHEN_AUTO, false);
    expect_bounds(AP__PACK_BOUND_BYTES);
    ap__pack_init(AP__WHEN_ALWAYS, false);
    expect_bounds(0);
    ap__pack_init(AP__WHEN_NEVER, false);
    expect_bounds(SIZE_MAX);
}

static void come_and_go(size_t size, unsigned thread)
{
    for (unsigned i = 0; i < OFTEN; i++) {
        give(take(size, thread));
    }
}

/* A class and the fine one below it have that bound, all others another. */
static void expect_one_raised(size_t size)
{
    unsigned raised = ap__class_of_size(size);
    raised += ap__class_is_fine(raised);
    for (unsigned c = ap__class_of_size(AP__PACK_SIZE_MIN); c <= ap__class_of_size(LONGEST); c++) {
        bool is_raised = c == raised || c + 1 == raised;
        cr_assert_eq(ap__central_bound(c), is_raised ? AP__PACK_RAISED_BYTES : AP__PACK_BOUND_BYTES,
                     "%zu, class %u", size, c);
    }
}

Test(pack, the_class_of_blocks_that_come_and_go_gets_a_higher_bound)
{
    static const size_t sizes[] = {1152, 1280, 4096, 10000, 57344, 65536};
    init();
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        ap__pack_init(AP__WHEN_AUTO, false);
        memset(&ap__pack_pools[0].traffic, 0, sizeof ap__pack_pools[0].traffic);
        come_and_go(sizes[i], 0);
        expect_one_raised(sizes[i]);
    }
}

Test(pack, pools_see_their_own_traffic)
{
    init();
    ap__pack_init(AP__WHEN_AUTO, false);
    for (unsigned i = 0; i < OFTEN; i++) {
        give(take(4096, i));
    }
    cr_assert_eq(ap__central_bound(ap__class_of_size(4096)), AP__PACK_BOUND_BYTES);
}

Test(pack, other_bounds_stay_as_they_are)
{
    init();
    ap__pack_init(AP__WHEN_ALWAYS, false);
    come_and_go(4096, 0);
    expect_bounds(0);
    ap__pack_init(AP__WHEN_NEVER, false);
    come_and_go(8192, 0);
    expect_bounds(SIZE_MAX);
}

Test(pack, in_a_heap_with_many_packed_blocks_no_bound_is_raised)
{
    init();
    ap__pack_init(AP__WHEN_AUTO, false);
    while (ap__pack_block_bytes() < AP__PACK_RAISE_BYTES_MAX) {
        (void)take(LONGEST, 1);
    }
    come_and_go(4096, 0);
    expect_bounds(AP__PACK_BOUND_BYTES);
}

Test(pack, growth_raises_no_bound)
{
    init();
    ap__pack_init(AP__WHEN_AUTO, false);
    for (unsigned i = 0; i < 2000; i++) {
        (void)take(4096, 0);
    }
    expect_bounds(AP__PACK_BOUND_BYTES);
}

static void *wait_for_lock(void *lock)
{
    ap__lock_take(lock);
    ap__lock_release(lock);
    return NULL;
}

static uint64_t contended(const struct ap__lock *lock)
{
    struct ap__lock_stats figures = {0, 0};
    ap__lock_add_stats(lock, &figures);
    return figures.contended;
}

/* Another thread probably waits for this one: it counts itself if it came before the release. */
static void wait_once(struct ap__lock *lock)
{
    pthread_t thread;
    struct timespec pause = {0, 200000};
    ap__lock_take(lock);
    cr_assert_eq(pthread_create(&thread, NULL, wait_for_lock, lock), 0);
    (void)nanosleep(&pause, NULL);
    ap__lock_release(lock);
    pthread_join(thread, NULL);
}

Test(pack, waiting_for_the_lock_is_traffic)
{
    struct ap__lock *lock = &ap__pack_pools[0].lock;
    init();
    ap__pack_init(AP__WHEN_AUTO, false);
    for (unsigned waits = 0; waits < OFTEN;) {
        uint64_t before = contended(lock);
        wait_once(lock);
        if (contended(lock) != before) {
            waits++;
            (void)take(4096, 0);
        }
    }
    cr_assert_eq(ap__central_bound(ap__class_of_size(4096)), AP__PACK_RAISED_BYTES);
}

Test(pack, one_wait_counts_once)
{
    struct ap__lock *lock = &ap__pack_pools[0].lock;
    init();
    ap__pack_init(AP__WHEN_AUTO, false);
    do {
        wait_once(lock);
    } while (contended(lock) == 0);
    for (unsigned i = 0; i < 2 * OFTEN; i++) {
        (void)take(4096, 0);
    }
    expect_bounds(AP__PACK_BOUND_BYTES);
}

/* ------------------------------------------------------------ figures */

Test(pack, figures_are_of_all_pools)
{
    init();
    for (unsigned i = 0; i < 20; i++) {
        blocks[i] = take(3000, i);
    }
    struct ap__pack_stats figures = stats();
    cr_assert_eq(figures.spans, AP_PACK_POOLS);
    cr_assert_eq(figures.span_bytes, AP_PACK_POOLS * (size_t)SPAN_BYTES);
    cr_assert_eq(figures.blocks, 20);
    cr_assert_eq(figures.block_bytes, (size_t)20 * 3072);
    cr_assert_eq(ap__pack_block_bytes(), (size_t)20 * 3072);
    for (unsigned i = 0; i < 20; i++) {
        give(blocks[i]);
    }
    figures = stats();
    cr_assert_eq(figures.spans + figures.span_bytes + figures.blocks + figures.block_bytes, 0);
}
