/* SPDX-License-Identifier: MIT */
/*
 * Goal: no answer of the large-object table is ever wrong, and no two deletes of one key both win.
 * Method: threads work on few keys with two records, so that equal words recur, with a shadow of
 * each key and migrations all the time; every few thousand operations all rest and the table is
 * swept.
 *
 *     large_table_stress [SECONDS [SEED]]
 *
 * A plain program, so that it runs under ThreadSanitizer, where Criterion does not.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "table_under_test.h"

#include <pthread.h>

#define THREADS 4
#define KEYS 48
#define CONTESTS 4
#define RECORDS 2
#define STEPS 10000 /* of a thread in a round */

#define GRANULE ((uintptr_t)1 << AP__LARGE_TABLE_KEY_SHIFT)

/*
 * A key and what the table must say of it. Whoever holds it is what a program is with a pointer:
 * the only one to insert and delete it. Keys pass from thread to thread.
 */
static struct shadow {
    atomic_flag held;
    bool is_live;
    uint32_t record;
} shadows[KEYS];

/*
 * A key that two threads delete at once. armed -> two threads join -> both have deleted -> idle.
 * `phase` orders the steps; the joiners count themselves.
 */
enum phase { IDLE, BUSY, ARMED };
static struct contest {
    _Atomic int phase;
    _Atomic int joined;
    _Atomic int finished;
    _Atomic int wins;
} contests[CONTESTS];

static _Atomic uint64_t operations;
static _Atomic uint64_t contests_held;
static _Atomic uint64_t refusals;

static uintptr_t key_address(size_t i)
{
    return 0x7f0000000000 + i * GRANULE;
}

static uintptr_t contest_address(size_t i)
{
    return key_address(KEYS + i);
}

/* --- one step of a thread --- */

static void check_absent(uintptr_t address)
{
    uint32_t record;
    CHECK(!ap__large_table_find(address, &record));
    if (random_below(4) == 0) {
        CHECK(!ap__large_table_delete(address, &record));
    }
}

static void insert_key(struct shadow *shadow, uintptr_t address)
{
    shadow->record = random_below(RECORDS);
    shadow->is_live = ap__large_table_insert(address, shadow->record);
    if (!shadow->is_live) {
        atomic_fetch_add(&refusals, 1);
        check_absent(address);
    }
}

static void delete_key(struct shadow *shadow, uintptr_t address)
{
    uint32_t record = UINT32_MAX;
    CHECK(ap__large_table_delete(address, &record));
    CHECK(record == shadow->record);
    shadow->is_live = false;
}

static void step_on_key(size_t i)
{
    struct shadow *shadow = &shadows[i];
    if (atomic_flag_test_and_set_explicit(&shadow->held, memory_order_acquire)) {
        /* Another's: a foreign look-up may get any answer, but not an impossible one. */
        uint32_t record = 0;
        CHECK(!ap__large_table_find(key_address(i), &record) || record < RECORDS);
        return;
    }
    uint32_t record = UINT32_MAX;
    if (!shadow->is_live) {
        check_absent(key_address(i));
        insert_key(shadow, key_address(i));
    } else if (random_below(2) == 0) {
        CHECK(ap__large_table_find(key_address(i), &record));
        CHECK(record == shadow->record);
    } else {
        delete_key(shadow, key_address(i));
    }
    atomic_flag_clear_explicit(&shadow->held, memory_order_release);
}

static void arm(struct contest *contest, uintptr_t address)
{
    check_absent(address);
    if (!ap__large_table_insert(address, random_below(RECORDS))) {
        atomic_fetch_add(&refusals, 1);
        atomic_store(&contest->phase, IDLE);
        return;
    }
    atomic_store(&contest->finished, 0);
    atomic_store(&contest->wins, 0);
    atomic_store(&contest->phase, ARMED);
    /* Last: it is what lets threads in, also one that has been asleep since it saw the last contest. */
    atomic_store(&contest->joined, 0);
}

static void join(struct contest *contest, uintptr_t address)
{
    int place = 0;
    do {
        if (place == 2) {
            return;
        }
    } while (!atomic_compare_exchange_strong(&contest->joined, &place, place + 1));
    /* The first waits for the second a while, but not for ever: that one may have ended its round.
     */
    for (int i = 0; place == 0 && i < 1000 && atomic_load(&contest->joined) < 2; i++) {
    }
    uint32_t record = UINT32_MAX;
    if (ap__large_table_delete(address, &record)) {
        CHECK(record < RECORDS);
        atomic_fetch_add(&contest->wins, 1);
    }
    if (atomic_fetch_add(&contest->finished, 1) == 1) {
        CHECK(atomic_load(&contest->wins) == 1);
        atomic_fetch_add(&contests_held, 1);
        atomic_store(&contest->phase, IDLE);
    }
}

static void step_on_contest(size_t i)
{
    int idle = IDLE;
    if (atomic_compare_exchange_strong(&contests[i].phase, &idle, BUSY)) {
        arm(&contests[i], contest_address(i));
    } else if (idle == ARMED) {
        join(&contests[i], contest_address(i));
    }
}

struct worker {
    pthread_t thread;
    uint64_t seed;
    uint64_t stream;
};

static void *work(void *argument)
{
    struct worker *worker = argument;
    random_seed(worker->seed, worker->stream);
    for (unsigned i = 0; i < STEPS; i++) {
        if (random_below(8) == 0) {
            step_on_contest(random_below(CONTESTS));
        } else {
            step_on_key(random_below(KEYS));
        }
    }
    atomic_fetch_add(&operations, STEPS);
    return NULL;
}

/* --- at rest --- */

/* Words that count for `granule`, over all tables. At rest that is LIVE alone. */
static unsigned words_that_count(uint64_t granule)
{
    unsigned count = 0;
    for (struct table *t = atomic_load(&root); t != NULL; t = atomic_load(&t->next)) {
        for (uint64_t i = 0; i < capacity_of(t); i++) {
            uint64_t word = atomic_load(&t->slots[i]);
            if (granule_of(word) == granule) {
                CHECK(tag_of(word) == TAG_LIVE || tag_of(word) == TAG_MOVED);
                count += tag_of(word) == TAG_LIVE;
            }
        }
    }
    return count;
}

static void check_at_rest(void)
{
    uint64_t live = 0;
    for (size_t i = 0; i < KEYS; i++) {
        uint32_t record = UINT32_MAX;
        CHECK(words_that_count(key_address(i) / GRANULE) == shadows[i].is_live);
        CHECK(ap__large_table_find(key_address(i), &record) == shadows[i].is_live);
        CHECK(!shadows[i].is_live || record == shadows[i].record);
        live += shadows[i].is_live;
    }
    for (size_t i = 0; i < CONTESTS; i++) {
        unsigned count = words_that_count(contest_address(i) / GRANULE);
        CHECK(count <= 1);
        CHECK(count == (contests[i].phase == ARMED && contests[i].finished == 0));
        live += count;
    }
    CHECK(count_live() == live);
    CHECK(ap__large_table_is_valid());
}

/* The state at start: no entry, the first table, the whole arena. While nobody is at work. */
static void table_reset(void)
{
    size_t used = atomic_load(&arena_used);
    memset(arena, 0, used < ARENA_BYTES ? used : ARENA_BYTES);
    atomic_store(&arena_used, 0);
    for (size_t i = 0; i < AP_ARRAY_LENGTH(first_slots); i++) {
        atomic_store(&first_slots[i], EMPTY);
    }
    atomic_store(&first_table.next, NULL);
    atomic_store(&first_table.bound, 0);
    atomic_store(&first_table.tickets, 0);
    atomic_store(&first_table.blocks_done, 0);
    atomic_store(&root, &first_table);
    for (size_t i = 0; i < STRIPES; i++) {
        atomic_store(&stripes[i].live, 0);
    }
}

/* The same entries in a new table, so that the next round grows it again. */
static void start_anew(void)
{
    table_reset();
    for (size_t i = 0; i < KEYS; i++) {
        while (shadows[i].is_live && !ap__large_table_insert(key_address(i), shadows[i].record)) {
        }
    }
    for (size_t i = 0; i < CONTESTS; i++) {
        atomic_store(&contests[i].phase, IDLE);
    }
}

static void run_round(uint64_t seed, uint64_t round)
{
    struct worker workers[THREADS];
    for (uint64_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.seed = seed, .stream = round * THREADS + i};
        CHECK(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    }
    for (uint64_t i = 0; i < THREADS; i++) {
        CHECK(pthread_join(workers[i].thread, NULL) == 0);
    }
    check_at_rest();
    start_anew();
    check_at_rest();
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 2;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)time(NULL);
    printf("large_table_stress: %g seconds, seed %llu\n", seconds, (unsigned long long)seed);
    fflush(stdout);
    random_seed(seed, UINT64_MAX - 1);
    ap__large_table_set_secret(seed);

    struct timespec start;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    uint64_t rounds = 0;
    do {
        run_round(seed, rounds++);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9 <
             seconds);

    uint64_t failures = 0;
    for (size_t i = 0; i < STRIPES; i++) {
        failures += stripes[i].cas_failures;
    }
    printf(
        "%llu rounds, %llu steps, %llu migrations, %llu contests, %llu refusals, %llu lost races\n",
        (unsigned long long)rounds, (unsigned long long)operations,
        (unsigned long long)tables_mapped, (unsigned long long)contests_held,
        (unsigned long long)refusals, (unsigned long long)failures);
    return 0;
}
