/* SPDX-License-Identifier: MIT */
/*
 * shards_take_test.c: which span of which shard a block comes from.
 * Goal: from the thread's own as long as there are any; then from a spare span of another's, which is taken over, or
 * from a new one; when memory is refused from the last one, too. Method: direct calls on a fresh heap by one thread,
 * which changes its number; in two tests a second one, while a lock is held.
 */
#include "central/shards.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>

#include "base/counter.h"
#include "central/slot_map.h"
#include "spread_class.h"
#include "support/heap_check.h"
#include "support/os_faults.h"

/* Claims by a thread of `to`, which has no free slot, from the span after the first of `from`. */
static void expect_second_taken_over(unsigned to, unsigned from)
{
    size_t spans = stats(CLASS).spans;
    size_t claimed = stats(CLASS).claimed;
    struct ap__span *first = ap__span_lists_first(&shard_at(from)->lists);
    struct ap__span *second = ap__span_lists_second(&shard_at(from)->lists);
    unsigned members = shard_at(to)->lists.members;
    unsigned free_slots = second->slots.free_slots;
    ap__central_set_thread(to);
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

Test(shards_take, another_thread_takes_the_second_span_over_and_leaves_the_only_one)
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
    ap__central_set_thread(0);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(span_of(take_one()), span_of(blocks[3 * SLOTS]));
    }
    expect_second_taken_over(0, 1);
    (void)expect_only_one_left(0, 1);
    cr_assert_eq(named_by(block), named_by(blocks[7 * SLOTS]) ^ 1u);
}

Test(shards_take, a_thread_claims_from_spans_of_its_own_as_long_as_there_are)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    spread_to_both(blocks);
    give(blocks, 3 * SLOTS / 2); /* one drained, one begun */
    give(blocks + BLOCKS, SLOTS / 2);
    give(blocks + BLOCKS + SLOTS, SLOTS / 2);
    for (unsigned number = 0; number < 2; number++) {
        ap__central_set_thread(number);
        for (unsigned i = 0; i < SLOTS / 2; i++) {
            cr_assert_eq(named_by(take_one()), number);
        }
    }
    heap_check();
}

Test(shards_take, lines_are_claimed_from_the_own_shard_only)
{
    static void *blocks[BLOCKS];
    void *lines[AP_BATCH_MAX];
    spread(blocks);
    give(blocks, SLOTS / 2);
    ap__central_set_thread(1);
    cr_assert_eq(ap__central_take_lines(CLASS, lines, 4), 0);
    ap__central_set_thread(0);
    cr_assert_eq(ap__central_take_lines(CLASS, lines, 4), 4);
    heap_check();
}

static void *claim_one_of_second(void *unused)
{
    (void)unused;
    ap__central_set_thread(1);
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

Test(shards_take, no_span_is_added_where_a_block_has_come_back_meanwhile)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    pthread_t thread;
    void *claimed;
    spread_to_both(blocks);
    uint64_t taken_before = atomic_load(&shard_at(1)->lock.taken);
    ap__lock_take(&shard_at(0)->lock);
    atomic_store(&shard_at(0)->lists.has_spare, true); /* as if another had just taken that over */
    cr_assert_eq(pthread_create(&thread, NULL, claim_one_of_second, NULL), 0);
    wait_until_it_waits(taken_before);
    give(blocks + BLOCKS, 1);
    atomic_store(&shard_at(0)->lists.has_spare, false);
    ap__lock_release(&shard_at(0)->lock);
    cr_assert_eq(pthread_join(thread, &claimed), 0);
    cr_assert_eq(claimed, blocks[BLOCKS]);
    cr_assert_eq(stats(CLASS).spans, SPANS + MORE);
    heap_check();
}

/* So that the lock of its own is not free before the span is claimed from. */
Test(shards_take, a_class_grows_without_a_wait_for_another_shards_lock, .timeout = 20)
{
    static void *blocks[2 * BLOCKS];
    pthread_t thread;
    void *claimed;
    init(4);
    ap__central_share();
    cr_assert_eq(take(CLASS, blocks, BLOCKS), BLOCKS);
    ap__central_set_thread(1);
    unsigned more = BLOCKS - SLOTS;
    cr_assert_eq(take(CLASS, blocks + BLOCKS, more), more);
    cr_assert_eq(ap__central_shards(CLASS), 2);
    uint64_t taken_before = atomic_load(&shard_at(1)->lock.taken);
    ap__lock_take(&shard_at(0)->lock);
    cr_assert_eq(pthread_create(&thread, NULL, claim_one_of_second, NULL), 0);
    cr_assert_eq(pthread_join(thread, &claimed), 0);
    ap__lock_release(&shard_at(0)->lock);
    cr_assert_eq(atomic_load(&shard_at(1)->lock.taken), taken_before + 1);
    cr_assert_eq(named_by(claimed), 1);
    cr_assert_eq(ap__central_shards(CLASS), 4);
    heap_check();
}

/* ------------------------------------------------------------ without memory */

/* As a claim by a thread of the shard. */
static bool find_span(unsigned number)
{
    struct ap__shard *shard = shard_at(number);
    ap__lock_take(&shard->lock);
    bool found = ap__shard_find_span_locked(shard, CLASS);
    cr_assert(ap__lock_is_mine(&shard->lock));
    ap__lock_release(&shard->lock);
    return found;
}

/* Claims all free slots of a shard's only span, whatever this thread's is. Returns how many. */
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

Test(shards_take, spans_go_from_any_of_eight_to_any_other)
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

Test(shards_take, without_memory_the_only_span_is_taken_over_too)
{
    static void *blocks[BLOCKS];
    spread(blocks);
    for (unsigned round = 0; round < 4; round++) {
        unsigned to = 1 - round % 2;
        void *block = blocks[5 * SLOTS];
        give(&block, 1);
        cr_assert_eq(named_by(block), 1 - to);
        ap__central_set_thread(to);
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

Test(shards_take, without_memory_every_free_slot_can_be_claimed_by_any_thread)
{
    static void *blocks[BLOCKS + MORE * SLOTS];
    static void *again[BLOCKS];
    spread_to_both(blocks);
    for (unsigned round = 0; round < 4; round++) {
        unsigned given = give_some(blocks);
        ap__central_set_thread(round % 2);
        refuse_memory(true);
        cr_assert_eq(ap__central_take(CLASS, again, BLOCKS), given, "round %u", round);
        cr_assert_eq(ap__central_take(CLASS, again, 1), 0);
        ap__central_set_thread(1 - round % 2);
        cr_assert_eq(ap__central_take(CLASS, again, 1), 0);
        refuse_memory(false);
        cr_assert_eq(stats(CLASS).claimed, BLOCKS + MORE * SLOTS);
        heap_check();
    }
}

/* As above, but it is the kernel that refuses. */
Test(shards_take, spans_that_are_there_serve_when_the_kernel_refuses_more)
{
    enum { MOST = 10 * BLOCKS }; /* beyond what the kernel gives at a time */
    static void *blocks[MOST];
    spread(blocks);
    os_faults_fail_always(OS_FAULTS_MMAP);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    unsigned count = BLOCKS;
    unsigned got;
    while ((got = take(CLASS, blocks + count, SLOTS)) == SLOTS) {
        count += got;
        cr_assert_leq(count + SLOTS, MOST);
    }
    count += got;
    cr_assert_eq(stats(CLASS).claimed, stats(CLASS).slots);
    give(blocks + SLOTS, 2 * SLOTS - 1);
    ap__central_set_thread(1);
    cr_assert_eq(take(CLASS, blocks + SLOTS, 2 * SLOTS), 2 * SLOTS - 1);
    os_faults_reset();
    cr_assert_eq(stats(CLASS).claimed, count);
    heap_check();
}
