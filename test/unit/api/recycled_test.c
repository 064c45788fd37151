/* SPDX-License-Identifier: MIT */
/*
 * recycled_test.c: packed blocks that replace each other, in a heap of more than 16 MiB of them.
 * Goal: they come to be kept in thread caches beside those of the class, which spares the lock; nothing is lost or
 * handed out twice on the way there and back, every figure is right, and what threads leave behind goes home. Method:
 * a heap of marked blocks of which two thirds are packed; exchanges until the class is recycled; then all that may
 * happen to such blocks, with a walk of the whole heap afterwards.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "apmalloc.h"
#include "cache/idle.h"
#include "cache/thread.h"
#include "central/central_free_list.h"
#include "central/transfer_cache.h"
#include "decay/decay.h"
#include "heap/heap_limits.h"
#include "heap/page_heap.h"
#include "os/lock.h"
#include "pack/pack.h"
#include "pack/pack_place.h"
#include "pack/pack_pools.h"
#include "support/child.h"
#include "support/heap_check.h"
#include "support/recycle.h"

enum {
    SIZE = 4096,         /* that of a class */
    MOST_SHORTER = 1500, /* bytes by which random sizes are less */
    HELD = 6000,         /* blocks; 24 MiB */
    OFTEN = 20000,
    UNIT = AP_UNIT_BYTES
};

static unsigned char *held[HELD];
static size_t sizes[HELD];
static unsigned size_class;

TestSuite(recycled, .timeout = 120);

static bool is_packed(const void *p)
{
    return ap__pack_span_of(p) != NULL;
}

/* ------------------------------------------------------------ a heap of marked blocks */

static void hold(unsigned i, size_t size)
{
    held[i] = ap_malloc(size);
    cr_assert_not_null(held[i]);
    cr_assert_geq(ap_usable_size(held[i]), size);
    sizes[i] = size;
    memcpy(held[i], &i, sizeof i);
    memcpy(held[i] + size - sizeof i, &i, sizeof i);
}

static void release(unsigned i)
{
    if (held[i] != NULL) {
        cr_assert(memcmp(held[i], &i, sizeof i) == 0 &&
                      memcmp(held[i] + sizes[i] - sizeof i, &i, sizeof i) == 0,
                  "block %u of %zu bytes", i, sizes[i]);
        ap_free(held[i]);
        held[i] = NULL;
    }
}

static size_t random_size(void)
{
    return SIZE - (size_t)rand() % MOST_SHORTER;
}

/* A block is freed and another taken, again and again. `varied`: of random sizes. */
static void exchange(unsigned times, bool varied)
{
    for (unsigned n = 0; n < times; n++) {
        unsigned i = (unsigned)rand() % HELD;
        release(i);
        hold(i, varied ? random_size() : SIZE);
    }
}

static void begin(bool varied)
{
    srand(1);
    size_class = ap__class_of_size(SIZE);
    cr_assert_eq(ap__size_class[size_class].size, SIZE);
    for (unsigned i = 0; i < HELD; i++) {
        hold(i, varied ? random_size() : SIZE);
    }
    cr_assert_gt(ap__pack_block_bytes(), AP__PACK_RAISE_BYTES_MAX);
    cr_assert(!ap__pack_recycles_any());
    exchange(2 * HELD, varied);
    cr_assert(ap__pack_is_recycled(size_class));
}

static size_t held_bytes(void)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < HELD; i++) {
        bytes += held[i] != NULL ? ap_usable_size(held[i]) : 0;
    }
    return bytes;
}

static void release_all(void)
{
    for (unsigned i = 0; i < HELD; i++) {
        release(i);
    }
}

static size_t packed_blocks(void)
{
    struct ap__pack_stats figures;
    ap__pack_stats(&figures);
    return figures.blocks;
}

static size_t held_packed(void)
{
    size_t count = 0;
    for (unsigned i = 0; i < HELD; i++) {
        count += held[i] != NULL && is_packed(held[i]);
    }
    return count;
}

static void expect_all_there(void)
{
    struct consistency_sums sums = heap_check();
    cr_assert_eq(sums.packed_blocks - sums.cached_packed_blocks, held_packed());
}

/* Frees half of the blocks: so the caches have packed ones. */
static void release_half(void)
{
    for (unsigned i = 0; i < HELD; i += 2) {
        release(i);
    }
    cr_assert_gt(heap_check().cached_packed_blocks, 0);
}

/* Neither this thread keeps any block, nor is one on its way. */
static void empty_caches(void)
{
    ap_thread_idle();
    ap__decay_empty_caches("free");
}

/* All go, and no packed span is left. */
static void end(void)
{
    expect_all_there();
    release_all();
    empty_caches();
    struct consistency_sums sums = heap_check();
    cr_assert_eq(sums.packed_blocks, 0);
    cr_assert_eq(sums.packed_spans, 0);
    cr_assert_eq(sums.cached_packed_blocks, 0);
}

/* ------------------------------------------------------------ locks */

static uint64_t locks_taken(void)
{
    struct ap__lock_stats figures = {0, 0};
    for (unsigned number = 0; number < AP_PACK_POOLS; number++) {
        ap__lock_add_stats(&ap__pack_pools[number].lock, &figures);
    }
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        ap__lock_add_stats(ap__central_lock(0, c), &figures);
    }
    ap__lock_add_stats(ap__page_heap_lock(), &figures);
    return figures.taken;
}

static unsigned index_of_packed(void)
{
    unsigned i = 0;
    while (!is_packed(held[i]) || ap_usable_size(held[i]) != SIZE) {
        i++;
        cr_assert_lt(i, HELD);
    }
    return i;
}

Test(recycled, to_exchange_a_block_takes_no_lock)
{
    begin(false);
    unsigned i = index_of_packed();
    release(i);
    hold(i, SIZE);
    uint64_t before = locks_taken();
    for (unsigned n = 0; n < OFTEN; n++) {
        const void *p = held[i];
        release(i);
        hold(i, SIZE - n % 250);
        cr_assert_eq(held[i], p);
    }
    cr_assert_eq(locks_taken(), before);
    cr_assert(is_packed(held[i]));
    end();
}

Test(recycled, to_exchange_any_takes_few)
{
    for (int varied = 0; varied < 2; varied++) {
        begin(varied != 0);
        exchange(2 * OFTEN,
                 varied != 0); /* those from before are as long as they were asked to be */
        uint64_t before = locks_taken();
        size_t blocks = packed_blocks();
        exchange(OFTEN, varied != 0);
        cr_assert_lt(locks_taken() - before, OFTEN / 8);
        cr_assert_leq(packed_blocks(), blocks + OFTEN / 100);
        end();
        recycle_none();
    }
}

Test(recycled, all_that_is_taken_from_then_on_is_as_long_as_the_class)
{
    begin(true);
    for (unsigned n = 0; n < HELD; n++) {
        unsigned i = (unsigned)rand() % HELD;
        release(i);
        size_t size = SIZE - (size_t)rand() % 512; /* that no other class has */
        hold(i, size);
        cr_assert_eq(ap_usable_size(held[i]), SIZE);
    }
    end();
}

/* The class has all the spans that it may have, and nothing free in them. */
static unsigned take_until_at_bound(void **taken, unsigned most)
{
    unsigned count = 0;
    do {
        cr_assert_lt(count, most);
        taken[count] = ap_malloc(SIZE);
        cr_assert_not_null(taken[count]);
    } while (!is_packed(taken[count++]));
    cr_assert(ap__central_is_at_bound(size_class));
    return count;
}

Test(recycled, what_a_fold_hides_is_taken_before_anything_is_packed)
{
    enum { FEW = 40 };
    static void *taken[1000];
    begin(false);
    empty_caches();
    unsigned count = take_until_at_bound(taken, 1000);
    for (unsigned round = 0; round < 100; round++) {
        unsigned released[FEW], i = (unsigned)rand() % HELD;
        size_t blocks = packed_blocks();
        for (unsigned n = 0; n < FEW; i = (i + 1) % HELD) {
            if (is_packed(held[i])) {
                release(i);
                released[n++] = i;
            }
        }
        for (unsigned n = 0; n < FEW; n++) {
            hold(released[n], SIZE);
        }
        cr_assert_eq(packed_blocks(), blocks);
    }
    while (count != 0) {
        ap_free(taken[--count]);
    }
    end();
}

/* ------------------------------------------------------------ lengths */

static void shrink_to(unsigned i, size_t size)
{
    void *p = held[i];
    cr_assert_eq(ap_realloc(p, size), p);
    sizes[i] = size;
    memcpy(held[i] + size - sizeof i, &i, sizeof i);
}

Test(recycled, a_block_that_was_cut_is_its_pool_s_again)
{
    begin(false);
    unsigned i = index_of_packed();
    shrink_to(i, 2200);
    cr_assert_eq(ap_usable_size(held[i]), 18 * UNIT);
    size_t blocks = packed_blocks(), bytes = ap__pack_block_bytes();
    release(i);
    cr_assert_eq(packed_blocks(), blocks - 1);
    cr_assert_eq(ap__pack_block_bytes(), bytes - 18 * UNIT);
    end();
}

Test(recycled, one_that_was_cut_and_grew_again_is_kept)
{
    begin(false);
    unsigned i = index_of_packed();
    unsigned char *p = held[i];
    shrink_to(i, 2200);
    cr_assert_eq(ap_realloc(p, SIZE), p, "what was cut off is free still");
    cr_assert_eq(ap_usable_size(p), SIZE);
    sizes[i] = 2200; /* where the mark is */
    size_t blocks = packed_blocks();
    release(i);
    cr_assert_eq(packed_blocks(), blocks);
    cr_assert_eq(ap_malloc(SIZE), p, "it is the newest");
    ap_free(p);
    end();
}

/* The block that lies behind another, HELD: none is held. */
static unsigned index_of(const unsigned char *p)
{
    unsigned i = 0;
    while (i < HELD && held[i] != p) {
        i++;
    }
    return i;
}

Test(recycled, one_that_grew_into_what_is_behind_it_is_its_pool_s_again)
{
    begin(false);
    unsigned i = 0, behind;
    while (!is_packed(held[i]) || (behind = index_of(held[i] + SIZE)) == HELD ||
           !is_packed(held[behind])) {
        i++;
        cr_assert_lt(i, HELD);
    }
    release(behind);
    empty_caches();
    unsigned char *p = held[i];
    cr_assert_eq(ap_realloc(p, 6000), p);
    cr_assert_eq(ap_usable_size(p), 47 * UNIT);
    size_t blocks = packed_blocks();
    release(i);
    cr_assert_eq(packed_blocks(), blocks - 1);
    end();
}

Test(recycled, all_kinds_of_resizing_keep_what_is_there)
{
    begin(true);
    for (unsigned n = 0; n < OFTEN; n++) {
        unsigned i = (unsigned)rand() % HELD;
        size_t size = 600 + (size_t)rand() % 9000, before = sizes[i];
        unsigned start;
        held[i] = ap_realloc(held[i], size);
        cr_assert_not_null(held[i]);
        memcpy(&start, held[i], sizeof start);
        cr_assert_eq(start, i);
        if (size >= before) {
            memcpy(&start, held[i] + before - sizeof start, sizeof start);
            cr_assert_eq(start, i);
        }
        sizes[i] = size;
        memcpy(held[i] + size - sizeof i, &i, sizeof i);
        if (rand() % 2 == 0) {
            release(i);
            hold(i, random_size());
        }
    }
    end();
}

/* ------------------------------------------------------------ alignment */

Test(recycled, what_is_asked_for_at_an_alignment_has_it)
{
    static void *aligned[500];
    unsigned seed = (unsigned)time(NULL), misaligned = 0;
    begin(true);
    fprintf(stderr, "seed %u\n", seed);
    srand(seed);
    for (unsigned n = 0; n < OFTEN; n++) {
        size_t alignment = (size_t)16 << rand() % 9, size = random_size();
        unsigned which = (unsigned)rand() % 500, i = (unsigned)rand() % HELD;
        release(i);
        misaligned += (uintptr_t)ap__slot_load(
                          ap__free_list_top(&ap__thread_cache_current->lists[size_class])) %
                          alignment !=
                      0;
        ap_free(aligned[which]);
        aligned[which] = ap_aligned_alloc(alignment, size);
        cr_assert_eq((uintptr_t)aligned[which] % alignment, 0);
        cr_assert_geq(ap_usable_size(aligned[which]), size);
        hold(i, random_size());
    }
    cr_assert_gt(misaligned, OFTEN / 20, "there were some to be avoided");
    for (unsigned which = 0; which < 500; which++) {
        ap_free(aligned[which]);
    }
    end();
}

/* Nothing but what is on its way between threads is left. */
Test(recycled, nor_at_a_limit_is_a_packed_one_handed_out_that_is_not_so_aligned)
{
    enum { ALIGNMENT = 2048 };
    struct ap__page_heap_stats heap;
    unsigned got = 0;
    void *p;
    begin(true);
    exchange(2 * OFTEN, true);
    release_half();
    ap_thread_idle();
    cr_assert_gt(ap__transfer_count(size_class), 20);
    ap__page_heap_stats(&heap);
    ap__heap_limits_set_hard(heap.usable_bytes - heap.free_bytes);
    while ((p = ap_aligned_alloc(ALIGNMENT, SIZE)) != NULL) {
        cr_assert_eq((uintptr_t)p % ALIGNMENT, 0, "block %u", got);
        held[2 * got++] = p;
        cr_assert_lt(got, HELD / 2);
    }
    cr_assert_eq(errno, ENOMEM);
    cr_assert_eq(ap__transfer_count(size_class), 0);
    ap__heap_limits_set_hard(SIZE_MAX);
    while (got != 0) {
        ap_free(held[2 * --got]);
        held[2 * got] = NULL;
    }
    end();
}

/* ------------------------------------------------------------ figures */

static size_t live_bytes(void)
{
    return ap_mallinfo2().uordblks;
}

Test(recycled, what_caches_keep_is_not_live)
{
    size_t before = live_bytes();
    begin(true);
    cr_assert_eq(live_bytes() - before, held_bytes());
    release_half();
    cr_assert_eq(live_bytes() - before, held_bytes());
    release_all();
    cr_assert_eq(live_bytes(), before);
    struct ap_mallinfo2 info = ap_mallinfo2();
    cr_assert_geq(info.fsmblks, (size_t)(SIZE - MOST_SHORTER) * heap_check().cached_packed_blocks);
    cr_assert_eq(info.uordblks + info.fordblks, info.arena);
    ap_thread_idle();
    cr_assert_eq(live_bytes(), before);
}

/* ------------------------------------------------------------ threads that leave blocks behind */

enum way { IDLE, EXIT, SLEEP };
static pthread_barrier_t gate;
static enum way way;

static void *leave_behind(void *unused)
{
    for (unsigned i = 0; i < HELD; i += 3) {
        release(i);
    }
    if (way == IDLE) {
        ap_thread_idle();
    }
    (void)pthread_barrier_wait(&gate);
    if (way != EXIT) {
        (void)pthread_barrier_wait(&gate); /* has been looked at */
    }
    return unused;
}

static pthread_t start_leaving(enum way how)
{
    pthread_t thread;
    way = how;
    begin(false);
    (void)pthread_barrier_init(&gate, NULL, 2);
    cr_assert_eq(pthread_create(&thread, NULL, leave_behind, NULL), 0);
    (void)pthread_barrier_wait(&gate);
    return thread;
}

/* What this thread has itself does not count. */
static void expect_none_kept(void)
{
    empty_caches();
    cr_assert_eq(heap_check().cached_packed_blocks, 0);
    cr_assert_eq(packed_blocks(), held_packed());
}

Test(recycled, an_idle_thread_keeps_none)
{
    pthread_t thread = start_leaving(IDLE);
    expect_none_kept();
    (void)pthread_barrier_wait(&gate);
    (void)pthread_join(thread, NULL);
    end();
}

Test(recycled, nor_does_one_that_has_ended)
{
    pthread_t thread = start_leaving(EXIT);
    (void)pthread_join(thread, NULL);
    expect_none_kept();
    end();
}

Test(recycled, what_a_sleeping_thread_keeps_goes_home)
{
    pthread_t thread = start_leaving(SLEEP);
    ap_thread_idle();
    cr_assert_gt(heap_check().cached_packed_blocks, 0);
    for (unsigned epoch = 0; epoch < 10; epoch++) {
        ap__central_set_epoch(ap__central_epoch() + 1u);
    }
    (void)ap__thread_caches_take_idle(4);
    expect_none_kept();
    (void)pthread_barrier_wait(&gate);
    (void)pthread_join(thread, NULL);
    end();
}

static void go_on_in_child(void *unused)
{
    (void)unused;
    cr_assert_null(consistency_find_fault_in_child());
    exchange(OFTEN, true);
    release_all();
    (void)ap_trim();
    const char *fault = consistency_find_fault_in_child();
    if (fault != NULL) {
        fprintf(stderr, "%s\n", fault);
        _exit(1);
    }
    if (consistency_sums().cached_packed_blocks != 0) {
        _exit(2);
    }
}

Test(recycled, a_forked_child_goes_on_with_what_it_has)
{
    struct child_result result;
    pthread_t thread = start_leaving(SLEEP);
    release_half();
    for (unsigned i = 0; i < HELD; i++) {
        if (held[i] == NULL) {
            hold(i, SIZE);
        }
    }
    child_run(&result, go_on_in_child, NULL);
    cr_assert(result.signal == 0 && result.status == 0, "signal %d, status %d: %s", result.signal,
              result.status, result.text);
    (void)pthread_barrier_wait(&gate);
    (void)pthread_join(thread, NULL);
    end();
}

/* ------------------------------------------------------------ memory */

Test(recycled, trim_gives_back_what_caches_keep)
{
    begin(false);
    release_all();
    cr_assert_gt(heap_check().cached_packed_blocks, 0);
    cr_assert_neq(ap_malloc_trim(0), 0);
    struct consistency_sums sums = heap_check();
    cr_assert_eq(sums.packed_spans, 0);
    cr_assert_eq(sums.dirty_granules, 0);
    cr_assert_eq(ap_malloc_trim(0), 0, "nothing is left to give");
}

Test(recycled, what_caches_keep_can_be_had_at_a_limit)
{
    struct ap__page_heap_stats heap;
    begin(false);
    release_half();
    struct consistency_sums sums = heap_check();
    ap__page_heap_stats(&heap);
    ap__heap_limits_set_hard(heap.usable_bytes - heap.free_bytes);
    unsigned got = 0;
    for (unsigned i = 0; i < HELD; i += 2) {
        held[i] = ap_malloc(SIZE);
        if (held[i] == NULL) {
            break;
        }
        ap_free(held[i]);
        hold(i, SIZE);
        got++;
    }
    cr_assert_geq(got, sums.cached_packed_blocks + sums.cached_blocks);
    cr_assert_geq(got, HELD / 2 - 300);
    ap__heap_limits_set_hard(SIZE_MAX);
    end();
}
