/* SPDX-License-Identifier: MIT */
/*
 * shards_random_test.c: takes and gives in random order, of both shards of a class that is divided.
 * Goal: no block is lost, or counted in another shard than its span's; each is claimed from the own one. Method: one
 * thread, which changes its number, beside a list of what it holds; memory is refused now and then, and
 * everything is walked. The seed is printed.
 */
#include "central/shards.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "spread_class.h"
#include "support/heap_check.h"

enum {
    RANDOM_STEPS = 20000,
    RANDOM_LOOK = 100, /* steps between two walks of everything */
};

static void *held[BLOCKS_MAX];
static unsigned held_count;
static unsigned shard; /* this thread's */

static void take_at_random(unsigned count)
{
    unsigned room = BLOCKS_MAX - held_count;
    unsigned wanted = count < room ? count : room;
    unsigned taken = ap__central_take(CLASS, held + held_count, wanted);
    for (unsigned i = held_count; i < held_count + taken; i++) {
        cr_assert_eq(named_by(held[i]), shard, "claimed from the own shard");
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
        unsigned number = draw / 4 % 8;
        ap__central_set_thread(number);
        shard = number % 2;
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

Test(shards_random, at_random_no_block_is_lost, .timeout = 100)
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
