/* SPDX-License-Identifier: MIT */
/*
 * phases: in each phase new threads build data, then all of them end; newcomers free what survived.
 * The pattern: a job server, a parallel compiler, map and reduce. Blocks whose thread is gone must be
 * reused ("blowup" in Berger et al., Hoard, ASPLOS 2000).
 * Options: threads, phases, blocks (built by each thread in a phase; half survive), hold.
 */
#include "bench.h"

enum { LEAST_BYTES = 16, DOUBLINGS = 9 };

struct share {
    char **survivors; /* of the phase before, from another thread; then our own */
    size_t count;
    uint64_t seed;
};

static void *run(void *argument)
{
    struct share *share = (struct share *)argument;
    struct bench_random random = {share->seed};
    for (size_t i = 0; i < share->count; i++) {
        free(share->survivors[i]);
        char *passing = bench_allocate_touched(bench_random_size(&random, LEAST_BYTES, DOUBLINGS));
        share->survivors[i] =
            bench_allocate_touched(bench_random_size(&random, LEAST_BYTES, DOUBLINGS));
        free(passing);
    }
    return NULL;
}

/* The next phase's thread i gets what thread i + 1 left. */
static void rotate(struct share *shares, size_t threads)
{
    char **first = shares[0].survivors;
    for (size_t i = 0; i + 1 < threads; i++)
        shares[i].survivors = shares[i + 1].survivors;
    shares[threads - 1].survivors = first;
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    size_t threads = (size_t)bench_number("threads", 4);
    long phases = bench_number("phases", 40);
    size_t blocks = (size_t)bench_number("blocks", 80000);
    struct share *shares = (struct share *)calloc(threads, sizeof *shares);
    bench_start();
    for (size_t i = 0; i < threads; i++)
        shares[i] = (struct share){(char **)calloc(blocks / 2, sizeof(char *)), blocks / 2, i + 1};
    for (long phase = 0; phase < phases; phase++) {
        bench_threads_run(threads, run, shares, sizeof *shares);
        rotate(shares, threads);
    }
    bench_end((uint64_t)phases * threads * blocks, 0);
    return 0;
}
