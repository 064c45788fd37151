/* SPDX-License-Identifier: MIT */
/*
 * table_under_test.h: the large-object table, built for stress.
 *
 * The implementation is included with its hooks set: the first table has one block, random pauses
 * stand in every window, and inserts begin migrations that nobody needs. The os layer is replaced
 * by an arena, so that a million tables fit into memory, and by a kernel that refuses now and then.
 * Include it in one file of a program.
 */
#ifndef TEST_STRESS_TABLE_UNDER_TEST_H
#define TEST_STRESS_TABLE_UNDER_TEST_H

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* --- random numbers: a stream for each thread (xorshift64*) --- */

static _Thread_local uint64_t random_state = 1;

static void random_seed(uint64_t seed, uint64_t stream)
{
    random_state = (seed + 1) * UINT64_C(0x9E3779B97F4A7C15) ^ (stream + 1) << 32;
}

static uint32_t random_below(uint32_t limit)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t)(random_state * UINT64_C(0x2545F4914F6CDD1D) >> 32) % limit;
}

/* --- hooks --- */

/* Mostly nothing; often the time of some operations on another processor, now and then a turn of
 * the scheduler, and sometimes long enough for whole migrations. */
static void pause_at_random(void)
{
    uint32_t choice = random_below(32768);
    if (choice < 1024) {
        for (volatile uint32_t spins = choice; spins > 0; spins--) {
        }
    } else if (choice < 1088) {
        sched_yield();
    } else if (choice == 1088) {
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
}

static bool migration_is_wanted(void);

#define AP_TABLE_YIELD() pause_at_random()
#define AP_TABLE_FORCE_MIGRATION() migration_is_wanted()
#define AP_TABLE_FIRST_LOG2 6
#include "table/large_table.c"

static bool arena_is_half_used(void);

/* One insert in four, unless enough tables wait already; a chain of up to five is wanted, too. The
 * second half of the arena is left to growth that is needed. */
static bool migration_is_wanted(void)
{
    if (random_below(4) != 0 || arena_is_half_used()) {
        return false;
    }
    unsigned tables = 0;
    struct table *t = atomic_load_explicit(&root, memory_order_acquire);
    for (; t != NULL; t = atomic_load_explicit(&t->next, memory_order_acquire)) {
        tables++;
    }
    return tables == 1 || (tables < 6 && random_below(64) == 0);
}

/* --- the os layer --- */

#define ARENA_BYTES ((size_t)32 << 20)

static AP_CACHE_ALIGNED char arena[ARENA_BYTES];
static _Atomic size_t arena_used;
static _Atomic uint64_t tables_mapped;

static bool arena_is_half_used(void)
{
    return atomic_load_explicit(&arena_used, memory_order_relaxed) > ARENA_BYTES / 2;
}

void *ap__os_map(size_t size_bytes)
{
    if (random_below(16) == 0) {
        return NULL;
    }
    size_t offset = atomic_fetch_add(&arena_used, size_bytes);
    if (offset > ARENA_BYTES || size_bytes > ARENA_BYTES - offset) {
        return NULL;
    }
    atomic_fetch_add(&tables_mapped, 1);
    return arena + offset;
}

bool ap__os_unmap(void *address, size_t size_bytes)
{
    memset(address, 0xff, size_bytes); /* whoever still looks there will notice */
    atomic_fetch_sub(&tables_mapped, 1);
    return true;
}

/* The table's second source of memory has none. */
void *ap__meta_map(size_t size_bytes);
void *ap__meta_map(size_t size_bytes)
{
    (void)size_bytes;
    return NULL;
}

size_t ap__os_page_size(void)
{
    return sizeof(struct table) / 2; /* what its alignment needs */
}

void ap__check_failed(const char *text, const char *file, int line)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, text);
    abort();
}

#define CHECK(condition) AP_CHECK(condition, #condition)

#endif
