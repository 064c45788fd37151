/* SPDX-License-Identifier: MIT */
/*
 * aligned: blocks of 64 bytes to 16 KiB at alignments of 32 bytes to 4 KiB.
 * The pattern: buffers for vector instructions, cache-line-sized structures, direct I/O.
 * Options: threads, blocks (alive in each thread), operations (of each thread), hold.
 */
#include "bench.h"

enum { LEAST_BYTES = 64, DOUBLINGS = 8, LEAST_ALIGNMENT = 32, ALIGNMENT_DOUBLINGS = 8 };

struct work {
    size_t blocks;
    long operations;
    uint64_t seed;
};

static void *run(void *argument)
{
    const struct work *work = (const struct work *)argument;
    struct bench_random random = {work->seed};
    void **blocks = (void **)calloc(work->blocks, sizeof *blocks);
    for (long i = 0; i < work->operations; i++) {
        void **block = &blocks[bench_random_below(&random, work->blocks)];
        size_t bytes = bench_random_size(&random, LEAST_BYTES, DOUBLINGS);
        size_t alignment = (size_t)LEAST_ALIGNMENT
                           << (__builtin_ctzll(bench_random_next(&random) | 1 << 7) %
                               ALIGNMENT_DOUBLINGS);
        free(*block);
        if (posix_memalign(block, alignment, bytes) != 0 || (uintptr_t)*block % alignment != 0)
            bench_die("posix_memalign returned no aligned block", "");
        memset(*block, 1, 16);
    }
    for (size_t i = 0; i < work->blocks; i++)
        free(blocks[i]);
    free(blocks);
    return NULL;
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    size_t threads = (size_t)bench_number("threads", 2);
    size_t blocks = (size_t)bench_number("blocks", 10000);
    long operations = bench_number("operations", 6000000);
    struct work *work = (struct work *)calloc(threads, sizeof *work);
    for (size_t i = 0; i < threads; i++)
        work[i] = (struct work){blocks, operations, i + 1};
    bench_start();
    bench_threads_run(threads, run, work, sizeof *work);
    bench_end((uint64_t)operations * threads, 0);
    return 0;
}
