/* SPDX-License-Identifier: MIT */
/*
 * realloc_growth: vectors whose room doubles, strings that are appended to a little at a time.
 * The pattern: std::vector-like arrays in C, readers of files, string builders. What counts is how often
 * a block is copied, and what is left behind.
 * Options: kind (vector, string), threads, rounds, hold.
 */
#include "bench.h"

enum {
    VECTOR_LEAST = 64,
    VECTOR_MOST = 64 << 20,
    VECTORS = 4, /* that grow side by side */
    STRINGS = 500,
    STRING_MOST = 32 << 10,
    APPEND_MOST = 64,
};

struct work {
    const char *kind;
    long rounds;
    uint64_t seed;
    uint64_t operations; /* out */
};

static char *grow(char *block, size_t from, size_t to)
{
    char *grown = (char *)realloc(block, to);
    if (grown == NULL)
        bench_die("out of memory", "");
    memset(grown + from, 1, to - from);
    return grown;
}

static void vectors(struct work *work)
{
    char *vector[VECTORS] = {NULL};
    size_t from = 0;
    for (size_t room = VECTOR_LEAST; room <= VECTOR_MOST; from = room, room *= 2) {
        for (int i = 0; i < VECTORS; i++)
            vector[i] = grow(vector[i], from, room);
        work->operations += VECTORS;
    }
    for (int i = 0; i < VECTORS; i++)
        free(vector[i]);
}

/* Appends to random strings; one that is full starts anew. */
static void strings(struct work *work, struct bench_random *random)
{
    char *string[STRINGS] = {NULL};
    size_t length[STRINGS] = {0};
    for (long i = 0; i < 400000; i++) {
        size_t at = bench_random_below(random, STRINGS);
        size_t more = 1 + bench_random_below(random, APPEND_MOST);
        if (length[at] + more > STRING_MOST) {
            free(string[at]);
            string[at] = NULL;
            length[at] = 0;
        }
        string[at] = grow(string[at], length[at], length[at] + more);
        length[at] += more;
    }
    for (int i = 0; i < STRINGS; i++)
        free(string[i]);
    work->operations += 400000;
}

static void *run(void *argument)
{
    struct work *work = (struct work *)argument;
    struct bench_random random = {work->seed};
    for (long i = 0; i < work->rounds; i++) {
        if (strcmp(work->kind, "string") == 0)
            strings(work, &random);
        else
            vectors(work);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    const char *kind = bench_word("kind", "vector");
    size_t threads = (size_t)bench_number("threads", 1);
    long rounds = bench_number("rounds", 5);
    struct work *work = (struct work *)calloc(threads, sizeof *work);
    for (size_t i = 0; i < threads; i++)
        work[i] = (struct work){kind, rounds, i + 1, 0};
    bench_start();
    bench_threads_run(threads, run, work, sizeof *work);
    uint64_t operations = 0;
    for (size_t i = 0; i < threads; i++)
        operations += work[i].operations;
    bench_end(operations, 0);
    return 0;
}
