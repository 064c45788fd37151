/* SPDX-License-Identifier: MIT */
/*
 * meta_model_test.c: metadata through random use, beside a model.
 * Goal: pieces are zero when they are had, aligned, nobody else's until they are given back; and every mapped byte is in
 * use, in a free piece, in an empty page or untouched. Method: a list of pieces held with a mark each; purges of all kinds
 * and refusals in between; the same in threads. The seed is printed.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "meta/meta.h"
#include "os/os.h"
#include "support/os_faults.h"

enum { HELD_MAX = 600, ROUNDS = 60000, THREADS = 4, THREAD_ROUNDS = 20000 };

struct held {
    uint64_t *piece; /* NULL: none */
    size_t bytes;
};

struct model {
    struct held held[HELD_MAX];
    size_t in_use_bytes;
    size_t most; /* of `held` that are in use at the moment: it ebbs and flows */
    uint64_t mark;
    unsigned seed;
};

static size_t random_below(struct model *model, size_t n)
{
    return (size_t)rand_r(&model->seed) % n;
}

static unsigned announced_seed(void)
{
    unsigned seed = (unsigned)time(NULL);
    printf("# meta: seed %u\n", seed);
    return seed;
}

/* Words at some distance, the first and last ones. */
static bool is_filled(const struct held *held, uint64_t with)
{
    size_t words = held->bytes / sizeof *held->piece;
    bool good = held->piece[words - 1] == with;
    for (size_t i = 0; i < words; i += i < 512 ? 1 : 61) {
        good = good && held->piece[i] == with;
    }
    return good;
}

/* Small ones mostly. */
static void take(struct model *model, struct held *held)
{
    size_t shift =
        random_below(model, 30) == 0 ? 12 + random_below(model, 6) : 6 + random_below(model, 7);
    size_t bytes = (size_t)1 << shift;
    held->bytes = bytes;
    held->piece = ap__meta_take(bytes - random_below(model, bytes / 2));
    if (held->piece == NULL) {
        return;
    }
    cr_assert_eq((uintptr_t)held->piece % ap__min(bytes, ap__os_page_size()), 0);
    cr_assert(is_filled(held, 0));
    for (size_t i = 0; i < bytes / sizeof *held->piece; i++) {
        held->piece[i] = model->mark + (size_t)(held - model->held);
    }
    model->in_use_bytes += bytes;
}

static void give(struct model *model, struct held *held)
{
    cr_assert(is_filled(held, model->mark + (size_t)(held - model->held)));
    ap__meta_give(held->piece, held->bytes);
    held->piece = NULL;
    model->in_use_bytes -= held->bytes;
}

static void step(struct model *model)
{
    struct held *held = &model->held[random_below(model, HELD_MAX)];
    bool wanted = (size_t)(held - model->held) < model->most;
    bool more = false;
    if (held->piece != NULL && (!wanted || random_below(model, 2) == 0)) {
        give(model, held);
    } else if (held->piece == NULL && wanted) {
        take(model, held);
    }
    switch (random_below(model, 500)) {
    case 0:
        (void)ap__meta_purge();
        break;
    case 1:
        (void)ap__meta_purge_at_once();
        break;
    case 2:
        (void)ap__meta_purge_unused(&more);
        break;
    case 3:
        model->most = random_below(model, HELD_MAX + 1);
        break;
    default:
        break;
    }
}

static void give_all(struct model *model)
{
    for (size_t i = 0; i < HELD_MAX; i++) {
        if (model->held[i].piece != NULL) {
            give(model, &model->held[i]);
        }
    }
}

static void expect_every_byte(const struct model *model)
{
    struct ap__meta_stats stats;
    ap__meta_stats(&stats);
    cr_assert_eq(stats.mapped_bytes, model->in_use_bytes + stats.free_bytes + stats.empty_bytes +
                                         stats.untouched_bytes);
}

static void refuse_something(struct model *model)
{
    static const enum os_faults_call calls[] = {OS_FAULTS_MADVISE, OS_FAULTS_MPROTECT};
    os_faults_reset();
    if (random_below(model, 2) == 0) {
        os_faults_fail_nth(calls[random_below(model, 2)], 1 + random_below(model, 10));
    }
}

Test(meta_model, every_byte_is_somewhere_through_random_use, .timeout = 100)
{
    static struct model model = {.most = HELD_MAX, .mark = 1};
    model.seed = announced_seed();
    for (int round = 0; round < ROUNDS; round++) {
        step(&model);
        if (round % 50 == 0) {
            refuse_something(&model);
            expect_every_byte(&model);
        }
    }
    give_all(&model);
    os_faults_reset();
    (void)ap__meta_purge();
    expect_every_byte(&model);
}

Test(meta_model, all_that_is_free_goes_in_the_end, .timeout = 100)
{
    static struct model model = {.most = HELD_MAX, .mark = 1};
    struct ap__meta_stats stats;
    model.seed = announced_seed();
    for (int round = 0; round < ROUNDS / 4; round++) {
        step(&model);
    }
    give_all(&model);
    (void)ap__meta_purge();
    ap__meta_stats(&stats);
    cr_assert_eq(stats.free_bytes, 0);
    cr_assert_eq(stats.mapped_bytes, stats.empty_bytes + stats.untouched_bytes);
}

static void *run(void *argument)
{
    struct model *model = argument;
    for (int round = 0; round < THREAD_ROUNDS; round++) {
        step(model);
    }
    give_all(model);
    return NULL;
}

Test(meta_model, threads_and_purges_leave_each_other_alone, .timeout = 100)
{
    static struct model models[THREADS];
    pthread_t threads[THREADS];
    unsigned seed = announced_seed();
    for (unsigned i = 0; i < THREADS; i++) {
        models[i] = (struct model){.most = HELD_MAX, .mark = (i + 1) * HELD_MAX, .seed = seed + i};
        cr_assert_eq(pthread_create(&threads[i], NULL, run, &models[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
    }
    expect_every_byte(&models[0]);
}
