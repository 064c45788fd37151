/* SPDX-License-Identifier: MIT */
/*
 * calloc_mix: zeroed blocks from 16 bytes to 4 MiB, some of which are written.
 * The pattern: tables and buffers that are asked for zeroed and used in part. What counts is whether memory
 * that is zero already is cleared again.
 * Options: threads, blocks (alive in each thread), operations (of each thread), hold.
 */
#include "bench.h"

enum { LEAST_BYTES = 16, DOUBLINGS = 18 };

struct work {
    size_t blocks;
    long operations;
    uint64_t seed;
};

static void *run(void *argument)
{
    const struct work *work = (const struct work *)argument;
    struct bench_random random = {work->seed};
    char **blocks = (char **)calloc(work->blocks, sizeof *blocks);
    for (long i = 0; i < work->operations; i++) {
        char **block = &blocks[bench_random_below(&random, work->blocks)];
        size_t bytes = bench_random_size(&random, LEAST_BYTES, DOUBLINGS);
        free(*block);
        *block = (char *)calloc(1, bytes);
        if (*block == NULL || (*block)[0] != 0 || (*block)[bytes / 2] != 0 || (*block)[bytes - 1] != 0)
            bench_die("calloc returned no zeroed block", "");
        memset(*block, 1, bytes / 4);
        (*block)[bytes - 1] = 1;
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
    size_t blocks = (size_t)bench_number("blocks", 4000);
    long operations = bench_number("operations", 1500000);
    struct work *work = (struct work *)calloc(threads, sizeof *work);
    for (size_t i = 0; i < threads; i++)
        work[i] = (struct work){blocks, operations, i + 1};
    bench_start();
    bench_threads_run(threads, run, work, sizeof *work);
    bench_end((uint64_t)operations * threads, 0);
    return 0;
}
