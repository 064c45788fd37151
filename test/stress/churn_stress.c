/* SPDX-License-Identifier: MIT */
/*
 * churn_stress.c: threads come and go.
 * Goal: what a thread leaves behind (its cache, its blocks) is taken over without a race, by
 * threads that start at the same moment. Method: a table of slots that survive all threads; each
 * short-lived thread frees or resizes what it finds there and leaves blocks of its own.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "stress.h"

enum { SPAWNERS = 3, SLOTS = 256, WORK_MOST = 400, SIZE_MOST = 300 << 10 };

struct slot {
    pthread_mutex_t mutex;
    struct stress_block block;
};

static struct slot slots[SLOTS];
static _Atomic(unsigned) next_number = SPAWNERS;

static void visit(struct slot *slot, struct stress_random *random)
{
    (void)pthread_mutex_lock(&slot->mutex);
    struct stress_block block = slot->block;
    slot->block = (struct stress_block){0};
    (void)pthread_mutex_unlock(&slot->mutex);

    if (stress_random_below(random, 4) == 0 && block.p != NULL) {
        stress_block_realloc(&block, stress_random_size(random, SIZE_MOST));
    } else {
        stress_block_free(&block);
        stress_block_allocate(&block, stress_random_size(random, SIZE_MOST), random);
    }

    (void)pthread_mutex_lock(&slot->mutex);
    struct stress_block other = slot->block;
    slot->block = block;
    (void)pthread_mutex_unlock(&slot->mutex);
    stress_block_free(&other);
}

static void *live_shortly(void *unused)
{
    struct stress_random random = stress_random_stream(atomic_fetch_add(&next_number, 1));
    size_t work = stress_random_below(&random, WORK_MOST);
    for (size_t i = 0; i < work; i++) {
        visit(&slots[stress_random_below(&random, SLOTS)], &random);
    }
    if (stress_random_below(&random, 3) == 0) {
        ap_thread_idle();
    }
    stress_count(work);
    return unused;
}

static void spawn(unsigned number)
{
    struct stress_random random = stress_random_stream(number);
    while (!stress_is_over()) {
        pthread_t threads[4];
        size_t count = 1 + stress_random_below(&random, 4);
        for (size_t i = 0; i < count; i++) {
            STRESS_CHECK(pthread_create(&threads[i], NULL, live_shortly, NULL) == 0);
        }
        for (size_t i = 0; i < count; i++) {
            STRESS_CHECK(pthread_join(threads[i], NULL) == 0);
        }
    }
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "churn_stress");
    for (unsigned s = 0; s < SLOTS; s++) {
        (void)pthread_mutex_init(&slots[s].mutex, NULL);
    }
    stress_run_threads(SPAWNERS, spawn);
    for (unsigned s = 0; s < SLOTS; s++) {
        stress_block_free(&slots[s].block);
    }
    return stress_finish();
}
