/* SPDX-License-Identifier: MIT */
/*
 * bursts: the heap grows to its peak, shrinks to a twentieth, and grows again.
 * The pattern: a batch arrives, a cache is dropped, a document is closed. What counts is the cost of page
 * faults while it grows, whether memory is reused when it grows again, and what stays resident.
 * Options: peak_mib, bursts, threads, hold.
 */
#include "bench.h"

enum { LEAST_BYTES = 64, DOUBLINGS = 11, KEPT_ONE_IN = 20 };

struct node {
    struct node *next;
    size_t bytes;
};

struct work {
    uint64_t peak_bytes;
    long bursts;
    uint64_t seed;
    uint64_t operations, live_bytes; /* out */
};

/* Keeps each twentieth block. */
static struct node *shrink(struct node *list, uint64_t *live_bytes)
{
    struct node *kept = NULL;
    size_t i = 0;
    while (list != NULL) {
        struct node *next = list->next;
        if (i++ % KEPT_ONE_IN == 0) {
            list->next = kept;
            kept = list;
        } else {
            *live_bytes -= list->bytes;
            free(list);
        }
        list = next;
    }
    return kept;
}

static void *run(void *argument)
{
    struct work *work = (struct work *)argument;
    struct bench_random random = {work->seed};
    struct node *list = NULL;
    for (long burst = 0; burst < work->bursts; burst++) {
        while (work->live_bytes < work->peak_bytes) {
            size_t bytes = bench_random_size(&random, LEAST_BYTES, DOUBLINGS);
            struct node *node = (struct node *)bench_allocate(bytes);
            memset(node, 1, bytes);
            *node = (struct node){list, bytes};
            list = node;
            work->live_bytes += bytes;
            work->operations++;
        }
        list = shrink(list, &work->live_bytes);
    }
    bench_keep(list);
    return NULL;
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    size_t threads = (size_t)bench_number("threads", 1);
    uint64_t peak = (uint64_t)bench_number("peak_mib", 1024) << 20;
    long bursts = bench_number("bursts", 3);
    struct work *work = (struct work *)calloc(threads, sizeof *work);
    for (size_t i = 0; i < threads; i++)
        work[i] = (struct work){peak / threads, bursts, i + 1, 0, 0};
    bench_start();
    bench_threads_run(threads, run, work, sizeof *work);
    uint64_t operations = 0, live = 0;
    for (size_t i = 0; i < threads; i++) {
        operations += work[i].operations;
        live += work[i].live_bytes;
    }
    bench_end(operations, live);
    return 0;
}
