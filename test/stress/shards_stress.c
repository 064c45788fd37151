/* SPDX-License-Identifier: MIT */
/*
 * shards_stress.c: spans are taken over from one thread's shard by another while blocks of them are freed.
 *
 * Goal: a block is found at any moment in the shard that its span names, is in one hand, and none is lost. Method:
 * classes are spread first, by many blocks, in all threads at once. Then short-lived threads allocate bursts of one
 * class, leave them in places where others find them, and free what they find there: few spans, with a few free slots
 * in each, of which whoever allocates takes over one after another. Now and then places are left empty, and spans
 * drain. The test's options see to small thread caches, so that most calls come down to the spans, and to it that no
 * block is packed. What is left in the end must be exactly what the walk of support/consistency.h counts. How many
 * blocks saw their span taken over is printed.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/size_class.h"
#include "central/central_free_list.h"
#include "central/shards.h"
#include "heap/page_heap.h"
#include "stress.h"
#include "support/consistency.h"
#include "support/process_view.h"

enum {
    SPAWNERS = 4,
    CLASSES = 4,
    SLOTS_MOST = 256,
    SPREAD_SPANS = 5,    /* with so many spans a shard a class has all its shards, for good */
    SPANS_PER_SHARD = 3, /* then, of blocks in places: so few that threads meet in them */
    PLACES_MAX = SPANS_PER_SHARD * AP_CENTRAL_SHARDS_MAX * SLOTS_MOST,
    BURST_SPANS = 2, /* of blocks at most */
    BURST_MOST = BURST_SPANS * SLOTS_MOST,
    BURSTS_MOST = 60, /* of one life */
    MARKED_MOST = 40, /* bytes: blocks of a class overlap from the first byte on, or not at all */
    LIVES_EACH = 16,  /* of one class in a row, so that those that run at once meet */
};

static const size_t sizes[CLASSES] = {2048, 1536, 1024, 256};

struct held {
    struct stress_block block;
    unsigned shard; /* that its span named at first */
};

/* What blocks are left in for any thread to find. */
static struct place {
    pthread_mutex_t mutex;
    struct held held;
} places[CLASSES][PLACES_MAX];
static size_t place_counts[CLASSES];

static _Atomic(unsigned) next_number = SPAWNERS;
static _Atomic(uint64_t) moved;

static unsigned shard_of(const void *p)
{
    const struct ap__span *span = ap__page_heap_span_of((uintptr_t)p);
    return atomic_load_explicit(&span->shard, memory_order_relaxed);
}

static void allocate_burst(struct held *burst, unsigned count, size_t size,
                           struct stress_random *random)
{
    void *blocks[BURST_MOST];
    for (unsigned i = 0; i < count; i++) {
        blocks[i] = ap_malloc(size);
        STRESS_CHECK(blocks[i] != NULL);
    }
    for (unsigned i = 0; i < count; i++) {
        size_t marked = 1 + stress_random_below(random, MARKED_MOST);
        burst[i].shard = shard_of(blocks[i]);
        stress_block_fill(&burst[i].block, blocks[i], marked, 16, stress_random_next(random));
    }
}

static void free_burst(const struct held *burst, unsigned count)
{
    uint64_t seen = 0;
    for (unsigned i = 0; i < count; i++) {
        if (burst[i].block.p != NULL) {
            stress_block_check(&burst[i].block, burst[i].block.size);
            seen += shard_of(burst[i].block.p) != burst[i].shard;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        ap_free(burst[i].block.p);
    }
    atomic_fetch_add_explicit(&moved, seen, memory_order_relaxed);
}

/* Puts each into some place, and has what was there. */
static void exchange_burst(struct held *burst, unsigned count, unsigned class,
                           struct stress_random *random)
{
    for (unsigned i = 0; i < count; i++) {
        struct place *place = &places[class][stress_random_below(random, place_counts[class])];
        (void)pthread_mutex_lock(&place->mutex);
        struct held found = place->held;
        place->held = burst[i];
        (void)pthread_mutex_unlock(&place->mutex);
        burst[i] = found;
    }
}

/* The most blocks of a burst. */
static size_t burst_most(unsigned class)
{
    return (size_t)BURST_SPANS * ap__size_class[ap__class_of_size(sizes[class])].slots;
}

static void *live_shortly(void *memory)
{
    struct held *burst = memory;
    unsigned number = atomic_fetch_add(&next_number, 1);
    struct stress_random random = stress_random_stream(number);
    unsigned class = number / LIVES_EACH % CLASSES;
    size_t bursts = 1 + stress_random_below(&random, BURSTS_MOST);
    for (size_t done = 0; done < bursts && !stress_is_over(); done++) {
        unsigned count = 1 + (unsigned)stress_random_below(&random, burst_most(class));
        if (stress_random_below(&random, 8) != 0) {
            allocate_burst(burst, count, sizes[class], &random);
        } else { /* places are left empty */
            memset(burst, 0, count * sizeof *burst);
        }
        exchange_burst(burst, count, class, &random);
        free_burst(burst, count);
        stress_count(count);
    }
    if (stress_random_below(&random, 3) == 0) {
        ap_thread_idle();
    }
    return NULL;
}

static void spawn(unsigned number)
{
    static struct held bursts[SPAWNERS][BURST_MOST];
    while (!stress_is_over()) {
        pthread_t thread;
        STRESS_CHECK(pthread_create(&thread, NULL, live_shortly, bursts[number]) == 0);
        STRESS_CHECK(pthread_join(thread, NULL) == 0);
    }
}

/* ------------------------------------------------------------ before and after */

static size_t live_blocks(void)
{
    const char *fault = consistency_find_fault();
    if (fault != NULL) {
        (void)fprintf(stderr, "%s\n", fault);
    }
    STRESS_CHECK(fault == NULL);
    return consistency_sums().live_blocks;
}

static size_t expected;

static bool is_as_expected(void)
{
    return live_blocks() == expected;
}

/* The helper may be carrying blocks from one place to another. */
static void expect_live_blocks(size_t count)
{
    ap_thread_idle();
    expected = count;
    STRESS_CHECK(view_wait(is_as_expected, 30000) >= 0);
}

static void make_places(void)
{
    for (unsigned i = 0; i < CLASSES; i++) {
        unsigned c = ap__class_of_size(sizes[i]);
        place_counts[i] = (size_t)SPANS_PER_SHARD * ap__shards_of(c) * ap__size_class[c].slots;
        STRESS_CHECK(place_counts[i] <= PLACES_MAX);
        for (size_t n = 0; n < place_counts[i]; n++) {
            (void)pthread_mutex_init(&places[i][n].mutex, NULL);
        }
    }
}

/* Returns how many there were. */
static size_t count_places(void)
{
    size_t count = 0;
    for (unsigned i = 0; i < CLASSES; i++) {
        for (size_t n = 0; n < place_counts[i]; n++) {
            count += places[i][n].held.block.p != NULL;
        }
    }
    return count;
}

static void free_places(void)
{
    for (unsigned i = 0; i < CLASSES; i++) {
        for (size_t n = 0; n < place_counts[i]; n++) {
            free_burst(&places[i][n].held, 1);
        }
    }
}

static void spread_class(unsigned size_class)
{
    unsigned shards = ap__shards_of(size_class);
    void **last = NULL;
    for (unsigned left = SPREAD_SPANS * shards * ap__size_class[size_class].slots; left != 0;
         left--) {
        void **block = ap_malloc(ap__size_class[size_class].size);
        STRESS_CHECK(block != NULL);
        *block = last;
        last = block;
    }
    for (void **block = last; block != NULL; block = last) {
        last = *block;
        ap_free(block);
    }
    STRESS_CHECK(ap__central_shards(size_class) == shards);
}

/* By threads that are not the only ones. */
static void spread(unsigned unused)
{
    (void)unused;
    for (unsigned i = 0; i < CLASSES; i++) {
        spread_class(ap__class_of_size(sizes[i]));
    }
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "shards_stress");
    ap_free(ap_malloc(1));
    size_t at_start = live_blocks();
    make_places();
    stress_run_threads(SPAWNERS, spread);
    stress_run_threads(SPAWNERS, spawn);
    expect_live_blocks(at_start + count_places());
    (void)printf("shards_stress: the spans of %llu blocks were taken over\n",
                 (unsigned long long)atomic_load(&moved));
    free_places();
    expect_live_blocks(at_start);
    return stress_finish();
}
