/* SPDX-License-Identifier: MIT */
/*
 * shards_test.c: the spans of a class, divided among the processors.
 * Goal: a class is spread when it should be, not before, and never if it should not; who has none takes a spare span
 * over, the only one when memory is refused; blocks go to the shard that their span names, whoever gives them; misuse
 * is told apart and a purge comes by in every shard. Method: direct calls on a fresh heap by one thread, which moves
 * from processor to processor; fatal ones in a child; random orders, whose seed is printed.
 */
#include "central/shards.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/counter.h"
#include "central/central_free_list.h"
#include "central/slot_map.h"
#include "heap/heap_limits.h"
#include "heap/page_heap.h"
#include "os/os.h"
#include "support/child.h"
#include "support/heap_check.h"
#include "support/os_faults.h"
#include "support/processor.h"

enum {
    CLASS = 40,
    SIZE = 2048, /* the largest that is spread: few blocks a span */
    SLOTS = 32,
    SPANS = 16, /* with which a class of two shards is spread */
    BLOCKS = SPANS * SLOTS,
    MORE = 4, /* spans of the second shard */
    BLOCKS_MAX = 4 * BLOCKS,
    RANDOM_STEPS = 20000,
    RANDOM_LOOK = 100, /* steps between two walks of everything */
};

static void init(unsigned shards)
{
    cr_assert(ap__region_init((size_t)1 << 30));
    cr_assert_eq(ap__size_class[CLASS].size, SIZE);
    cr_assert_eq(ap__size_class[CLASS].slots, SLOTS);
    ap__shards_init(shards);
}

static struct ap__central_stats stats(unsigned size_class)
{
    struct ap__central_stats figures;
    ap__central_stats(size_class, &figures);
    return figures;
}

static struct ap__span *span_of(const void *p)
{
    return ap__page_heap_span_of((uintptr_t)p);
}

/* Which shard the span of a block names. */
static unsigned named_by(const void *p)
{
    return (atomic_load(&span_of(p)->shard) >> 8) - 1u;
}

static struct ap__shard *shard_at(unsigned number)
{
    return ap__shard_at(number, CLASS);
}

/* In address order where spans are fresh. */
static unsigned take(unsigned size_class, void **blocks, unsigned count)
{
    unsigned got = ap__central_take(size_class, blocks, count);
    for (unsigned low = 0, high = got; low + 1 < high; low++) {
        void *block = blocks[low];
        blocks[low] = blocks[--high];
        blocks[high] = block;
    }
    return got;
}

static void *take_one(void)
{
    void *block = NULL;
    cr_assert_eq(ap__central_take(CLASS, &block, 1), 1);
    return block;
}

static void give(void *const *blocks, unsigned count)
{
    ap__central_give(CLASS, blocks, count, "free");
}

/* Moves this thread to a processor whose threads claim from the shard. */
static void run_on_shard(unsigned number)
{
    if (processor_run_on_shard(number, ap__shards_of(CLASS)) < 0) {
        cr_skip_test("needs two processors that do not share a shard");
    }
}

/* All blocks of as many spans as it takes, of the first shard, where this thread is. */
static void spread(void **blocks)
{
    init(2);
    run_on_shard(1);
    run_on_shard(0);
    ap__central_share();
    cr_assert_eq(take(CLASS, blocks, BLOCKS), BLOCKS);
    cr_assert(ap__central_is_spread(CLASS));
    cr_assert_eq(stats(CLASS).spans, SPANS);
}

/* The first shard has SPANS spans, the second MORE; no slot is free. */
static void spread_to_both(void **blocks)
{
    spread(blocks);
    run_on_shard(1);
    cr_assert_eq(take(CLASS, blocks + BLOCKS, MORE * SLOTS), MORE * SLOTS);
    cr_assert_eq(shard_at(0)->lists.members, SPANS);
    cr_assert_eq(shard_at(1)->lists.members, MORE);
}

static void refuse_memory(bool refuses)
{
    ap__heap_limits_set_hard(refuses ? 0 : SIZE_MAX);
}

/* ------------------------------------------------------------ whether, and when */

Test(shards, a_class_of_a_program_of_one_thread_has_one)
{
    static void *blocks[3 * BLOCKS];
    init(2);
    (void)processor_run_on_shard(1, 2); /* where there is one, it would make a difference */
    cr_assert_eq(take(CLASS, blocks, 3 * BLOCKS), 3 * BLOCKS);
    cr_assert(!ap__central_is_spread(CLASS));
    cr_assert_eq(ap__shard_mine(CLASS), shard_at(0));
    for (unsigned i = 0; i < 3 * BLOCKS; i++) {
        cr_assert_eq(named_by(blocks[i]), 0);
    }
    cr_assert_eq(shard_at(0)->lists.members, 3 * SPANS);
    heap_check();
    ap__central_share();
    cr_assert(!ap__central_is_spread(CLASS), "not before it gets one more span");
    (void)take_one();
    cr_assert(ap__central_is_spread(CLASS));
}

static void expect_spread_from(unsigned size_class, unsigned spans)
{
    static void *blocks[AP_SLOTS_MAX];
    unsigned slots = ap__size_class[size_class].slots;
    for (unsigned have = 1; have <= spans; have++) {
        cr_assert(!ap__central_is_spread(size_class), "%u of %u spans", have - 1, spans);
        cr_assert_eq(take(size_class, blocks, slots), slots);
        cr_assert_eq(stats(size_class).spans, have);
    }
    cr_assert(ap__central_is_spread(size_class));
}

/* One class has no influence on another. */
static void expect_classes_spread_from(unsigned shards, unsigned spans)
{
    static const size_t sizes[] = {16, 64, 80, 1024, SIZE};
    init(shards);
    ap__central_share();
    for (unsigned i = 0; i < AP_ARRAY_LENGTH(sizes); i++) {
        expect_spread_from(ap__class_of_size(sizes[i]), spans);
    }
}

Test(shards, two_come_into_use_with_sixteen_spans)
{
    expect_classes_spread_from(2, 16);
}

Test(shards, three_come_into_use_with_twentyfour_spans)
{
    expect_classes_spread_from(3, 24);
}

Test(shards, eight_come_into_use_with_sixtyfour_spans)
{
    expect_classes_spread_from(8, 64);
}

Test(shards, a_class_stays_spread)
{
    static void *blocks[BLOCKS];
    init(2);
    ap__central_share();
    cr_assert_eq(take(CLASS, blocks, BLOCKS), BLOCKS);
    give(blocks, BLOCKS);
    cr_assert_eq(stats(CLASS).spans, 0);
    cr_assert(ap__central_is_spread(CLASS));
    heap_check();
}

Test(shards, blocks_of_more_than_2_kib_have_one)
{
    static void *blocks[3 * BLOCKS];
    init(2);
    ap__central_share();
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        cr_assert_eq(ap__shards_of(c), ap__size_class[c].size <= SIZE ? 2 : 1);
        cr_assert_eq(ap__central_shards(c), 1, "none is spread");
    }
    unsigned next = CLASS + 1;
    unsigned count = 3 * SPANS * ap__size_class[next].slots;
    (void)processor_run_on_shard(1, 2);
    cr_assert_eq(take(next, blocks, count), count);
    cr_assert_eq(stats(next).spans, 3 * SPANS);
    cr_assert(!ap__central_is_spread(next));
    cr_assert_eq(ap__shard_mine(next), ap__shard_at(0, next));
    cr_assert_eq(ap__shard_at(0, next)->lists.members, 3 * SPANS);
    heap_check();
}

Test(shards, one_for_all_processors_is_the_same_as_none)
{
    static void *blocks[BLOCKS_MAX];
    init(1);
    ap__central_share();
    cr_assert_eq(take(CLASS, blocks, BLOCKS_MAX), BLOCKS_MAX);
    cr_assert(!ap__central_is_spread(CLASS));
    cr_assert_eq(shard_at(0)->lists.members, 4 * SPANS);
    heap_check();
}

Test(shards, are_as_many_as_are_wanted_within_bounds)
{
    init(AP_CENTRAL_SHARDS_MAX + 1);
    cr_assert_eq(ap__shards_of(CLASS), AP_CENTRAL_SHARDS_MAX);
    ap__shards_init(1000000);
    cr_assert_eq(ap__shards_of(CLASS), AP_CENTRAL_SHARDS_MAX);
    ap__central_init(false, 5);
    cr_assert_eq(ap__shards_of(CLASS), 5);
    ap__shards_init(0);
    cr_assert_eq(ap__shards_of(CLASS), ap__min(ap__os_cpu_count(), AP_CENTRAL_SHARDS_MAX));
    for (unsigned number = 0; number < AP_CENTRAL_SHARDS_MAX; number++) {
        cr_assert_eq(ap__central_lock(number, CLASS), &shard_at(number)->lock);
    }
}

Test(shards, are_not_divided_anew_once_they_are_shared)
{
    init(3);
    ap__central_share();
    ap__shards_init(1);
    cr_assert_eq(ap__shards_of(CLASS), 3);
    ap__shards_init(8);
    cr_assert_eq(ap__shards_of(CLASS), 3);
    expect_spread_from(CLASS, 24);
}

/* ------------------------------------------------------------ who claims from where */

/* Claims on a processor of `to`, which has no free slot, from the span after the first of `from`. */
static void expect_second_taken_over(unsigned to, unsigned from)
{
    size_t spans = stats(CLASS).spans;
    size_t claimed = stats(CLASS).claimed;
    struct ap__span *first = ap__span_lists_first(&shard_at(from)->lists);
    struct ap__span *second = ap__span_lists_second(&shard_at(from)->lists);
    unsigned members = shard_at(to)->lists.members;
    unsigned free_slots = second->slots.free_slots;
    run_on_shard(to);
    cr_assert_null(ap__span_lists_first(&shard_at(to)->lists));
    for (unsigned i = 0; i < free_slots; i++) {
        cr_assert_eq(span_of(take_one()), second);
        cr_assert_eq(atomic_load(&second->shard), ap__shard_name(to, CLASS));
    }
    cr_assert_eq(atomic_load(&first->shard), ap__shard_name(from, CLASS));
    cr_assert_eq(stats(CLASS).spans, spans);
    cr_assert_eq(stats(CLASS).claimed, claimed + free_slots);
    cr_assert_eq(shard_at(to)->lists.members, members + 1);
    heap_check();
}

/* Then there is only one, and the page heap gives the next. Returns the first block of that. */
static void *expect_only_one_left(unsigned to, unsigned from)
{
    size_t spans = stats(CLASS).spans;
    struct ap__span *first = ap__span_lists_first(&shard_at(from)->lists);
    cr_assert_not_null(first);
    void *block = take_one();
    cr_assert_neq(span_of(block), first);
    cr_assert_eq(stats(CLASS).spans, spans + 1);
    cr_assert_eq(named_by(block), to);
    cr_assert_eq(atomic_load(&first->shard), ap__shard_name(from, CLASS));
    heap_check();
    return block;
}

Test(shards, another_processor_takes_the_second_span_over_and_leaves_the_only_one)
{
    static void *blocks[BLOCKS];
    spread(blocks);
    give(blocks + 3 * SLOTS, 3);
    give(blocks + 7 * SLOTS, 12);
    expect_second_taken_over(1, 0);
    void *block = expect_only_one_left(1, 0);
    cr_assert_eq(shard_at(0)->claimed, (SPANS - 1) * SLOTS - 3);
    cr_assert_eq(shard_at(1)->claimed, SLOTS + 1);
    /* And back, once the first has used up its own. */
    give(blocks + 7 * SLOTS, 5);
    run_on_shard(0);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(span_of(take_one()), span_of(blocks[3 * SLOTS]));
    }
    expect_second_taken_over(0, 1);
    (void)expect_only_one_left(0, 1);
    cr_assert_eq(named_by(block), named_by(blocks[7 * SLOTS]) ^ 1u);
}

Test(shards, a_processor_claims_from_spans_of_its_own_as_long_as_there_are)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    spread_to_both(blocks);
    give(blocks, 3 * SLOTS / 2); /* one drained, one begun */
    give(blocks + BLOCKS, SLOTS / 2);
    give(blocks + BLOCKS + SLOTS, SLOTS / 2);
    for (unsigned number = 0; number < 2; number++) {
        run_on_shard(number);
        for (unsigned i = 0; i < SLOTS / 2; i++) {
            cr_assert_eq(named_by(take_one()), number);
        }
    }
    heap_check();
}

Test(shards, lines_are_claimed_from_the_own_shard_only)
{
    static void *blocks[BLOCKS];
    void *lines[AP_BATCH_MAX];
    spread(blocks);
    give(blocks, SLOTS / 2);
    run_on_shard(1);
    cr_assert_eq(ap__central_take_lines(CLASS, lines, 4), 0);
    run_on_shard(0);
    cr_assert_eq(ap__central_take_lines(CLASS, lines, 4), 4);
    heap_check();
}

static void *claim_one(void *unused)
{
    (void)unused;
    return take_one();
}

/* Until a thread has given up the lock of the second shard for that of the first, which this thread has. */
static void wait_until_it_waits(uint64_t taken_before)
{
    const struct ap__lock *lock = &shard_at(1)->lock;
    while (atomic_load(&lock->taken) == taken_before || atomic_load(&lock->owner) != 0) {
        (void)sched_yield();
    }
}

Test(shards, no_span_is_added_where_a_block_has_come_back_meanwhile)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    pthread_t thread;
    void *claimed;
    spread_to_both(blocks);
    uint64_t taken_before = atomic_load(&shard_at(1)->lock.taken);
    ap__lock_take(&shard_at(0)->lock);
    atomic_store(&shard_at(0)->lists.has_spare, true); /* as if another had just taken that over */
    cr_assert_eq(pthread_create(&thread, NULL, claim_one, NULL), 0);
    wait_until_it_waits(taken_before);
    give(blocks + BLOCKS, 1);
    atomic_store(&shard_at(0)->lists.has_spare, false);
    ap__lock_release(&shard_at(0)->lock);
    cr_assert_eq(pthread_join(thread, &claimed), 0);
    cr_assert_eq(claimed, blocks[BLOCKS]);
    cr_assert_eq(stats(CLASS).spans, SPANS + MORE);
    heap_check();
}

/* ------------------------------------------------------------ without memory */

/* As a claim on a processor of the shard, which is then to be found there. */
static bool find_span(unsigned number)
{
    struct ap__shard *shard = shard_at(number);
    ap__lock_take(&shard->lock);
    bool found = ap__shard_find_span_locked(shard, CLASS);
    cr_assert(ap__lock_is_mine(&shard->lock));
    ap__lock_release(&shard->lock);
    return found;
}

/* Claims all free slots of a shard's only span, wherever this thread runs. Returns how many. */
static unsigned use_up(unsigned number, void **blocks)
{
    struct ap__shard *shard = shard_at(number);
    ap__lock_take(&shard->lock);
    struct ap__span *span = ap__span_lists_first(&shard->lists);
    unsigned claimed = ap__slot_map_claim(span, SIZE, blocks + SLOTS, SLOTS);
    ap__counter_add(&shard->claimed, claimed);
    ap__span_lists_relist(&shard->lists, span);
    ap__lock_release(&shard->lock);
    return claimed;
}

/* Of two spans that are in one shard, the second goes to the other, and then the first. */
static void expect_moves(void *const *blocks, unsigned from, unsigned to)
{
    void *used[SLOTS];
    cr_assert(named_by(blocks[0]) == from && named_by(blocks[1]) == from);
    cr_assert(find_span(to));
    cr_assert_eq(named_by(blocks[0]), from);
    cr_assert_eq(named_by(blocks[1]), to);
    unsigned count = use_up(to, used);
    cr_assert(find_span(to));
    cr_assert_eq(named_by(blocks[0]), to);
    give(used + SLOTS - count, count);
    for (unsigned number = 0; number < AP_CENTRAL_SHARDS_MAX; number++) {
        const struct ap__shard *shard = shard_at(number);
        unsigned others = number == 0 ? BLOCKS_MAX / SLOTS - 2 : 0;
        cr_assert_eq(shard->lists.members, others + (number == to ? 2 : 0));
        cr_assert_eq(atomic_load(&shard->lists.has_spare), number == to);
    }
    heap_check();
}

Test(shards, spans_go_from_any_of_eight_to_any_other)
{
    static void *blocks[BLOCKS_MAX]; /* of as many spans as it takes */
    unsigned at = 0;
    init(AP_CENTRAL_SHARDS_MAX);
    ap__central_share();
    cr_assert_eq(take(CLASS, blocks, BLOCKS_MAX), BLOCKS_MAX);
    refuse_memory(true);
    give(blocks, 1);
    give(blocks + SLOTS, SLOTS - 1); /* in another list */
    void *two[] = {blocks[0], blocks[SLOTS]};
    for (unsigned from = 0; from < AP_CENTRAL_SHARDS_MAX; from++) {
        for (unsigned to = 0; to < AP_CENTRAL_SHARDS_MAX; to++) {
            if (from != to && from != at) {
                expect_moves(two, at, from);
            }
            if (from != to) {
                expect_moves(two, from, to);
                at = to;
            }
        }
    }
    cr_assert_eq(stats(CLASS).claimed, BLOCKS_MAX - SLOTS);
}

Test(shards, without_memory_the_only_span_is_taken_over_too)
{
    static void *blocks[BLOCKS];
    spread(blocks);
    for (unsigned round = 0; round < 4; round++) {
        unsigned to = 1 - round % 2;
        void *block = blocks[5 * SLOTS];
        give(&block, 1);
        cr_assert_eq(named_by(block), 1 - to);
        run_on_shard(to);
        refuse_memory(true);
        cr_assert_eq(take_one(), block);
        cr_assert_eq(named_by(block), to);
        cr_assert_eq(ap__central_take(CLASS, &block, 1), 0);
        refuse_memory(false);
        heap_check();
    }
    cr_assert_eq(stats(CLASS).spans, SPANS);
    cr_assert_eq(stats(CLASS).claimed, BLOCKS);
}

/* Some of each of several spans, so that these are in different lists. Returns how many. */
static unsigned give_some(void **blocks)
{
    unsigned given = 0;
    for (unsigned i = 0; i < SPANS + MORE; i += 3) {
        unsigned count = 1 + 5 * i % (SLOTS - 1);
        give(blocks + (size_t)i * SLOTS, count);
        given += count;
    }
    return given;
}

Test(shards, without_memory_every_free_slot_can_be_claimed_from_any_processor)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    static void *again[BLOCKS];
    spread_to_both(blocks);
    for (unsigned round = 0; round < 4; round++) {
        unsigned given = give_some(blocks);
        run_on_shard(round % 2);
        refuse_memory(true);
        cr_assert_eq(ap__central_take(CLASS, again, BLOCKS), given, "round %u", round);
        cr_assert_eq(ap__central_take(CLASS, again, 1), 0);
        run_on_shard(1 - round % 2);
        cr_assert_eq(ap__central_take(CLASS, again, 1), 0);
        refuse_memory(false);
        cr_assert_eq(stats(CLASS).claimed, BLOCKS + MORE * SLOTS);
        heap_check();
    }
}

/* As above, but it is the kernel that refuses. */
Test(shards, spans_that_are_there_serve_when_the_kernel_refuses_more)
{
    static void *blocks[BLOCKS_MAX];
    spread(blocks);
    os_faults_fail_always(OS_FAULTS_MMAP);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    unsigned count = BLOCKS;
    unsigned got;
    while ((got = take(CLASS, blocks + count, SLOTS)) == SLOTS) {
        count += got;
        cr_assert_leq(count + SLOTS, BLOCKS_MAX);
    }
    count += got;
    cr_assert_eq(stats(CLASS).claimed, stats(CLASS).slots);
    give(blocks + SLOTS, 2 * SLOTS - 1);
    run_on_shard(1);
    cr_assert_eq(take(CLASS, blocks + SLOTS, 2 * SLOTS), 2 * SLOTS - 1);
    os_faults_reset();
    cr_assert_eq(stats(CLASS).claimed, count);
    heap_check();
}

/* ------------------------------------------------------------ blocks come back */

static void expect_claimed(size_t first, size_t second)
{
    cr_assert_eq(shard_at(0)->claimed, first);
    cr_assert_eq(shard_at(1)->claimed, second);
    cr_assert_eq(ap__central_claimed(CLASS), first + second);
    cr_assert_eq(stats(CLASS).claimed, first + second);
}

Test(shards, blocks_go_back_to_the_shard_that_their_span_names)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    spread_to_both(blocks);
    for (unsigned number = 0; number < 2; number++) {
        run_on_shard(number);
        void *mixed[SLOTS];
        for (unsigned i = 0; i < SLOTS; i++) { /* of one and of the other in turn, then in pairs */
            unsigned of_second = (i < SLOTS / 2 ? i : i / 2) % 2;
            unsigned span = of_second != 0 ? SPANS + number : 2 + number;
            mixed[i] = blocks[span * SLOTS + i];
        }
        give(mixed, SLOTS);
        for (unsigned i = 0; i < SLOTS; i++) {
            cr_assert(ap__central_is_free(CLASS, mixed[i]));
        }
        size_t given = (number + 1) * SLOTS / 2;
        expect_claimed(BLOCKS - given, MORE * SLOTS - given);
        heap_check();
    }
    cr_assert_eq(stats(CLASS).spans, SPANS + MORE);
    cr_assert_eq(stats(CLASS).slots, (SPANS + MORE) * SLOTS);
    cr_assert_eq(shard_at(0)->lists.members, SPANS);
    cr_assert_eq(shard_at(1)->lists.members, MORE);
    cr_assert(!ap__central_is_free(CLASS, blocks[SLOTS]));
}

Test(shards, drained_spans_of_any_go_back_to_the_page_heap_and_name_none)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    spread_to_both(blocks);
    unsigned in_second = BLOCKS + SLOTS;
    for (unsigned number = 0; number < 2; number++) {
        run_on_shard(number);
        unsigned ours[] = {number * SLOTS, in_second + number * SLOTS};
        for (unsigned i = 0; i < 2; i++) {
            struct ap__span *span = span_of(blocks[ours[i]]);
            give(blocks + ours[i], SLOTS - 1);
            cr_assert_eq(atomic_load(&span->shard), ap__shard_name(i, CLASS));
            give(blocks + ours[i] + SLOTS - 1, 1);
            cr_assert_eq(atomic_load(&span->shard), 0);
            cr_assert_neq(span->state, AP__SPAN_SMALL);
            cr_assert(!ap__central_is_slot(CLASS, blocks[ours[i]]));
            cr_assert(!ap__central_is_free(CLASS, blocks[ours[i]]));
        }
        cr_assert_eq(heap_check().small_spans, SPANS + MORE - 2 * (number + 1));
    }
    expect_claimed(BLOCKS - 2 * SLOTS, (MORE - 2) * SLOTS);
}

/* ------------------------------------------------------------ misuse */

struct misuse {
    void *pointers[SLOTS];
    unsigned count;
};

/* Fatal findings are reported without a lock: this thread could allocate here. */
static void on_abort(int signal)
{
    (void)signal;
    _exit(ap__lock_is_at_work() ? 3 : 4);
}

static void give_wrong(void *misuse)
{
    const struct misuse *wrong = misuse;
    (void)signal(SIGABRT, on_abort);
    give(wrong->pointers, wrong->count);
}

static void expect_report_of(struct misuse wrong, const char *cause)
{
    char expected[200];
    struct child_result result;
    snprintf(expected, sizeof expected, "apmalloc: free(%p): %s\n", wrong.pointers[wrong.count - 1],
             cause);
    child_run(&result, give_wrong, &wrong);
    cr_assert_str_eq(result.text, expected);
    cr_assert_eq(result.status, 4, "of %u blocks: %d", wrong.count, result.status);
}

/* Alone, and behind blocks of either shard. */
static void expect_report(void *p, const char *cause, void *const *before)
{
    struct misuse wrong = {.count = 0};
    for (unsigned count = 0; count <= 4; count++) {
        wrong.pointers[count] = p;
        wrong.count = count + 1;
        expect_report_of(wrong, cause);
        wrong.pointers[count] = before[count % 4];
    }
}

Test(shards, misuse_is_told_apart_in_each)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    spread_to_both(blocks);
    unsigned in_second = BLOCKS + SLOTS;
    unsigned firsts[] = {2 * SLOTS, in_second};
    void *before[] = {blocks[9 * SLOTS], blocks[BLOCKS], blocks[BLOCKS + 2], blocks[9 * SLOTS + 7]};
    void *gone = blocks[BLOCKS + 2 * SLOTS];
    void *other;
    cr_assert_eq(ap__central_take(CLASS - 1, &other, 1), 1);
    give(blocks + BLOCKS + 2 * SLOTS, SLOTS);
    for (unsigned i = 0; i < 2; i++) {
        void **ours = blocks + firsts[i];
        give(ours + 5, 1);
        expect_report(ours[5], "double free", before);
        expect_report((char *)ours[6] + 16, "pointer into the middle of a block", before);
        expect_report((char *)ours[5] + SIZE / 2, "pointer into the middle of a block", before);
        cr_assert(ap__central_is_slot(CLASS, ours[6]) && !ap__central_is_free(CLASS, ours[6]));
    }
    expect_report(gone, "double free, or a pointer that was never allocated", before);
    expect_report(other, "double free, or a pointer that was never allocated", before);
    expect_report_of((struct misuse){{before[0], before[1], before[0]}, 3}, "double free");
    heap_check();
}

/* As a span is seen whose block was freed twice: its record has just become that of another class' span, or of none. */
Test(shards, a_record_of_another_class_is_no_span_of_this_one)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    spread_to_both(blocks);
    void *before[] = {blocks[9 * SLOTS], blocks[BLOCKS], blocks[BLOCKS + 2], blocks[9 * SLOTS + 7]};
    void *p = blocks[2 * SLOTS];
    const uint16_t names[] = {0, ap__shard_name(0, CLASS - 1), ap__shard_name(1, CLASS + 1),
                              ap__shard_name(AP_CENTRAL_SHARDS_MAX - 1, AP_CLASS_COUNT - 1)};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        atomic_store(&span_of(p)->shard, names[i]);
        cr_assert(!ap__central_is_free(CLASS, p));
        expect_report(p, "double free, or a pointer that was never allocated", before);
    }
    atomic_store(&span_of(p)->shard, ap__shard_name(0, CLASS));
    give(&p, 1);
    cr_assert(ap__central_is_free(CLASS, p));
    heap_check();
}

/* ------------------------------------------------------------ purge */

enum { PAGE = 4096, PAGES_FREE = SLOTS / 2 - 1 /* where one block is live */ };

static size_t purge(unsigned age, bool *pending)
{
    *pending = false;
    return ap__central_purge(CLASS, age, age, pending);
}

/* Writes to all of them, and leaves one block of each span. */
static void thin_out(void **blocks, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        memset(blocks[i], 7, SIZE);
    }
    for (unsigned i = 0; i < count; i += SLOTS) {
        give(blocks + i + 1, SLOTS - 1);
    }
}

Test(shards, a_purge_comes_by_in_all)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    bool pending;
    spread_to_both(blocks);
    thin_out(blocks, BLOCKS + MORE * SLOTS);
    cr_assert_eq(purge(0, &pending), (size_t)(SPANS + MORE) * PAGES_FREE * PAGE);
    cr_assert(!pending);
    cr_assert_eq(purge(0, &pending), 0, "nothing has come back since");
    for (unsigned i = 0; i < BLOCKS + MORE * SLOTS; i += SLOTS) {
        cr_assert_eq(named_by(blocks[i]), i < BLOCKS ? 0 : 1);
        cr_assert_eq(((char *)blocks[i])[SIZE - 1], 7, "live blocks keep their contents");
    }
    expect_claimed(SPANS, MORE);
    heap_check();
}

Test(shards, a_purge_waits_for_young_spans_of_any)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    bool pending;
    spread_to_both(blocks);
    thin_out(blocks, BLOCKS + MORE * SLOTS);
    for (unsigned young = 0; young < 2; young++) {
        ap__central_set_epoch(10 + 10 * young);
        run_on_shard(young);
        void *block = take_one();
        give(&block, 1);
        size_t others = young == 0 ? SPANS + MORE - 1 : 0; /* the second time: purged already */
        cr_assert_eq(purge(5, &pending), others * PAGES_FREE * PAGE);
        cr_assert(pending);
        ap__central_set_epoch(15 + 10 * young);
        cr_assert_geq(purge(5, &pending), PAGE);
        cr_assert(!pending);
    }
    heap_check();
}

static void *away_block;   /* in a span of the first shard */
static unsigned takeable;  /* free slots of the second */
static unsigned got, seen; /* by the look below */

/* While spans of the first shard are away, and memory is refused. */
static void look_at_purge(void)
{
    void *blocks[MORE * SLOTS];
    if (seen++ != 0) {
        return;
    }
    cr_assert_eq(span_of(away_block)->slots.bucket, AP_SPAN_AWAY);
    give(&away_block, 1);
    got = ap__central_take(CLASS, blocks, MORE * SLOTS);
    for (unsigned i = 0; i < got; i++) {
        cr_assert_neq(span_of(blocks[i])->slots.bucket, AP_SPAN_AWAY);
    }
    give(blocks, got);
}

static void expect_away_left_alone(unsigned number)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    bool pending;
    spread_to_both(blocks);
    thin_out(blocks, BLOCKS + MORE * SLOTS);
    run_on_shard(number);
    away_block = blocks[3 * SLOTS];
    struct ap__span *drained = span_of(away_block);
    takeable = MORE * (SLOTS - 1);
    refuse_memory(true);
    os_faults_watch(OS_FAULTS_MADVISE, look_at_purge);
    (void)purge(0, &pending);
    os_faults_reset();
    refuse_memory(false);
    cr_assert_geq(seen, SPANS);
    cr_assert_eq(got, takeable);
    cr_assert_eq(atomic_load(&drained->shard), 0, "drained meanwhile, it goes afterwards");
    cr_assert_eq(stats(CLASS).spans, SPANS - 1 + MORE);
    heap_check();
}

Test(shards, spans_that_are_being_purged_are_not_claimed_from)
{
    expect_away_left_alone(0);
}

Test(shards, spans_that_are_being_purged_are_not_taken_over)
{
    expect_away_left_alone(1);
}

/* ------------------------------------------------------------ at random */

static void *held[BLOCKS_MAX];
static unsigned held_count;

static void take_at_random(unsigned count)
{
    unsigned room = BLOCKS_MAX - held_count;
    unsigned wanted = count < room ? count : room;
    unsigned taken = ap__central_take(CLASS, held + held_count, wanted);
    unsigned here = ap__os_current_cpu() % 2;
    for (unsigned i = held_count; i < held_count + taken; i++) {
        cr_assert_eq(named_by(held[i]), here, "claimed from the own shard");
        cr_assert(!ap__central_is_free(CLASS, held[i]));
    }
    held_count += taken;
    cr_assert(taken == wanted || stats(CLASS).slots == held_count, "as long as there are any");
}

/* Some that lie anywhere, in any order. */
static void give_at_random(unsigned count, unsigned *seed)
{
    size_t expected[] = {shard_at(0)->claimed, shard_at(1)->claimed};
    count = count < held_count ? count : held_count;
    for (unsigned i = 0; i < count; i++) {
        unsigned last = held_count - 1 - i;
        unsigned chosen = (unsigned)rand_r(seed) % (last + 1);
        void *block = held[chosen];
        held[chosen] = held[last];
        held[last] = block;
        expected[named_by(block)]--;
    }
    held_count -= count;
    give(held + held_count, count);
    cr_assert_eq(shard_at(0)->claimed, expected[0]);
    cr_assert_eq(shard_at(1)->claimed, expected[1]);
}

/* Grows for a while and shrinks for a while; how much is left decides how many spans there are to take over. */
static void random_step(unsigned step, unsigned *seed)
{
    unsigned draw = (unsigned)rand_r(seed) >> 4;
    bool grows = step / 200 % 2 == 0;
    if (draw % 4 == 0) {
        run_on_shard(draw / 4 % 2);
    }
    refuse_memory(step / 500 % 2 != 0);
    if (draw % 16 < (grows ? 12 : 4)) {
        take_at_random(1 + draw / 16 % AP_BATCH_MAX);
    } else {
        give_at_random(1 + draw / 16 % AP_BATCH_MAX, seed);
    }
    cr_assert_eq(stats(CLASS).claimed, held_count);
    cr_assert_eq(ap__central_claimed(CLASS), held_count);
    if (step % RANDOM_LOOK == 0) {
        cr_assert_eq(heap_check().claimed_blocks, held_count);
        cr_assert_eq(stats(CLASS).spans, heap_check().small_spans);
    }
}

Test(shards, at_random_no_block_is_lost, .timeout = 100)
{
    unsigned seed = (unsigned)time(NULL);
    fprintf(stderr, "# shards: seed %u\n", seed);
    spread(held);
    held_count = BLOCKS;
    for (unsigned step = 0; step < RANDOM_STEPS; step++) {
        random_step(step, &seed);
    }
    refuse_memory(false);
    give_at_random(held_count, &seed);
    cr_assert_eq(stats(CLASS).spans, 0);
    expect_claimed(0, 0);
    cr_assert_eq(heap_check().small_spans, 0);
}
