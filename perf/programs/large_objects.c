/* SPDX-License-Identifier: MIT */
/*
 * large_objects: big buffers replaced at random, filled or only touched.
 * The pattern: images, network and file buffers, tensors; with many alive, a database's pages. Allocators
 * that ask the kernel for each pay for every page again; those that keep them in lists of their own
 * fragment. Known from the large-object tests of public allocator suites.
 * Options: least_kib, most_kib, blocks (alive in each thread), operations (of each thread), fill (1: every
 * byte is written, 0: two, 2: none, so that a million objects cost no memory), threads, hold.
 */
#include "bench.h"

struct work {
    size_t least, most, blocks;
    long operations, fill;
    uint64_t seed;
};

static char *allocate(const struct work *work, struct bench_random *random)
{
    size_t bytes = work->least + bench_random_below(random, work->most - work->least + 1);
    if (work->fill == 0)
        return bench_allocate_touched(bytes);
    char *block = (char *)bench_allocate(bytes);
    return work->fill == 1 ? (char *)memset(block, 1, bytes) : block;
}

static void replace_all(const struct work *work, char **blocks, struct bench_random *random)
{
    for (long i = 0; i < work->operations; i++) {
        char **block = &blocks[bench_random_below(random, work->blocks)];
        free(*block);
        *block = allocate(work, random);
    }
}

static void *run(void *argument)
{
    const struct work *work = (const struct work *)argument;
    struct bench_random random = {work->seed};
    char **blocks = (char **)calloc(work->blocks, sizeof *blocks);
    for (size_t i = 0; i < work->blocks && work->fill == 2; i++)
        blocks[i] = allocate(work, &random);
    if (work->fill == 2)
        bench.start_s = bench_now_s(); /* one thread: the objects that stay are not what is timed */
    replace_all(work, blocks, &random);
    for (size_t i = 0; i < work->blocks && work->fill != 2; i++)
        free(blocks[i]);
    return NULL;
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    struct work model = {
        (size_t)bench_number("least_kib", 1024) << 10,
        (size_t)bench_number("most_kib", 25600) << 10,
        (size_t)bench_number("blocks", 20),
        bench_number("operations", 600),
        bench_number("fill", 1),
        0,
    };
    size_t threads = (size_t)bench_number("threads", 2);
    struct work *work = (struct work *)calloc(threads, sizeof *work);
    for (size_t i = 0; i < threads; i++) {
        work[i] = model;
        work[i].seed = i + 1;
    }
    bench_start();
    bench_threads_run(threads, run, work, sizeof *work);
    bench_end((uint64_t)model.operations * threads, 0);
    return 0;
}
