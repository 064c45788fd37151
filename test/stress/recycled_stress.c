/* SPDX-License-Identifier: MIT */
/*
 * recycled_stress.c: packed blocks of one class, and of its neighbours, replace each other in thread caches.
 *
 * Goal: lists that hold blocks of a class and packed ones lose nothing and hand nothing out twice, whoever takes and
 * frees, while the class comes to be recycled under the threads' hands and the helper takes what sleeping threads
 * keep. Method: a heap of more than 16 MiB of marked blocks in places that all threads share; each thread exchanges
 * blocks of its own, passes some on, resizes some in place, takes some at an alignment that packed ones do not have,
 * sleeps now and then, empties its cache, ends and is followed by another; one looks at the figures all the time. In
 * the end all classes of these sizes are recycled, the walk finds no fault, the figures are exactly what is left, and
 * when all is freed no packed span is left.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "pack/pack.h"
#include "pack/pack_place.h"
#include "stress.h"
#include "support/consistency.h"
#include "support/process_view.h"

enum {
    SPAWNERS = 4,
    PLACES = 10000,
    OWN = 60,
    ROUNDS_MOST = 40000,
    SIZE = 4096,
    AT_REST_MS = 30000,
    LARGE = 300000,
};

static struct place {
    pthread_mutex_t mutex;
    struct stress_block block;
} places[PLACES];

static _Atomic(unsigned) next_number = SPAWNERS + 1;
static _Atomic(uint64_t) sleeps, aligned_blocks;

/* Mostly of one class; some of those around it. */
static size_t random_size(struct stress_random *random)
{
    return stress_random_below(random, 8) != 0 ? SIZE - stress_random_below(random, 250)
                                               : 1500 + stress_random_below(random, 5000);
}

static void allocate(struct stress_block *block, struct stress_random *random)
{
    size_t size = random_size(random), alignment = 16;
    void *p;
    if (stress_random_below(random, 64) == 0) { /* each may open a span of the class */
        alignment = (size_t)128 << stress_random_below(random, 6);
        p = ap_aligned_alloc(alignment, size);
        STRESS_CHECK((uintptr_t)p % alignment == 0);
        atomic_fetch_add_explicit(&aligned_blocks, 1, memory_order_relaxed);
    } else {
        p = ap_malloc(size);
    }
    STRESS_CHECK(p != NULL);
    stress_block_fill(block, p, size, alignment, stress_random_next(random));
}

static void pass_on(struct stress_block *block, struct stress_random *random)
{
    struct place *place = &places[stress_random_below(random, PLACES)];
    (void)pthread_mutex_lock(&place->mutex);
    struct stress_block found = place->block;
    place->block = *block;
    (void)pthread_mutex_unlock(&place->mutex);
    *block = found;
}

static void sleep_shortly(struct stress_random *random)
{
    struct timespec pause = {0, (long)stress_random_below(random, 30000000)};
    (void)nanosleep(&pause, NULL);
    atomic_fetch_add_explicit(&sleeps, 1, memory_order_relaxed);
}

static void change(struct stress_block *own, struct stress_random *random)
{
    struct stress_block *block = &own[stress_random_below(random, OWN)];
    size_t way = stress_random_below(random, 20000);
    if (way == 0) {
        (void)ap_trim();
    } else if (way < 4) {
        ap_thread_idle();
    } else if (way < 8) {
        sleep_shortly(random);
    } else if (way < 4000 && block->p != NULL) {
        pass_on(block, random);
    } else if (way < 6000 && block->p != NULL) {
        stress_block_realloc(block, random_size(random));
    } else {
        stress_block_free(block);
        allocate(block, random);
    }
}

static void *live_shortly(void *unused)
{
    struct stress_random random = stress_random_stream(atomic_fetch_add(&next_number, 1));
    struct stress_block own[OWN] = {{0}};
    size_t rounds = 1 + stress_random_below(&random, ROUNDS_MOST);
    for (size_t round = 0; round < rounds && !stress_is_over(); round++) {
        change(own, &random);
    }
    for (unsigned i = 0; i < OWN; i++) {
        stress_block_free(&own[i]);
    }
    stress_count(rounds);
    return unused;
}

static void observe(void)
{
    while (!stress_is_over()) {
        struct timespec pause = {0, 1000000};
        (void)ap_mallinfo2();
        (void)nanosleep(&pause, NULL);
    }
}

static void spawn(unsigned number)
{
    if (number == SPAWNERS) {
        observe();
        return;
    }
    while (!stress_is_over()) {
        pthread_t thread;
        STRESS_CHECK(pthread_create(&thread, NULL, live_shortly, NULL) == 0);
        STRESS_CHECK(pthread_join(thread, NULL) == 0);
    }
}

/* ------------------------------------------------------------ the end */

static void expect_no_fault(void)
{
    const char *fault = consistency_find_fault();
    if (fault != NULL) {
        (void)fprintf(stderr, "%s\n", fault);
    }
    STRESS_CHECK(fault == NULL);
}

static size_t live_before;

/* Of blocks in places; some others are in this thread's cache, or on their way from there by the helper's hands, where they
 * look live for a moment. */
static bool are_figures_right(void)
{
    size_t packed = 0, bytes = 0;
    expect_no_fault();
    for (size_t i = 0; i < PLACES; i++) {
        packed += ap__pack_span_of(places[i].block.p) != NULL;
        bytes += ap_usable_size(places[i].block.p);
    }
    struct consistency_sums sums = consistency_sums();
    return sums.packed_blocks - sums.cached_packed_blocks == packed &&
           ap_mallinfo2().uordblks - live_before == bytes;
}

static bool no_span_is_left(void)
{
    struct ap__pack_stats stats;
    ap_free(ap_malloc(LARGE)); /* one thread is left: it decays by its own calls */
    ap__pack_stats(&stats);
    return stats.spans == 0;
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "recycled_stress");
    struct stress_random random = stress_random_stream(SPAWNERS);
    live_before = ap_mallinfo2().uordblks;
    for (size_t i = 0; i < PLACES; i++) {
        (void)pthread_mutex_init(&places[i].mutex, NULL);
        allocate(&places[i].block, &random);
    }
    stress_run_threads(SPAWNERS + 1, spawn);
    STRESS_CHECK(ap__pack_is_recycled(ap__class_of_size(SIZE)));
    for (size_t i = 0; i < PLACES; i += 7) {
        stress_block_free(&places[i].block);
    }
    STRESS_CHECK(view_wait(are_figures_right, AT_REST_MS) >= 0);
    for (size_t i = 0; i < PLACES; i++) {
        stress_block_free(&places[i].block);
    }
    ap_thread_idle();
    STRESS_CHECK(view_wait(no_span_is_left, AT_REST_MS) >= 0);
    expect_no_fault();
    (void)printf("recycled_stress: %llu sleeps, %llu aligned blocks\n",
                 (unsigned long long)atomic_load(&sleeps),
                 (unsigned long long)atomic_load(&aligned_blocks));
    return stress_finish();
}
