/* SPDX-License-Identifier: MIT */
/*
 * pack_model_test.c: packed blocks through random use, beside a model.
 * Goal: what a block holds stays what it is, its length is what was asked, figures are those of the model, and all that
 * is kept agrees. Method: threads of several numbers take, give and resize; purges and refusals come in between;
 * heap_check() walks the heap every so often. The seed is printed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "central/central_free_list.h"
#include "packed.h"
#include "support/heap_check.h"
#include "support/os_faults.h"

enum { HELD_MAX = 1500, ROUNDS = 200000, CHECK_EVERY = 997, NUMBERS = 11 };

static struct {
    unsigned char *p;
    size_t size;
    unsigned char stamp;
} held[HELD_MAX];
static size_t live, live_bytes;
static bool is_refused;

static size_t random_below(size_t n)
{
    return (size_t)rand() % n;
}

static size_t random_size(void)
{
    static const size_t mosts[] = {300, 3000, 30000, AP__PACK_SIZE_MAX - AP__PACK_SIZE_MIN + 1};
    return AP__PACK_SIZE_MIN + random_below(mosts[random_below(4)]);
}

static size_t usable_of(size_t size)
{
    return ap__align_up(size, AP_UNIT_BYTES);
}

/* To the last byte of what may be used. */
static void stamp(size_t slot)
{
    memset(held[slot].p, held[slot].stamp, usable_of(held[slot].size));
}

static void expect_stamp(size_t slot, size_t bytes)
{
    const unsigned char *p = held[slot].p;
    cr_assert(p[0] == held[slot].stamp && memcmp(p, p + 1, bytes - 1) == 0, "somebody wrote there");
}

static void take_random(size_t slot)
{
    size_t size = random_size();
    unsigned char *p = ap__pack_take(size, (unsigned)random_below(NUMBERS));
    cr_assert(p != NULL || is_refused);
    if (p != NULL) {
        held[slot].p = p;
        held[slot].size = size;
        held[slot].stamp = (unsigned char)rand();
        cr_assert_eq(usable(p), usable_of(size));
        live++;
        live_bytes += usable_of(size);
        stamp(slot);
    }
}

static void resize_random(size_t slot)
{
    size_t before = usable_of(held[slot].size);
    size_t size = random_below(2) == 0 ? random_size() : before + random_below(1000);
    if (!ap__pack_may(1, size) ||
        !ap__pack_resize(span_of(held[slot].p), held[slot].p, before, size)) {
        cr_assert(size > before, "shorter is never refused");
        size = held[slot].size;
    }
    cr_assert_eq(usable(held[slot].p), usable_of(size));
    expect_stamp(slot, ap__min(before, usable_of(size)));
    live_bytes += usable_of(size) - before;
    held[slot].size = size;
    stamp(slot);
}

static void give_held(size_t slot)
{
    expect_stamp(slot, usable_of(held[slot].size));
    live--;
    live_bytes -= usable_of(held[slot].size);
    give(held[slot].p);
    held[slot].p = NULL;
}

/* All of some, so that spans drain. */
static void give_many(void)
{
    size_t share = 1 + random_below(8);
    for (size_t slot = 0; slot < HELD_MAX; slot++) {
        if (held[slot].p != NULL && random_below(8) < share) {
            give_held(slot);
        }
    }
}

static void disturb(void)
{
    static unsigned epoch;
    bool pending = false;
    ap__central_set_epoch(epoch++);
    is_refused = random_below(3) == 0;
    refuse_memory(is_refused);
    if (random_below(4) == 0) {
        os_faults_fail_nth(OS_FAULTS_MADVISE, 1 + random_below(20));
    }
    (void)ap__pack_purge((unsigned)random_below(2), 1, &pending);
    os_faults_reset();
    if (random_below(10) == 0) {
        give_many();
    }
}

static void check(void)
{
    struct ap__pack_stats figures = stats();
    cr_assert_eq(figures.blocks, live);
    cr_assert_eq(figures.block_bytes, live_bytes);
    cr_assert_eq(ap__pack_block_bytes(), live_bytes);
    cr_assert_eq(heap_check().packed_blocks, live);
}

Test(pack_model, does_what_the_model_does_through_random_use, .timeout = 100)
{
    unsigned seed = (unsigned)time(NULL);
    fprintf(stderr, "# pack: seed %u\n", seed);
    srand(seed);
    init();
    ap__pack_init(AP__WHEN_AUTO, true);
    for (unsigned round = 0; round < ROUNDS; round++) {
        size_t slot = random_below(HELD_MAX);
        if (held[slot].p == NULL) {
            take_random(slot);
        } else if (random_below(2) == 0) {
            resize_random(slot);
        } else {
            give_held(slot);
        }
        if (random_below(400) == 0) {
            disturb();
        }
        if (round % CHECK_EVERY == 0) {
            check();
        }
    }
    for (size_t slot = 0; slot < HELD_MAX; slot++) {
        if (held[slot].p != NULL) {
            give_held(slot);
        }
    }
    check();
    cr_assert_eq(stats().spans, 0);
}
