/* SPDX-License-Identifier: MIT */
/*
 * transfer_cache_test.c: batches of addresses between threads.
 * Goal: last in, first out; bounded; holding more only for what travels; off when its bound is 0;
 * sharded. Method: made-up addresses, which the transfer cache must never touch.
 */
#include "central/transfer_cache.h"

#include <criterion/criterion.h>
#include <pthread.h>

#include "os/os.h"
#include "support/os_faults.h"
#include "support/processor.h"

enum { CLASS = 1, LONG_CLASS = 78, BATCH = 64, OLDER = 50 };

static void *fake(uintptr_t i)
{
    return (void *)(0xdead000000000000u + i);
}

static void fill(void **blocks, unsigned count, uintptr_t from)
{
    for (unsigned i = 0; i < count; i++) {
        blocks[i] = fake(from + i);
    }
}

Test(transfer_cache, gives_back_what_came_last)
{
    void *blocks[BATCH];
    ap__transfer_init(1, 1 << 20);
    cr_assert_eq(ap__transfer_take(CLASS, blocks, BATCH), 0);
    fill(blocks, BATCH, 0);
    cr_assert_eq(ap__transfer_give(CLASS, blocks, OLDER), OLDER);
    fill(blocks, 3, 1000);
    cr_assert_eq(ap__transfer_give(CLASS, blocks, 3), 3);
    cr_assert_eq(ap__transfer_count(CLASS), OLDER + 3);
    cr_assert(ap__transfer_holds(CLASS, fake(7)) && !ap__transfer_holds(CLASS, fake(999)));
    cr_assert(!ap__transfer_holds(CLASS + 1, fake(7)));
    cr_assert_eq(ap__transfer_take(CLASS, blocks, 4), 4);
    cr_assert_eq(blocks[0], fake(OLDER - 1));
    cr_assert_eq(blocks[1], fake(1000));
    cr_assert_eq(blocks[3], fake(1002));
    cr_assert_eq(ap__transfer_take(CLASS, blocks, BATCH), OLDER - 1);
    cr_assert_eq(ap__transfer_count(CLASS), 0);
}

static void *take_all(void *argument)
{
    void *blocks[BATCH];
    unsigned size_class = *(unsigned *)argument;
    size_t taken = 0;
    unsigned got;
    while ((got = ap__transfer_take(size_class, blocks, ap__size_class[size_class].batch)) != 0) {
        taken += got;
    }
    return (void *)taken;
}

/* Blocks of the class that another thread takes. */
static size_t taken_by_another(unsigned size_class)
{
    pthread_t thread;
    void *taken;
    cr_assert_eq(pthread_create(&thread, NULL, take_all, &size_class), 0);
    pthread_join(thread, &taken);
    return (size_t)taken;
}

/* As many blocks as are kept. */
static unsigned give_all(unsigned size_class)
{
    void *blocks[BATCH];
    unsigned batch = ap__size_class[size_class].batch;
    unsigned kept = 0;
    unsigned got;
    fill(blocks, BATCH, 0);
    while ((got = ap__transfer_give(size_class, blocks, batch)) != 0) {
        kept += got;
        cr_assert_leq(kept, 1 << 16);
    }
    return kept;
}

/* What it holds at most: reached after some travels between threads. */
static unsigned travel(unsigned size_class)
{
    unsigned kept = give_all(size_class);
    for (int i = 0; i < 16; i++) {
        cr_assert_eq(taken_by_another(size_class), kept);
        kept = give_all(size_class);
    }
    return kept;
}

Test(transfer_cache, holds_more_of_what_travels_and_less_of_what_returns)
{
    ap__transfer_init(1, 256 << 10);
    unsigned room = ap__transfer_room(CLASS);
    unsigned at_first = give_all(CLASS);
    cr_assert(at_first == room && at_first <= BATCH, "%u of %u", at_first, room);
    cr_assert_eq(ap__transfer_room(CLASS), 0);
    cr_assert_eq(taken_by_another(CLASS), at_first);
    unsigned then = give_all(CLASS);
    cr_assert_eq(then, 2 * at_first);
    unsigned own_class = CLASS;
    cr_assert_eq((size_t)take_all(&own_class), then);
    cr_assert_eq(give_all(CLASS), at_first, "our own came back to us");
}

Test(transfer_cache, holds_half_of_its_bound_of_what_returns_where_that_is_wanted)
{
    unsigned own_class = CLASS;
    ap__transfer_init(1, 256 << 10);
    unsigned few = give_all(CLASS);
    ap__transfer_keep_all(CLASS);
    cr_assert_eq(ap__transfer_room(CLASS), 0, "not yet");
    for (unsigned i = 0; i < 4; i++) {
        cr_assert_eq((size_t)take_all(&own_class), few);
        few = give_all(CLASS);
        cr_assert_eq(few, 1024, "of 2,048");
    }
    ap__transfer_keep_all(LONG_CLASS);
    cr_assert_eq(ap__transfer_room(LONG_CLASS), 2u * ap__size_class[LONG_CLASS].batch);
    cr_assert_eq(give_all(LONG_CLASS), 2u * ap__size_class[LONG_CLASS].batch);
}

Test(transfer_cache, is_bounded_in_bytes_but_has_room_for_two_batches)
{
    ap__transfer_init(1, 64 << 10);
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        unsigned batch = ap__size_class[c].batch;
        unsigned kept = travel(c);
        cr_assert_geq(kept, 2 * batch);
        cr_assert(kept == 2 * batch || kept * (size_t)ap__size_class[c].size <= 64 << 10);
        cr_assert_eq(ap__transfer_count(c), kept);
    }
}

Test(transfer_cache, a_bound_of_0_turns_it_off)
{
    void *block = fake(1);
    ap__transfer_init(1, 0);
    cr_assert(!ap__transfer_give(CLASS, &block, 1));
    cr_assert_eq(ap__transfer_take(CLASS, &block, 1), 0);
}

Test(transfer_cache, without_memory_for_its_array_it_refuses)
{
    void *block = fake(1);
    ap__transfer_init(1, 1 << 20);
    os_faults_fail_always(OS_FAULTS_MMAP);
    cr_assert(!ap__transfer_give(CLASS, &block, 1));
    os_faults_reset();
    cr_assert(ap__transfer_give(CLASS, &block, 1));
}

/* Moves this thread to a processor of the first shard, from this one on, that has any. Returns the shard. */
static unsigned run_on_shard_from(unsigned number)
{
    while (number < AP_TRANSFER_SHARDS_MAX &&
           processor_run_on_shard(number, AP_TRANSFER_SHARDS_MAX) < 0) {
        number++;
    }
    if (number == AP_TRANSFER_SHARDS_MAX) {
        cr_skip_test("needs two processors that do not share a shard");
    }
    cr_assert_eq(ap__os_current_cpu() % AP_TRANSFER_SHARDS_MAX, number);
    return number;
}

Test(transfer_cache, processors_have_shards_of_their_own_that_count_together)
{
    void *blocks[BATCH];
    ap__transfer_init(AP_TRANSFER_SHARDS_MAX, 8 << 20);
    unsigned first = run_on_shard_from(0);
    fill(blocks, BATCH, 0);
    cr_assert(ap__transfer_give(CLASS, blocks, BATCH));
    (void)run_on_shard_from(first + 1);
    cr_assert_eq(ap__transfer_take(CLASS, blocks, BATCH), 0, "of the other processor");
    fill(blocks, 5, 1000);
    cr_assert(ap__transfer_give(CLASS, blocks, 5));
    cr_assert_eq(ap__transfer_count(CLASS), BATCH + 5);
    cr_assert(ap__transfer_holds(CLASS, fake(0)) && ap__transfer_holds(CLASS, fake(1000)));
    cr_assert_eq(run_on_shard_from(first), first);
    cr_assert_eq(ap__transfer_take(CLASS, blocks, BATCH), BATCH);
    cr_assert_eq(blocks[BATCH - 1], fake(BATCH - 1));
    cr_assert_eq(ap__transfer_drain(CLASS, blocks, BATCH), 5, "from wherever they are");
    cr_assert_eq(ap__transfer_count(CLASS), 0);
}

Test(transfer_cache, the_bound_is_divided_among_the_shards)
{
    cr_assert_geq(processor_run_on_shard(0, 1), 0); /* one shard for all threads of this test */
    ap__transfer_init(1, 64 << 10);
    unsigned alone = travel(1);
    ap__transfer_init(4, 64 << 10);
    unsigned shared = travel(2); /* 32 bytes: half as many, in a quarter */
    cr_assert(alone <= 4096 && shared <= alone / 4, "%u alone, %u in a shard", alone, shared);
}

Test(transfer_cache, draining_empties_every_shard)
{
    void *blocks[BATCH];
    ap__transfer_init(8, 1 << 20);
    cr_assert_eq(ap__transfer_shards(), 8);
    fill(blocks, BATCH, 0);
    cr_assert(ap__transfer_give(CLASS, blocks, BATCH));
    unsigned drained = 0;
    unsigned got;
    while ((got = ap__transfer_drain(CLASS, blocks, 10)) != 0) {
        drained += got;
    }
    cr_assert_eq(drained, BATCH);
    ap__transfer_init(1000, 1 << 20);
    cr_assert_eq(ap__transfer_shards(), AP_TRANSFER_SHARDS_MAX);
    ap__transfer_init(0, 1 << 20);
    cr_assert_geq(ap__transfer_shards(), 1);
}
