/* SPDX-License-Identifier: MIT */
/*
 * handover_stress.c: some threads allocate, others free.
 * Goal: blocks that are freed by another thread than the one that allocated them keep their
 * contents, are reused, and are never in two hands. Method: bounded queues of marked blocks, in
 * three shapes for a third of the time each: pairs, many to many, all to one.
 */
#include <pthread.h>

#include "stress.h"

enum { PAIRS = 3, THREADS = 2 * PAIRS, CAPACITY = 256, BATCH = 32, SIZE_MOST = 300 << 10 };

struct queue {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct stress_block blocks[CAPACITY]; /* a ring */
    size_t first, length;
    unsigned producers; /* that may still put something in */
};

static struct queue queues[PAIRS];

static void put(struct queue *queue, const struct stress_block *block)
{
    (void)pthread_mutex_lock(&queue->mutex);
    while (queue->length == CAPACITY) {
        (void)pthread_cond_wait(&queue->changed, &queue->mutex);
    }
    queue->blocks[(queue->first + queue->length++) % CAPACITY] = *block;
    (void)pthread_cond_broadcast(&queue->changed);
    (void)pthread_mutex_unlock(&queue->mutex);
}

/* False when the queue is empty for good. */
static bool take(struct queue *queue, struct stress_block *block)
{
    (void)pthread_mutex_lock(&queue->mutex);
    while (queue->length == 0 && queue->producers != 0) {
        (void)pthread_cond_wait(&queue->changed, &queue->mutex);
    }
    bool found = queue->length != 0;
    if (found) {
        *block = queue->blocks[queue->first];
        queue->first = (queue->first + 1) % CAPACITY;
        queue->length--;
        (void)pthread_cond_broadcast(&queue->changed);
    }
    (void)pthread_mutex_unlock(&queue->mutex);
    return found;
}

static void leave(struct queue *queue)
{
    (void)pthread_mutex_lock(&queue->mutex);
    queue->producers--;
    (void)pthread_cond_broadcast(&queue->changed);
    (void)pthread_mutex_unlock(&queue->mutex);
}

enum shape { PAIRED, MANY_TO_MANY, ALL_TO_ONE, SHAPES };

static enum shape shape;
static unsigned batches; /* per producer in this round */

/* Which queue the producer uses for its n-th batch, and the consumer for all. */
static struct queue *queue_of(unsigned number, unsigned n)
{
    switch (shape) {
    case PAIRED:
        return &queues[number];
    case MANY_TO_MANY:
        return &queues[(number + n) % PAIRS];
    default:
        return &queues[0];
    }
}

static void produce(unsigned number)
{
    struct stress_random random = stress_random_stream(number + 100 * batches);
    for (unsigned n = 0; n < batches; n++) {
        struct queue *queue = queue_of(number, n);
        /* Often of one size: whole batches then travel. */
        size_t size = stress_random_size(&random, SIZE_MOST);
        for (unsigned i = 0; i < BATCH; i++) {
            struct stress_block block;
            stress_block_allocate(&block, size, &random);
            STRESS_CHECK(block.p != NULL);
            put(queue, &block);
        }
    }
    for (unsigned q = 0; q < PAIRS; q++) {
        leave(&queues[q]);
    }
    stress_count((uint64_t)batches * BATCH);
}

static void consume(unsigned number)
{
    struct stress_block block, kept = {0};
    while (take(&queues[number], &block)) {
        if (block.size % 7 == 0) { /* some live a little longer, some are resized here */
            stress_block_free(&kept);
            kept = block;
        } else {
            if (block.size % 11 == 0) {
                stress_block_realloc(&block, block.size + 100);
            }
            stress_block_free(&block);
        }
    }
    stress_block_free(&kept);
}

static void body(unsigned number)
{
    if (number < PAIRS) {
        produce(number);
    } else {
        consume(number - PAIRS);
    }
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "handover_stress");
    for (unsigned q = 0; q < PAIRS; q++) {
        (void)pthread_mutex_init(&queues[q].mutex, NULL);
        (void)pthread_cond_init(&queues[q].changed, NULL);
    }
    for (unsigned round = 0; round < SHAPES || !stress_is_over(); round++) {
        shape = (enum shape)(round % SHAPES);
        batches = 40 + round % 7;
        for (unsigned q = 0; q < PAIRS; q++) {
            queues[q].producers = PAIRS;
        }
        stress_run_threads(THREADS, body);
    }
    return stress_finish();
}
