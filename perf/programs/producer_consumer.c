/* SPDX-License-Identifier: MIT */
/*
 * producer_consumer: blocks are allocated by one thread and freed by another.
 * The pattern: messages between the stages of a pipeline. Known as the worst case of allocators that
 * return a block to the thread it came from ("xmalloc" of Lever and Boreham, USENIX 2000).
 * Options: producers, consumers, operations (blocks of each producer), hold. Consumers take from the producers
 * in turn; each producer has a queue of its own for each consumer, so that the queues cost little.
 */
#include "bench.h"

#include <sched.h>

enum { QUEUE = 1024, LEAST_BYTES = 16, DOUBLINGS = 6 };

/* One writer, one reader. */
struct queue {
    _Alignas(64) size_t written; /* release by the producer, acquired by the consumer */
    _Alignas(64) size_t read;    /* release by the consumer, acquired by the producer */
    void *blocks[QUEUE];
};

static struct queue *queues; /* [producer * consumers + consumer] */
static size_t producers, consumers;
static long blocks_each;

static void put(struct queue *queue, void *block)
{
    size_t written = queue->written;
    while (written - __atomic_load_n(&queue->read, __ATOMIC_ACQUIRE) == QUEUE)
        sched_yield();
    queue->blocks[written % QUEUE] = block;
    __atomic_store_n(&queue->written, written + 1, __ATOMIC_RELEASE);
}

/* Takes what is there, all of it. */
static size_t drain(struct queue *queue)
{
    size_t from = queue->read;
    size_t to = __atomic_load_n(&queue->written, __ATOMIC_ACQUIRE);
    for (size_t i = from; i != to; i++)
        free(queue->blocks[i % QUEUE]);
    __atomic_store_n(&queue->read, to, __ATOMIC_RELEASE);
    return to - from;
}

static void *produce(size_t self)
{
    struct bench_random random = {self + 1};
    struct queue *own = &queues[self * consumers];
    for (long i = 0; i < blocks_each; i++)
        put(&own[(size_t)i % consumers],
            bench_allocate_touched(bench_random_size(&random, LEAST_BYTES, DOUBLINGS)));
    return NULL;
}

static void *consume(size_t self)
{
    size_t left = 0;
    for (long i = (long)self; i < blocks_each; i += (long)consumers)
        left += producers;
    while (left > 0) {
        size_t before = left;
        for (size_t i = 0; i < producers; i++)
            left -= drain(&queues[i * consumers + self]);
        if (left == before)
            sched_yield();
    }
    return NULL;
}

static void *run(void *argument)
{
    size_t self = *(size_t *)argument;
    return self < producers ? produce(self) : consume(self - producers);
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    producers = (size_t)bench_number("producers", 1);
    consumers = (size_t)bench_number("consumers", 1);
    blocks_each = bench_number("operations", 10000000);
    size_t threads = producers + consumers;
    queues = (struct queue *)aligned_alloc(64, producers * consumers * sizeof *queues);
    memset(queues, 0, producers * consumers * sizeof *queues);
    size_t *numbers = (size_t *)calloc(threads, sizeof *numbers);
    for (size_t i = 0; i < threads; i++)
        numbers[i] = i;
    bench_start();
    bench_threads_run(threads, run, numbers, sizeof *numbers);
    bench_end((uint64_t)blocks_each * producers, 0);
    return 0;
}
