/* SPDX-License-Identifier: MIT */
/*
 * larson: a server whose threads replace random objects and hand their heap to a new thread.
 * From Larson and Krishnan, "Memory allocation for long-running server applications" (ISMM 1998): blocks
 * of a thread that has ended live on, and are freed by its successor.
 * Options: threads, blocks (of each thread), rounds (generations of threads), operations (of a thread in
 * a round), hold.
 */
#include "bench.h"

enum { LEAST_BYTES = 8, RANGE_BYTES = 1000 };

struct session {
    char **blocks;
    size_t count;
    long operations;
    struct bench_random random;
};

static void *run(void *argument)
{
    struct session *session = (struct session *)argument;
    for (long i = 0; i < session->operations; i++) {
        char **block = &session->blocks[bench_random_below(&session->random, session->count)];
        free(*block);
        *block = bench_allocate_touched(LEAST_BYTES +
                                        bench_random_below(&session->random, RANGE_BYTES));
    }
    return NULL;
}

/* Each session is run by a thread after the other, `rounds` times. */
static void *run_generations(void *argument)
{
    void **pair = (void **)argument;
    for (long i = 0; i < *(long *)pair[1]; i++)
        pthread_join(bench_thread_start(run, pair[0]), NULL);
    return NULL;
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    size_t threads = (size_t)bench_number("threads", 2);
    size_t blocks = (size_t)bench_number("blocks", 5000);
    long rounds = bench_number("rounds", 100);
    long operations = bench_number("operations", 50000);
    struct session *sessions = (struct session *)calloc(threads, sizeof *sessions);
    void *(*pairs)[2] = (void *(*)[2])calloc(threads, sizeof *pairs);
    bench_start();
    for (size_t i = 0; i < threads; i++) {
        char **array = (char **)calloc(blocks, sizeof *array);
        sessions[i] = (struct session){array, blocks, operations, {i + 1}};
        pairs[i][0] = &sessions[i];
        pairs[i][1] = &rounds;
    }
    bench_threads_run(threads, run_generations, pairs, sizeof *pairs);
    bench_end((uint64_t)operations * (uint64_t)rounds * threads, 0);
    return 0;
}
