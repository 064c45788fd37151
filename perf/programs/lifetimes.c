/* SPDX-License-Identifier: MIT */
/*
 * lifetimes: blocks of power-law sizes that die last-in-first-out, first-in-first-out, or at random.
 * The patterns: a recursive computation, a queue, a cache of objects. Known from Wilson, Johnstone,
 * Neely and Boles, "Dynamic storage allocation: a survey and critical review" (IWMM 1995). With many
 * more threads than processors it measures oversubscription: threads lose the processor in the middle
 * of whatever they do.
 * With sizes from a kilobyte on it is a cache of buffers, pages or values.
 * Options: order (lifo, fifo, random), threads, blocks (alive in each thread), operations (of each
 * thread), least_bytes, doublings (of sizes, from there on), hold.
 */
#include "bench.h"

/* Below 32 KiB, unless the options say otherwise. */
static size_t least_bytes;
static unsigned doublings;

struct work {
    const char *order;
    size_t blocks;
    long operations;
    uint64_t seed;
};

static char *allocate(struct bench_random *random)
{
    return bench_allocate_touched(bench_random_size(random, least_bytes, doublings));
}

/* Rises to a random depth, falls to a random depth. */
static void run_lifo(const struct work *work, char **blocks, struct bench_random *random)
{
    size_t depth = 0;
    for (long i = 0; i < work->operations;) {
        size_t high = depth + bench_random_below(random, work->blocks - depth + 1);
        for (; depth < high; depth++, i++)
            blocks[depth] = allocate(random);
        for (size_t low = bench_random_below(random, depth + 1); depth > low;)
            free(blocks[--depth]);
    }
    while (depth > 0)
        free(blocks[--depth]);
}

static void replace(char **block, struct bench_random *random)
{
    free(*block);
    *block = allocate(random);
}

static void run_replacing(const struct work *work, char **blocks, struct bench_random *random)
{
    bool in_order = strcmp(work->order, "fifo") == 0;
    for (long i = 0; i < work->operations; i++) {
        size_t at = in_order ? (size_t)i % work->blocks : bench_random_below(random, work->blocks);
        replace(&blocks[at], random);
    }
    for (size_t i = 0; i < work->blocks; i++)
        free(blocks[i]);
}

static void *run(void *argument)
{
    const struct work *work = (const struct work *)argument;
    struct bench_random random = {work->seed};
    char **blocks = (char **)calloc(work->blocks, sizeof *blocks);
    if (strcmp(work->order, "lifo") == 0)
        run_lifo(work, blocks, &random);
    else
        run_replacing(work, blocks, &random);
    free(blocks);
    return NULL;
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    const char *order = bench_word("order", "random");
    size_t threads = (size_t)bench_number("threads", 2);
    size_t blocks = (size_t)bench_number("blocks", 50000);
    long operations = bench_number("operations", 5000000);
    least_bytes = (size_t)bench_number("least_bytes", 16);
    doublings = (unsigned)bench_number("doublings", 11);
    if (doublings == 0 || doublings > 32)
        bench_die("doublings: 1 to 32", "");
    struct work *work = (struct work *)calloc(threads, sizeof *work);
    for (size_t i = 0; i < threads; i++)
        work[i] = (struct work){order, blocks, operations, i + 1};
    bench_start();
    bench_threads_run(threads, run, work, sizeof *work);
    bench_end((uint64_t)operations * threads, 0);
    return 0;
}
