/* SPDX-License-Identifier: MIT */
/*
 * thread_churn: many threads that live shortly and allocate little; or many that stay and idle.
 * The pattern: a thread a request, a thread pool that is too big. What counts is the cost of a thread's
 * first and last allocations, and what an idle thread holds.
 * Options: threads (in all), alive (at once), operations (of each thread), idle (1: all threads stay until
 * the end and then one thread does `pairs` pairs), pairs, hold.
 */
#include "bench.h"

#include <semaphore.h>

enum { HELD = 32, LEAST_BYTES = 16, DOUBLINGS = 8 };

static long operations;
static sem_t places;
static sem_t arrived, leave;

static void work(uint64_t seed, long count)
{
    struct bench_random random = {seed};
    char *held[HELD] = {NULL};
    for (long i = 0; i < count; i++) {
        char **place = &held[i % HELD];
        free(*place);
        *place = bench_allocate_touched(bench_random_size(&random, LEAST_BYTES, DOUBLINGS));
    }
    for (int i = 0; i < HELD; i++)
        free(held[i]);
}

static void *run_short(void *argument)
{
    work((uintptr_t)argument, operations);
    sem_post(&places);
    return NULL;
}

static void *run_idle(void *argument)
{
    work((uintptr_t)argument, operations);
    sem_post(&arrived);
    sem_wait(&leave);
    return NULL;
}

static void churn(size_t threads, size_t alive)
{
    sem_init(&places, 0, (unsigned)alive);
    for (size_t i = 0; i < threads; i++) {
        sem_wait(&places);
        pthread_detach(bench_thread_start(run_short, (void *)(i + 1)));
    }
    for (size_t i = 0; i < alive; i++)
        sem_wait(&places);
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    size_t threads = (size_t)bench_number("threads", 40000);
    size_t alive = (size_t)bench_number("alive", 8);
    operations = bench_number("operations", 200);
    bool idle = bench_number("idle", 0) != 0;
    long pairs = bench_number("pairs", 5000000);
    sem_init(&arrived, 0, 0);
    sem_init(&leave, 0, 0);
    if (!idle) {
        bench_start();
        churn(threads, alive);
        bench_end((uint64_t)operations * threads, 0);
        return 0;
    }
    for (size_t i = 0; i < threads; i++) {
        pthread_detach(bench_thread_start(run_idle, (void *)(i + 1)));
        sem_wait(&arrived);
    }
    bench_start();
    work(1, pairs);
    bench_end((uint64_t)pairs, 0);
    return 0; /* exit ends the others */
}
