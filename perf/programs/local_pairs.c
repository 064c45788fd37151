/* SPDX-License-Identifier: MIT */
/*
 * local_pairs: malloc and free of one size by the thread that owns the block.
 * The pattern: a request's temporary. Known from the "threadtest" of Hoard (Berger et al., ASPLOS 2000);
 * with live_mib, other blocks of 64 bytes to 4 KiB are alive meanwhile, so that one sees whether the
 * cost depends on the size of the heap.
 * Options: bytes, operations (pairs a thread), threads, live_mib, hold.
 */
#include "bench.h"

enum { NEAR = 8 }; /* blocks held at once, as a call chain does */

struct work {
    size_t bytes;
    long operations;
};

static void *run(void *argument)
{
    const struct work *work = (const struct work *)argument;
    char *held[NEAR] = {NULL};
    for (long i = 0; i < work->operations; i++) {
        char **place = &held[i % NEAR];
        free(*place);
        *place = (char *)bench_allocate(work->bytes);
        **place = (char)i;
    }
    for (int i = 0; i < NEAR; i++)
        free(held[i]);
    return NULL;
}

/* Blocks for `bytes` in all, linked through their first words; they stay until the end. */
static void fill(uint64_t bytes)
{
    struct bench_random random = {1};
    void **last = NULL;
    while (bytes > 0) {
        size_t size = bench_random_size(&random, 64, 6);
        void **block = (void **)bench_allocate(size);
        *block = last;
        last = block;
        bytes -= size < bytes ? size : bytes;
    }
    bench_keep(last);
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    struct work work = {(size_t)bench_number("bytes", 48), bench_number("operations", 20000000)};
    size_t threads = (size_t)bench_number("threads", 1);
    uint64_t live = (uint64_t)bench_number("live_mib", 0) << 20;
    fill(live);
    bench_start();
    if (threads == 1)
        run(&work);
    else
        bench_threads_run(threads, run, &work, 0);
    bench_end((uint64_t)work.operations * threads, live);
    return 0;
}
