/* SPDX-License-Identifier: MIT */
/*
 * What an operation of the large-object table costs, beside liburcu's lock-free hash table.
 *
 *     large_table_bench [RUNS]
 *
 * Prints nanoseconds of a thread per operation, median of RUNS (default 5); each run is a process
 * of its own, so that each begins with an empty table. Keys are addresses 64 KiB apart in random
 * order. Threads work on keys of their own, as threads that hold pointers do.
 *
 * What the numbers are not. The rival is given every advantage: cds_lfht (flavour memb) has all its
 * buckets from the start, for its growth is a thread's in the background, and when that thread gets
 * no processor, look-ups take microseconds; ours grows from 512 slots while it is measured.
 * Its nodes are its user's, who may free them only after a grace period: neither cost is counted. A
 * look-up's read-side section is. It is a general table with keys of any kind; ours is not.
 */
#define _LGPL_SOURCE /* liburcu's inline read side, so that it is seen at its best */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <urcu/urcu-memb.h>

#include <urcu/rculfhash.h>

#include "base/bits.h"
#include "base/hash.h"
#include "table/large_table.h"

#define OPERATIONS 2000000 /* of a run, at least */
#define RUNS_MAX 99
#define THREADS_MAX 2

enum step { INSERT, FIND_HIT, FIND_MISS, DELETE, STEPS };

/* --- the two tables, each operation over an array of keys --- */

struct node {
    uintptr_t address;
    uint32_t record;
    struct cds_lfht_node link;
};

struct keys {
    struct node *nodes; /* used as array of addresses by the large-object table */
    size_t count;
};

/* Applies one step to all keys; returns how many answers were as they should be. */
struct contender {
    const char *name;
    void (*enter)(void); /* of a thread */
    void (*leave)(void);
    size_t (*run[STEPS])(const struct keys *keys);
};

static void nothing(void)
{
}

static size_t ours_insert(const struct keys *keys)
{
    size_t right = 0;
    for (size_t i = 0; i < keys->count; i++) {
        right += ap__large_table_insert(keys->nodes[i].address, keys->nodes[i].record);
    }
    return right;
}

static size_t ours_find_hit(const struct keys *keys)
{
    size_t right = 0;
    for (size_t i = 0; i < keys->count; i++) {
        uint32_t record = 0;
        right += ap__large_table_find(keys->nodes[i].address, &record) &&
                 record == keys->nodes[i].record;
    }
    return right;
}

static uintptr_t absent(const struct node *node)
{
    return node->address | (uintptr_t)1 << 50;
}

static size_t ours_find_miss(const struct keys *keys)
{
    size_t right = 0;
    for (size_t i = 0; i < keys->count; i++) {
        uint32_t record;
        right += !ap__large_table_find(absent(&keys->nodes[i]), &record);
    }
    return right;
}

static size_t ours_delete(const struct keys *keys)
{
    size_t right = 0;
    for (size_t i = 0; i < keys->count; i++) {
        uint32_t record;
        right += ap__large_table_delete(keys->nodes[i].address, &record);
    }
    return right;
}

static struct cds_lfht *lfht;

static int matches(struct cds_lfht_node *link, const void *key)
{
    return caa_container_of(link, struct node, link)->address == *(const uintptr_t *)key;
}

/* lfht uses the low bits and needs them mixed well: the finaliser of splitmix64. */
static unsigned long hash(uintptr_t address)
{
    uint64_t x = ap__hash_address(address, 0);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ x >> 31;
}

/* In a read-side section. */
static struct cds_lfht_node *lfht_node(uintptr_t address)
{
    struct cds_lfht_iter iterator;
    cds_lfht_lookup(lfht, hash(address), matches, &address, &iterator);
    return cds_lfht_iter_get_node(&iterator);
}

static size_t lfht_insert(const struct keys *keys)
{
    for (size_t i = 0; i < keys->count; i++) {
        struct node *node = &keys->nodes[i];
        cds_lfht_node_init(&node->link);
        urcu_memb_read_lock();
        cds_lfht_add(lfht, hash(node->address), &node->link);
        urcu_memb_read_unlock();
    }
    return keys->count;
}

static size_t lfht_find_hit(const struct keys *keys)
{
    size_t right = 0;
    for (size_t i = 0; i < keys->count; i++) {
        urcu_memb_read_lock();
        struct cds_lfht_node *link = lfht_node(keys->nodes[i].address);
        right += link != NULL &&
                 caa_container_of(link, struct node, link)->record == keys->nodes[i].record;
        urcu_memb_read_unlock();
    }
    return right;
}

static size_t lfht_find_miss(const struct keys *keys)
{
    size_t right = 0;
    for (size_t i = 0; i < keys->count; i++) {
        urcu_memb_read_lock();
        right += lfht_node(absent(&keys->nodes[i])) == NULL;
        urcu_memb_read_unlock();
    }
    return right;
}

/* Look-up and removal, as free() would have to. */
static size_t lfht_delete(const struct keys *keys)
{
    size_t right = 0;
    for (size_t i = 0; i < keys->count; i++) {
        urcu_memb_read_lock();
        struct cds_lfht_node *link = lfht_node(keys->nodes[i].address);
        right += link != NULL && cds_lfht_del(lfht, link) == 0;
        urcu_memb_read_unlock();
    }
    return right;
}

static const struct contender contenders[] = {
    {"large_table", nothing, nothing, {ours_insert, ours_find_hit, ours_find_miss, ours_delete}},
    {"cds_lfht",
     urcu_memb_register_thread,
     urcu_memb_unregister_thread,
     {lfht_insert, lfht_find_hit, lfht_find_miss, lfht_delete}},
};

#define CONTENDERS (sizeof contenders / sizeof *contenders)

/* --- one run --- */

struct worker {
    pthread_t thread;
    const struct contender *contender;
    struct keys keys;
    size_t rounds;
    double nanoseconds[STEPS];
};

static pthread_barrier_t barrier;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    worker->contender->enter();
    for (size_t round = 0; round < worker->rounds; round++) {
        for (int step = 0; step < STEPS; step++) {
            pthread_barrier_wait(&barrier);
            double start = now();
            size_t right = worker->contender->run[step](&worker->keys);
            worker->nanoseconds[step] += now() - start;
            if (right != worker->keys.count) {
                fprintf(stderr, "%s: wrong answer\n", worker->contender->name);
                abort();
            }
        }
        /* A node may be linked again only after a grace period. Outside what is timed. */
        pthread_barrier_wait(&barrier);
        if (worker->contender->enter != nothing) {
            urcu_memb_synchronize_rcu();
        }
    }
    worker->contender->leave();
    return NULL;
}

static void make_keys(struct keys *keys, size_t first, size_t count)
{
    keys->count = count;
    keys->nodes = malloc(count * sizeof *keys->nodes);
    for (size_t i = 0; i < count; i++) {
        keys->nodes[i].address = (uintptr_t)0x7f0000000000 + ((first + i) << 16);
        keys->nodes[i].record = (uint32_t)(first + i);
    }
    uint64_t state = first + 1;
    for (size_t i = count; i > 1; i--) {
        state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
        size_t k = (size_t)(state >> 33) % i;
        struct node node = keys->nodes[i - 1];
        keys->nodes[i - 1] = keys->nodes[k];
        keys->nodes[k] = node;
    }
}

/* Nanoseconds per operation of a thread, for each step. */
static void run(const struct contender *contender, size_t entries, size_t threads, double *result)
{
    struct worker workers[THREADS_MAX] = {0};
    size_t per_thread = entries / threads;
    size_t rounds = OPERATIONS / entries;
    size_t buckets = ap__power_of_two_ceiling(entries);
    lfht = cds_lfht_new_flavor(buckets, buckets, 0, 0, &urcu_memb_flavor, NULL);
    pthread_barrier_init(&barrier, NULL, (unsigned)threads);
    for (size_t i = 0; i < threads; i++) {
        workers[i].contender = contender;
        workers[i].rounds = rounds;
        make_keys(&workers[i].keys, i * per_thread, per_thread);
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    for (int step = 0; step < STEPS; step++) {
        result[step] = 0;
    }
    for (size_t i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        for (int step = 0; step < STEPS; step++) {
            result[step] += workers[i].nanoseconds[step] / (double)(rounds * entries);
        }
    }
}

/* The same in a child. */
static bool run_apart(const struct contender *contender, size_t entries, size_t threads,
                      double *result)
{
    int ends[2];
    if (pipe(ends) != 0) {
        return false;
    }
    pid_t child = fork();
    if (child == 0) {
        run(contender, entries, threads, result);
        _exit(write(ends[1], result, STEPS * sizeof *result) < 0);
    }
    close(ends[1]);
    bool done = child > 0 &&
                read(ends[0], result, STEPS * sizeof *result) == (ssize_t)(STEPS * sizeof *result);
    close(ends[0]);
    int status;
    return child > 0 && waitpid(child, &status, 0) == child && status == 0 && done;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool print_row(const struct contender *contender, size_t entries, size_t threads, int runs)
{
    static double results[STEPS][RUNS_MAX];
    for (int i = 0; i < runs; i++) {
        double result[STEPS];
        if (!run_apart(contender, entries, threads, result)) {
            fprintf(stderr, "%s: a run failed\n", contender->name);
            return false;
        }
        for (int step = 0; step < STEPS; step++) {
            results[step][i] = result[step];
        }
    }
    printf("%-12s %8zu %7zu", contender->name, entries, threads);
    for (int step = 0; step < STEPS; step++) {
        qsort(results[step], (size_t)runs, sizeof *results[step], compare);
        printf(" %9.1f", results[step][runs / 2]);
    }
    printf("\n");
    fflush(stdout);
    return true;
}

int main(int argc, char **argv)
{
    int runs = argc > 1 ? atoi(argv[1]) : 5;
    runs = runs < 1 ? 1 : runs > RUNS_MAX ? RUNS_MAX : runs;
    printf("ns per operation, median of %d\n", runs);
    printf("%-12s %8s %7s %9s %9s %9s %9s\n", "table", "entries", "threads", "insert", "find hit",
           "find miss", "delete");
    fflush(stdout);
    static const size_t sizes[] = {1000, 1000000};
    bool done = true;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (size_t threads = 1; threads <= THREADS_MAX; threads++) {
            for (size_t c = 0; c < CONTENDERS; c++) {
                done = done && print_row(&contenders[c], sizes[i], threads, runs);
            }
        }
    }
    return done ? 0 : 1;
}
