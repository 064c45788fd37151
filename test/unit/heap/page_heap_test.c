/* SPDX-License-Identifier: MIT */
/*
 * page_heap_test.c: spans taken, given, grown, purged.
 * Goal: best fit, coalescing, alignment, exactness of what is known to be zero, and an unharmed heap
 * whatever the kernel refuses. Method: short sequences with known outcomes; a random one beside a model,
 * an array of granules that is searched from end to end; threads beside a purge. page_heap_check() walks the
 * whole heap in between. Seeds are printed.
 */
#include "heap/page_heap.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include "meta/meta.h"
#include "support/heap_check.h"
#include "support/os_faults.h"
#include "table/large_table.h"

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

static void init(size_t reserve_bytes)
{
    cr_assert(ap__region_init(reserve_bytes));
}

static struct ap__span *take(size_t granules)
{
    struct ap__span *span = ap__page_heap_take(granules, AP_GRANULE, 0);
    cr_assert_not_null(span);
    span->large.size_bytes = granules * AP_GRANULE;
    return span;
}

static struct ap__page_heap_stats stats(void)
{
    struct ap__page_heap_stats figures;
    ap__page_heap_stats(&figures);
    return figures;
}

Test(page_heap, first_spans_are_neighbours_from_the_start_of_the_region)
{
    init(GIB);
    struct ap__span *a = take(1);
    struct ap__span *b = take(3);
    cr_assert_eq(a->start, ap__region_address_of(ap__region_first_granule()));
    cr_assert_eq(b->start, a->start + AP_GRANULE);
    memset((void *)b->start, 1, 3 * AP_GRANULE);
    page_heap_check();
}

Test(page_heap, best_fit_takes_the_shortest_and_of_those_the_lowest)
{
    init(GIB);
    struct ap__span *spans[9];
    static const size_t lengths[9] = {4, 1, 2, 1, 3, 1, 2, 1, 1};
    uintptr_t starts[9];
    for (int i = 0; i < 9; i++) {
        spans[i] = take(lengths[i]);
        starts[i] = spans[i]->start;
    }
    for (int i = 0; i < 8; i += 2) {
        ap__page_heap_give(spans[i]);
    }
    cr_assert_eq(take(2)->start, starts[2]);
    cr_assert_eq(take(2)->start, starts[6]);
    cr_assert_eq(take(2)->start, starts[4]);
    cr_assert_eq(take(4)->start, starts[0]);
    page_heap_check();
}

Test(page_heap, neighbours_become_one_in_whatever_order_they_are_freed)
{
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    init(GIB);
    for (int i = 0; i < 6; i++) {
        struct ap__span *spans[3] = {take(2), take(3), take(4)};
        struct ap__span *wall = take(1);
        uintptr_t start = spans[0]->start;
        for (int k = 0; k < 3; k++) {
            ap__page_heap_give(spans[orders[i][k]]);
            page_heap_check();
        }
        struct ap__span *all = take(9);
        cr_assert_eq(all->start, start);
        ap__page_heap_give(all);
        ap__page_heap_give(wall);
        cr_assert_eq(page_heap_check().free_spans, 1);
    }
}

Test(page_heap, alignments_are_kept_and_what_is_cut_off_stays_usable)
{
    init(8 * GIB);
    for (size_t alignment = AP_GRANULE; alignment <= GIB; alignment *= 2) {
        struct ap__span *wall = take(1);
        struct ap__span *span = ap__page_heap_take(3, alignment, 0);
        cr_assert_not_null(span);
        cr_assert_eq(span->start % alignment, 0);
        cr_assert_eq(span->granules, 3);
        page_heap_check();
        ap__page_heap_give(span);
        ap__page_heap_give(wall);
        cr_assert_eq(page_heap_check().free_spans, 1);
    }
}

Test(page_heap, small_spans_are_in_both_maps_until_they_are_given_back)
{
    init(GIB);
    struct ap__span *span = ap__page_heap_take(5, AP_GRANULE, 17);
    size_t first = ap__region_granule_of(span->start);
    for (size_t i = first; i < first + 5; i++) {
        cr_assert_eq(ap__region_class_of(i), 17);
        cr_assert_eq(ap__page_heap_span_of(ap__region_address_of(i) + 999), span);
    }
    page_heap_check();
    ap__page_heap_give(span);
    for (size_t i = first; i < first + 5; i++) {
        cr_assert_eq(ap__region_class_of(i), 0);
    }
    page_heap_check();
}

Test(page_heap, a_span_extends_into_its_free_neighbour_only)
{
    init(GIB);
    struct ap__span *a = take(2);
    struct ap__span *b = take(2);
    struct ap__span *wall = take(1);
    cr_assert(!ap__page_heap_extend(a, 3));
    ap__page_heap_give(b);
    cr_assert(!ap__page_heap_extend(a, 5));
    cr_assert(ap__page_heap_extend(a, 3));
    page_heap_check();
    cr_assert(ap__page_heap_extend(a, 4));
    cr_assert(!ap__page_heap_extend(a, 5));
    cr_assert_eq(page_heap_check().large_spans, 2);
    cr_assert_eq(stats().large_bytes, 5 * AP_GRANULE);
    ap__page_heap_give(wall);
}

Test(page_heap, a_shortened_span_frees_its_end)
{
    init(GIB);
    struct ap__span *a = take(10);
    struct ap__span *wall = take(1);
    uintptr_t end = a->start + 4 * AP_GRANULE;
    a->large.size_bytes = 1;
    cr_assert(ap__page_heap_shorten(a, 4));
    page_heap_check();
    cr_assert_eq(take(6)->start, end);
    ap__page_heap_give(wall);
    page_heap_check();
}

Test(page_heap, fresh_memory_is_clean_used_memory_is_dirty_purged_memory_is_clean)
{
    init(GIB);
    struct ap__span *a = take(4);
    size_t first = ap__region_granule_of(a->start);
    cr_assert_eq(ap__region_count_dirty(first, 4), 0);
    memset((void *)a->start, 7, 4 * AP_GRANULE);
    ap__page_heap_give(a);
    cr_assert_eq(page_heap_check().dirty_granules, 4);
    cr_assert_eq(ap__page_heap_purge_all(), 4 * AP_GRANULE);
    cr_assert_eq(page_heap_check().dirty_granules, 0);
    cr_assert_eq(ap__page_heap_purge_all(), 0);
    a = take(4);
    cr_assert_eq(ap__region_granule_of(a->start), first);
    for (size_t i = 0; i < 4 * AP_GRANULE; i++) {
        cr_assert_eq(((char *)a->start)[i], 0);
    }
}

Test(page_heap, a_purge_that_the_kernel_refuses_ends_and_loses_nothing)
{
    init(GIB);
    struct ap__span *a = take(4);
    struct ap__span *wall = take(1);
    struct ap__span *b = take(4);
    struct ap__span *wall2 = take(1);
    ap__page_heap_give(a);
    ap__page_heap_give(b);
    os_faults_fail_always(OS_FAULTS_MADVISE);
    cr_assert_eq(ap__page_heap_purge_all(), 0);
    cr_assert_eq(page_heap_check().dirty_granules, 8);
    os_faults_reset();
    cr_assert_eq(ap__page_heap_purge_all(), 8 * AP_GRANULE);
    ap__page_heap_give(wall);
    ap__page_heap_give(wall2);
    page_heap_check();
}

Test(page_heap, refused_growth_yields_nothing_and_later_memory)
{
    init(GIB);
    struct ap__span *a = take(1);
    size_t held = stats().free_bytes / AP_GRANULE;
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    os_faults_fail_always(OS_FAULTS_MMAP);
    cr_assert_null(ap__page_heap_take(held + 1, AP_GRANULE, 0));
    page_heap_check();
    cr_assert_not_null(ap__page_heap_take(held, AP_GRANULE, 0)); /* what there is can be had */
    os_faults_reset();
    cr_assert_not_null(ap__page_heap_take(held + 1, AP_GRANULE, 0));
    ap__page_heap_give(a);
}

Test(page_heap, growth_is_by_chunks_and_falls_back_on_what_is_needed)
{
    init(64 * GIB);
    struct ap__span *a = take(1);
    cr_assert_lt(stats().usable_bytes, 4 * MIB); /* to the end of a huge page, and no further */
    ap__page_heap_give(a);
    struct rlimit limit = {stats().usable_bytes, RLIM_INFINITY};
    /* Too little for another chunk, and for the process's own data: nothing can be had. */
    cr_assert_eq(setrlimit(RLIMIT_DATA, &limit), 0);
    cr_assert_null(ap__page_heap_take(1000, AP_GRANULE, 0));
    limit.rlim_cur = RLIM_INFINITY;
    cr_assert_eq(setrlimit(RLIMIT_DATA, &limit), 0);
    cr_assert_not_null(ap__page_heap_take(1000, AP_GRANULE, 0));
}

Test(page_heap, a_used_up_region_is_continued_outside)
{
    init(8 * MIB);
    struct ap__span *inside[200];
    size_t count = 0;
    struct ap__span *outside = NULL;
    while (outside == NULL) {
        struct ap__span *span = ap__page_heap_take(4, AP_GRANULE, count % 2 == 0 ? 0 : 50);
        cr_assert_not_null(span);
        cr_assert_not(span->outside && ap__region_contains(span->start));
        if (span->outside) {
            outside = span;
        } else {
            inside[count++] = span;
        }
    }
    memset((void *)outside->start, 1, 4 * AP_GRANULE);
    struct ap__span *small = ap__page_heap_take(4, AP_GRANULE, 50);
    cr_assert(small->outside);
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(ap__page_heap_span_of(small->start + i * AP_GRANULE + 5), small);
    }
    uintptr_t gone = small->start;
    ap__page_heap_give(small);
    cr_assert_null(ap__page_heap_span_of(gone));
    struct ap__span *aligned = ap__page_heap_take(2, 4 * MIB, 0);
    cr_assert_eq(aligned->start % (4 * MIB), 0);
    ap__page_heap_give(aligned);
    ap__page_heap_give(outside);
    while (count-- > 0) {
        ap__page_heap_give(inside[count]);
    }
    cr_assert_eq(page_heap_check().free_spans, 1);
}

Test(page_heap, without_any_region_all_spans_are_outside)
{
    struct ap__span *span = ap__page_heap_take(4, AP_GRANULE, 0);
    cr_assert(span != NULL && span->outside);
    memset((void *)span->start, 1, 4 * AP_GRANULE);
    cr_assert_eq(stats().usable_bytes, 4 * AP_GRANULE);
    ap__page_heap_give(span);
    cr_assert_eq(stats().usable_bytes, 0);
}

/* Uses up all records, so that no span can be split. */
static void exhaust_records(void)
{
    os_faults_fail_always(OS_FAULTS_MMAP);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    while (ap__meta_take(AP_CACHE_LINE) != NULL) {
    }
    while (ap__span_record_take() != NULL) {
    }
}

Test(page_heap, without_records_exact_fits_are_had_and_all_else_changes_nothing)
{
    init(GIB);
    struct ap__span *spans[6];
    for (size_t i = 0; i < 6; i++) {
        spans[i] = take(i == 1 ? 5 : 4);
    }
    (void)take(stats().free_bytes / AP_GRANULE); /* nothing else is free */
    ap__page_heap_give(spans[1]);
    ap__page_heap_give(spans[3]);
    exhaust_records();
    /* What the free spans' own records allow is done before. */
    struct consistency_sums before = page_heap_check();
    cr_assert_eq(before.free_granules, 9);
    cr_assert_null(ap__page_heap_take(3, AP_GRANULE, 0));
    cr_assert_null(ap__page_heap_take(6, AP_GRANULE, 0));
    cr_assert(!ap__page_heap_extend(spans[2], 5), "the neighbour cannot be split");
    cr_assert(!ap__page_heap_shorten(spans[4], 1), "the end cannot become a span");
    cr_assert_eq(spans[2]->granules, 4);
    cr_assert_eq(spans[4]->granules, 4);
    struct consistency_sums after = page_heap_check();
    cr_assert_eq(after.free_spans, before.free_spans);
    cr_assert_eq(after.free_granules, before.free_granules);
    cr_assert_eq(after.dirty_granules, before.dirty_granules);
    cr_assert(ap__page_heap_extend(spans[2], 8), "as a whole it can be had");
    spans[1] = ap__page_heap_take(5, AP_GRANULE, 0);
    cr_assert_not_null(spans[1]);
    page_heap_check();
    ap__page_heap_give(spans[1]); /* its record comes back with it */
    os_faults_reset();
    cr_assert_not_null(ap__page_heap_take(3, AP_GRANULE, 0));
    page_heap_check();
}

Test(page_heap, a_cut_that_lacks_its_second_record_returns_the_first)
{
    init(GIB);
    const size_t alignment = 8 * AP_GRANULE;
    while (take(1)->start % alignment != 0) {
    }
    struct ap__span *span = take(20); /* one granule past a multiple: cut, it has two remains */
    (void)take(stats().free_bytes / AP_GRANULE);
    ap__page_heap_give(span);
    struct ap__span *last_record = ap__span_record_take();
    exhaust_records();
    ap__span_record_give(last_record);
    cr_assert_null(ap__page_heap_take(3, alignment, 0));
    cr_assert_eq(page_heap_check().free_granules, 20);
    cr_assert_not_null(ap__page_heap_take(3, AP_GRANULE, 0), "one record is there");
    page_heap_check();
}

Test(page_heap, moved_pages_are_mapped_afresh_or_stay_dirty)
{
    init(GIB);
    struct ap__span *a = take(4);
    struct ap__span *wall = take(1);
    for (int refused = 0; refused < 2; refused++) {
        size_t first = ap__region_granule_of(a->start);
        memset((void *)a->start, 7, 4 * AP_GRANULE);
        a->moved = true;
        if (refused) {
            os_faults_fail_always(OS_FAULTS_MMAP);
        }
        ap__page_heap_give(a);
        os_faults_reset();
        cr_assert_eq(ap__region_count_dirty(first, 4), refused ? 4 : 0);
        cr_assert_eq(page_heap_check().dirty_granules, refused ? 4 : 0);
        a = take(4);
        cr_assert_eq(ap__region_granule_of(a->start), first);
        cr_assert(!a->moved);
        cr_assert_eq(*(char *)a->start, refused ? 7 : 0);
    }
    ap__page_heap_give(wall);
}

Test(page_heap, a_mapping_that_cannot_be_unmapped_gives_its_memory_back)
{
    struct ap__span *span = ap__page_heap_take(4, AP_GRANULE, 0);
    cr_assert(span != NULL && span->outside);
    char *p = (char *)span->start;
    memset(p, 1, 4 * AP_GRANULE);
    os_faults_fail_always(OS_FAULTS_MUNMAP);
    ap__page_heap_give(span);
    unsigned char resident = 0;
    cr_assert_eq(mincore(p, 4096, &resident), 0, "it is still mapped");
    cr_assert_eq(resident & 1, 0);
    cr_assert_eq(stats().usable_bytes, 0);
    os_faults_reset();
    cr_assert_not_null(ap__page_heap_take(4, AP_GRANULE, 0));
}

enum { OUTSIDE_GRANULES = 16 };

/* Keys that no mapping has. */
static uintptr_t fake_key(size_t i)
{
    return ((uintptr_t)1 << 50) + i * AP_GRANULE;
}

Test(page_heap, a_table_that_cannot_take_all_granules_of_an_outside_span_takes_none)
{
    struct ap__span *first = ap__page_heap_take(4, AP_GRANULE, 50); /* records are mapped now */
    cr_assert(first != NULL && first->outside);
    uint32_t record;
    size_t count = 0;
    os_faults_fail_always(OS_FAULTS_MMAP);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    while (ap__meta_take(AP_CACHE_LINE) != NULL) {
    }
    while (ap__large_table_insert(fake_key(count), 0)) {
        count++;
    }
    os_faults_reset();
    for (size_t i = 0; i < OUTSIDE_GRANULES / 2; i++) {
        cr_assert(ap__large_table_delete(fake_key(i), &record));
    }
    struct ap__large_table_stats before, after;
    size_t usable;
    struct ap__span *refused;
    do { /* the mapping is granted, a larger table is not */
        ap__large_table_stats(&before);
        usable = stats().usable_bytes;
        os_faults_fail_always(OS_FAULTS_MPROTECT);
        os_faults_fail_nth(OS_FAULTS_MMAP, 2);
        refused = ap__page_heap_take(OUTSIDE_GRANULES, AP_GRANULE, 50);
        os_faults_reset();
    } while (refused != NULL);
    ap__large_table_stats(&after);
    cr_assert_eq(after.live, before.live);
    cr_assert_eq(stats().usable_bytes, usable);
    cr_assert(ap__large_table_is_valid());
    struct ap__span *span = ap__page_heap_take(4, AP_GRANULE, 50);
    cr_assert_not_null(span);
    cr_assert_eq(ap__page_heap_span_of(span->start + 3 * AP_GRANULE), span);
    cr_assert_eq(ap__page_heap_span_of(first->start), first);
}

/* ------------------------------------------------------------ beside a model */

/* MOST: granules of the model; held spans never come near it. */
enum { HELD_MAX = 100, ROUNDS = 8000, CHECK_EVERY = 37, MOST = 1 << 16 };

static struct ap__span *held[HELD_MAX];

/* By granule of the region: who has it, 0 for nobody; and whether it is known to be zero. */
static struct {
    uint8_t owner[MOST];
    bool clean[MOST];
    size_t first, limit;
} model;

static size_t random_below(size_t n)
{
    return (size_t)rand() % n;
}

/* What the heap made usable since the last look. */
static void model_growth(void)
{
    size_t limit = ap__region_limit_granules();
    cr_assert_lt(limit, MOST);
    memset(model.clean + model.limit, true, limit - model.limit);
    model.limit = limit;
}

/* Start of the shortest run of at least `granules` free ones, the lowest of several; 0: none. */
static size_t model_best_fit(size_t granules)
{
    size_t best = 0;
    size_t best_length = SIZE_MAX;
    for (size_t at = model.first; at < model.limit;) {
        size_t length = 0;
        while (at + length < model.limit && model.owner[at + length] == 0) {
            length++;
        }
        if (length >= granules && length < best_length) {
            best = at;
            best_length = length;
        }
        at += length + 1;
    }
    return best;
}

/* A byte at each end of a granule, as a sign of who has it; clean ones must be zero before. */
static void stamp(size_t granule, uint8_t owner)
{
    volatile uint8_t *p = (void *)ap__region_address_of(granule);
    if (ap__region_is_clean(granule)) {
        cr_assert_eq(p[0] + p[AP_GRANULE / 2] + p[AP_GRANULE - 1], 0);
    }
    p[0] = p[AP_GRANULE - 1] = owner;
}

static void own(size_t first, size_t granules, uint8_t owner)
{
    for (size_t i = first; i < first + granules; i++) {
        cr_assert_eq(model.owner[i], 0, "nobody else has it");
        cr_assert_eq(ap__region_is_clean(i), model.clean[i]);
        model.owner[i] = owner;
        stamp(i, owner);
    }
}

static void disown(size_t first, size_t granules, uint8_t owner)
{
    for (size_t i = first; i < first + granules; i++) {
        const volatile uint8_t *p = (void *)ap__region_address_of(i);
        cr_assert(p[0] == owner && p[AP_GRANULE - 1] == owner, "nobody else wrote there");
        cr_assert_eq(model.owner[i], owner);
        model.owner[i] = 0;
        model.clean[i] = false;
    }
}

static void take_random(size_t slot)
{
    size_t granules = 1 + random_below(random_below(8) == 0 ? 300 : 12);
    size_t alignment = AP_GRANULE << random_below(random_below(4) == 0 ? 7 : 1);
    unsigned size_class = random_below(2) == 0 ? 0 : 1 + (unsigned)random_below(AP_CLASS_COUNT - 1);
    size_t wanted = granules + alignment / AP_GRANULE - 1;
    size_t fit = model_best_fit(wanted);
    struct ap__span *span = ap__page_heap_take(granules, alignment, size_class);
    cr_assert_not_null(span);
    cr_assert_eq(fit == 0, ap__region_limit_granules() != model.limit, "grows if it must, only");
    model_growth();
    fit = model_best_fit(wanted);
    size_t step = alignment / AP_GRANULE;
    size_t base = ap__region_base() / AP_GRANULE; /* granules are aligned as addresses */
    cr_assert_eq(ap__region_granule_of(span->start), (base + fit + step - 1) / step * step - base);
    own(ap__region_granule_of(span->start), granules, (uint8_t)(slot + 1));
    if (size_class == 0) {
        span->large.size_bytes = 1;
    }
    held[slot] = span;
}

static void resize_random(size_t slot)
{
    struct ap__span *span = held[slot];
    size_t old = span->granules;
    size_t granules = 1 + random_below(2 * old);
    size_t end = ap__region_granule_of(span->start) + old;
    if (granules > old) {
        size_t room = 0;
        while (end + room < model.limit && model.owner[end + room] == 0) {
            room++;
        }
        cr_assert_eq(ap__page_heap_extend(span, granules), room >= granules - old);
        if (room >= granules - old) {
            own(end, granules - old, (uint8_t)(slot + 1));
        }
    } else if (granules < old) {
        cr_assert(ap__page_heap_shorten(span, granules));
        disown(end - (old - granules), old - granules, (uint8_t)(slot + 1));
    }
}

static void give(size_t slot)
{
    struct ap__span *span = held[slot];
    disown(ap__region_granule_of(span->start), span->granules, (uint8_t)(slot + 1));
    ap__page_heap_give(span);
    held[slot] = NULL;
}

static void purge(void)
{
    size_t dirty = 0;
    for (size_t i = model.first; i < model.limit; i++) {
        if (model.owner[i] == 0 && !model.clean[i]) {
            dirty++;
            model.clean[i] = true;
        }
    }
    cr_assert_eq(ap__page_heap_purge_all(), dirty * AP_GRANULE);
}

static void compare_with_model(void)
{
    struct consistency_sums sums = page_heap_check();
    size_t unused = 0, dirty = 0, spans = 0;
    for (size_t i = model.first; i < model.limit; i++) {
        unused += model.owner[i] == 0;
        dirty += model.owner[i] == 0 && !model.clean[i];
    }
    for (size_t i = 0; i < HELD_MAX; i++) {
        spans += held[i] != NULL;
    }
    cr_assert_eq(sums.free_granules, unused);
    cr_assert_eq(sums.dirty_granules, dirty);
    cr_assert_eq(sums.large_spans + sums.small_spans, spans);
}

Test(page_heap, does_what_the_model_does_through_random_use, .timeout = 100)
{
    unsigned seed = (unsigned)time(NULL);
    printf("# page_heap: seed %u\n", seed);
    srand(seed);
    init(64 * GIB);
    model.first = model.limit = ap__region_first_granule();
    for (int round = 0; round < ROUNDS; round++) {
        size_t slot = random_below(HELD_MAX);
        if (held[slot] == NULL) {
            take_random(slot);
        } else if (held[slot]->state == AP__SPAN_LARGE && random_below(3) == 0) {
            resize_random(slot);
        } else {
            give(slot);
        }
        if (random_below(200) == 0) {
            purge();
        }
        if (round % CHECK_EVERY == 0) {
            compare_with_model();
        }
    }
    for (size_t slot = 0; slot < HELD_MAX; slot++) {
        if (held[slot] != NULL) {
            give(slot);
        }
    }
    cr_assert_eq(page_heap_check().free_spans, 1);
    purge();
    compare_with_model();
}

/* ------------------------------------------------------------ threads */

enum { THREADS = 3, OPERATIONS = 20000, HELD_BY_THREAD = 8 };

static _Atomic(bool) stop;
static pthread_barrier_t start;

static void take_and_give(unsigned seed)
{
    struct ap__span *mine[HELD_BY_THREAD] = {NULL};
    for (int i = 0; i < OPERATIONS; i++) {
        size_t k = (size_t)rand_r(&seed) % HELD_BY_THREAD;
        if (mine[k] != NULL) {
            cr_assert_eq(*(volatile uintptr_t *)mine[k]->start, (uintptr_t)&mine[k]);
            ap__page_heap_give(mine[k]);
        }
        mine[k] = take(1 + (size_t)rand_r(&seed) % 6);
        volatile uintptr_t *word = (volatile uintptr_t *)mine[k]->start;
        if (ap__region_is_clean(ap__region_granule_of(mine[k]->start))) {
            cr_assert_eq(*word, 0, "known to be zero");
        }
        *word = (uintptr_t)&mine[k];
    }
    for (size_t k = 0; k < HELD_BY_THREAD; k++) {
        if (mine[k] != NULL) {
            ap__page_heap_give(mine[k]);
        }
    }
}

static void *take_and_give_in_thread(void *number)
{
    pthread_barrier_wait(&start);
    take_and_give((unsigned)(uintptr_t)number);
    return NULL;
}

static void *purge_until_told(void *unused)
{
    pthread_barrier_wait(&start);
    while (!atomic_load(&stop)) {
        (void)ap__page_heap_purge_all();
    }
    return unused;
}

Test(page_heap, a_purge_beside_other_threads_takes_nothing_of_theirs, .timeout = 100)
{
    init(GIB);
    pthread_t threads[THREADS];
    pthread_t purging;
    pthread_barrier_init(&start, NULL, THREADS + 1);
    cr_assert_eq(pthread_create(&purging, NULL, purge_until_told, NULL), 0);
    for (uintptr_t i = 0; i < THREADS; i++) {
        cr_assert_eq(pthread_create(&threads[i], NULL, take_and_give_in_thread, (void *)i), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    atomic_store(&stop, true);
    pthread_join(purging, NULL);
    cr_assert_eq(page_heap_check().free_spans, 1);
}

/* ------------------------------------------------------------ what is left to others meanwhile */

enum { BIG_GRANULES = 2048, PIECE_GRANULES = 700 };
static unsigned purges_watched;

static void take_during_purge(void)
{
    size_t usable_bytes = stats().usable_bytes;
    os_faults_watch(OS_FAULTS_MADVISE, NULL); /* but for the calls that are made now */
    struct ap__span *span = take(PIECE_GRANULES);
    cr_assert_eq(stats().usable_bytes, usable_bytes, "the heap grew during a purge");
    ap__page_heap_give(span);
    os_faults_watch(OS_FAULTS_MADVISE, take_during_purge);
    purges_watched++;
}

static void purge_ends(bool both)
{
    init(GIB);
    struct ap__span *head = take(4);
    struct ap__span *middle = take(BIG_GRANULES - 8);
    struct ap__span *tail = take(4);
    ap__page_heap_give(both ? middle : tail);
    (void)ap__page_heap_purge_all();
    ap__page_heap_give(head);
    ap__page_heap_give(both ? tail : middle);
    os_faults_watch(OS_FAULTS_MADVISE, take_during_purge);
    (void)ap__page_heap_purge(AP__DIRTY_LONG, 0);
    os_faults_reset();
    cr_assert_neq(purges_watched, 0);
    (void)ap__page_heap_purge_all();
    cr_assert_eq(page_heap_check().dirty_granules, 0);
    cr_assert_eq(page_heap_check().free_spans, 1);
}

Test(page_heap, a_purge_of_all_but_one_end_leaves_most_of_a_big_span_to_others)
{
    purge_ends(false);
}

Test(page_heap, a_purge_of_a_little_at_both_ends_leaves_most_of_a_big_span_to_others)
{
    purge_ends(true);
}

/* While a span is being purged nobody can have it. That must not be all of a big one. */
Test(page_heap, a_purge_leaves_the_rest_of_a_long_span_to_others, .timeout = 100)
{
    enum { LONG_GRANULES = 2048, TAKES = 200 };
    struct ap__page_heap_stats before, after;
    pthread_t purging;
    init(GIB);
    pthread_barrier_init(&start, NULL, 2);
    struct ap__span *span = ap__page_heap_take(LONG_GRANULES, AP_GRANULE, 0);
    cr_assert_not_null(span);
    ap__page_heap_give(span);
    ap__page_heap_stats(&before);
    cr_assert_eq(pthread_create(&purging, NULL, purge_until_told, NULL), 0);
    pthread_barrier_wait(&start);
    for (unsigned i = 0; i < TAKES; i++) {
        /* There is room for it on one side of what is being purged. Its pages make the purge slow. */
        span = ap__page_heap_take(LONG_GRANULES / 4, AP_GRANULE, 0);
        cr_assert_not_null(span);
        for (size_t at = 0; at < ap__span_bytes(span); at += 4096) {
            ((volatile char *)span->start)[at] = 1;
        }
        ap__page_heap_give(span);
    }
    atomic_store(&stop, true);
    cr_assert_eq(pthread_join(purging, NULL), 0);
    ap__page_heap_stats(&after);
    cr_assert_leq(after.usable_bytes, before.usable_bytes, "the heap grew by %zu KiB",
                  (after.usable_bytes - before.usable_bytes) >> 10);
}
