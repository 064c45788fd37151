/* SPDX-License-Identifier: MIT */
/*
 * stress.c: what the stress programs have in common.
 */
#include "stress.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DEFAULT_SECONDS = 3, THREADS_MAX = 64 };

/* Up to here every byte is filled and checked; beyond, 64 bytes in every 4 KiB. */
#define DENSE_BYTES_MAX ((size_t)8 << 10)
#define SPARSE_STEP ((size_t)4 << 10)
#define SPARSE_BYTES ((size_t)64)

static const char *program;
static uint64_t seed;
static double end_time;
static _Atomic(bool) over;
static _Atomic(uint64_t) operations_done;

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void stress_begin(int argc, char **argv, const char *name)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    double seconds = argc > 1 ? strtod(argv[1], NULL) : DEFAULT_SECONDS;
    seed =
        argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)t.tv_sec * 1000003 ^ (uint64_t)t.tv_nsec;
    program = name;
    end_time = now() + seconds;
    (void)printf("%s: %g seconds, seed %llu\n", name, seconds, (unsigned long long)seed);
    (void)fflush(stdout);
}

bool stress_is_over(void)
{
    if (atomic_load_explicit(&over, memory_order_relaxed)) {
        return true;
    }
    if (now() >= end_time) {
        stress_end();
        return true;
    }
    return false;
}

void stress_end(void)
{
    atomic_store_explicit(&over, true, memory_order_relaxed);
}

void stress_count(uint64_t operations)
{
    atomic_fetch_add_explicit(&operations_done, operations, memory_order_relaxed);
}

int stress_finish(void)
{
    (void)printf("%s: %llu operations\n", program,
                 (unsigned long long)atomic_load(&operations_done));
    return 0;
}

void stress_fail(const char *condition, const char *file, int line)
{
    (void)fprintf(stderr, "%s:%d: %s is false (seed %llu)\n", file, line, condition,
                  (unsigned long long)seed);
    abort();
}

/* ------------------------------------------------------------ random numbers */

struct stress_random stress_random_stream(unsigned number)
{
    return (struct stress_random){seed + (number + 1) * UINT64_C(0x9E3779B97F4A7C15)};
}

/* splitmix64: Steele, Lea, Flood, OOPSLA 2014. */
uint64_t stress_random_next(struct stress_random *random)
{
    uint64_t x = random->state += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return x ^ x >> 31;
}

size_t stress_random_below(struct stress_random *random, size_t bound)
{
    return (size_t)(stress_random_next(random) % bound);
}

size_t stress_random_size(struct stress_random *random, size_t most)
{
    size_t kind = stress_random_below(random, 100);
    size_t bound = kind < 70 ? 512 : kind < 90 ? 4096 : kind < 98 ? 32768 : most;
    return stress_random_below(random, (bound < most ? bound : most) + 1);
}

/* ------------------------------------------------------------ blocks */

static unsigned char byte_at(const struct stress_block *block, size_t index)
{
    uint64_t x = (block->mark + index / 8) * UINT64_C(0x9E3779B97F4A7C15);
    return (unsigned char)(x >> 56 ^ index);
}

/* Calls nothing, returns the next index to look at. */
static size_t next_index(size_t index, size_t size)
{
    index++;
    if (index < DENSE_BYTES_MAX || index + DENSE_BYTES_MAX / 8 >= size ||
        index % SPARSE_STEP < SPARSE_BYTES) {
        return index;
    }
    size_t next = (index / SPARSE_STEP + 1) * SPARSE_STEP;
    size_t tail = size - DENSE_BYTES_MAX / 8;
    return next < tail ? next : tail;
}

void stress_block_fill(struct stress_block *block, void *p, size_t size, size_t alignment,
                       uint64_t mark)
{
    STRESS_CHECK((uintptr_t)p % alignment == 0);
    STRESS_CHECK(ap_usable_size(p) >= size);
    *block = (struct stress_block){.p = p, .size = size, .mark = mark};
    for (size_t i = 0; i < size; i = next_index(i, size)) {
        block->p[i] = byte_at(block, i);
    }
}

void stress_block_check(const struct stress_block *block, size_t size)
{
    for (size_t i = 0; i < size; i = next_index(i, block->size)) {
        STRESS_CHECK(block->p[i] == byte_at(block, i));
    }
}

void stress_block_allocate(struct stress_block *block, size_t size, struct stress_random *random)
{
    void *p = ap_malloc(size);
    *block = (struct stress_block){0};
    if (p != NULL) {
        stress_block_fill(block, p, size, 16, stress_random_next(random));
    }
}

void stress_block_free(struct stress_block *block)
{
    if (block->p != NULL) {
        stress_block_check(block, block->size);
        ap_free(block->p);
        *block = (struct stress_block){0};
    }
}

void stress_block_realloc(struct stress_block *block, size_t size)
{
    void *p = ap_realloc(block->p, size);
    if (p == NULL && size != 0) {
        stress_block_check(block, block->size); /* no memory: it is still there */
        return;
    }
    if (p == NULL) {
        *block = (struct stress_block){0}; /* realloc to 0 frees */
        return;
    }
    size_t kept = size < block->size ? size : block->size;
    block->p = p;
    stress_block_check(block, kept);
    stress_block_fill(block, p, size, 16, block->mark);
}

/* ------------------------------------------------------------ threads */

struct start {
    stress_body *body;
    unsigned number;
};

static void *run_body(void *argument)
{
    const struct start *start = argument;
    start->body(start->number);
    return NULL;
}

void stress_run_threads(unsigned count, stress_body *body)
{
    pthread_t threads[THREADS_MAX];
    struct start starts[THREADS_MAX];
    STRESS_CHECK(count <= THREADS_MAX);
    for (unsigned i = 0; i < count; i++) {
        starts[i] = (struct start){body, i};
        STRESS_CHECK(pthread_create(&threads[i], NULL, run_body, &starts[i]) == 0);
    }
    for (unsigned i = 0; i < count; i++) {
        STRESS_CHECK(pthread_join(threads[i], NULL) == 0);
    }
}
