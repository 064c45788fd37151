/* SPDX-License-Identifier: MIT */
/*
 * Goal: a child forked while other threads migrate the table finds every entry that was at rest,
 * and can insert, delete, grow and finish the migration alone. Method: threads keep migrations
 * going; the main thread forks, again and again, and each child, which has no migrator any more,
 * checks everything.
 *
 *     large_table_fork [SECONDS [SEED]]
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "table_under_test.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 3
#define RESTING 50         /* keys that nobody touches */
#define BUSY_PER_THREAD 10 /* keys that a thread inserts and deletes */
#define FORKS 20           /* of a round */
#define CHILD_KEYS 500

#define GRANULE ((uintptr_t)1 << AP__LARGE_TABLE_KEY_SHIFT)

static _Atomic bool stop;
static uint64_t round_seed;

static uintptr_t key_address(uintptr_t group, uintptr_t i)
{
    return 0x7f0000000000 + (group * CHILD_KEYS + i) * GRANULE;
}

enum { GROUP_RESTING = THREADS, GROUP_CHILD };

static void *churn(void *argument)
{
    uintptr_t group = (uintptr_t)argument;
    random_seed(round_seed, group);
    bool is_live[BUSY_PER_THREAD] = {false};
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        uint32_t i = random_below(BUSY_PER_THREAD);
        uint32_t record;
        if (is_live[i]) {
            CHECK(ap__large_table_delete(key_address(group, i), &record) && record == i);
            is_live[i] = false;
        } else {
            is_live[i] = ap__large_table_insert(key_address(group, i), i);
        }
    }
    return NULL;
}

static void check_group(uintptr_t group, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t record = UINT32_MAX;
        CHECK(ap__large_table_find(key_address(group, i), &record) && record == i);
    }
}

static void insert_group(uintptr_t group, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        while (!ap__large_table_insert(key_address(group, i), i)) {
        }
    }
}

static void delete_group(uintptr_t group, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t record = UINT32_MAX;
        CHECK(ap__large_table_delete(key_address(group, i), &record) && record == i);
    }
}

/* What the other threads were at work on may be there or not, but only once. */
static void check_busy_keys(void)
{
    for (uintptr_t group = 0; group < THREADS; group++) {
        for (uint32_t i = 0; i < BUSY_PER_THREAD; i++) {
            uint32_t record = UINT32_MAX;
            if (ap__large_table_delete(key_address(group, i), &record)) {
                CHECK(record == i);
            }
            CHECK(!ap__large_table_find(key_address(group, i), &record));
        }
    }
}

/* 1 if the parent forked in mid-block, which is what this is about; else 0. */
static int live_as_child(void)
{
    struct table *old = atomic_load(&root);
    bool mid_block =
        atomic_load(&old->next) != NULL && atomic_load(&old->tickets) > 0 &&
        atomic_load(&old->blocks_done) < ap__min(atomic_load(&old->tickets), blocks_of(old));
    ap__large_table_after_fork_in_child();
    CHECK(ap__large_table_is_valid());
    check_group(GROUP_RESTING, RESTING);
    check_busy_keys();
    insert_group(GROUP_CHILD, CHILD_KEYS);
    check_group(GROUP_RESTING, RESTING);
    check_group(GROUP_CHILD, CHILD_KEYS);
    delete_group(GROUP_CHILD, CHILD_KEYS);
    CHECK(atomic_load(&root) != old || atomic_load(&old->next) == NULL);
    delete_group(GROUP_RESTING, RESTING);
    CHECK(count_live() <= THREADS);
    CHECK(ap__large_table_is_valid());
    return mid_block;
}

/* In a process of its own, so that each round has a whole arena. Returns the forks in mid-block. */
static int run_round(void)
{
    pthread_t threads[THREADS];
    random_seed(round_seed, THREADS);
    ap__large_table_set_secret(round_seed);
    insert_group(GROUP_RESTING, RESTING);
    for (uintptr_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, churn, (void *)i) == 0);
    }
    int in_mid_block = 0;
    for (int i = 0; i < FORKS; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 100000 + random_below(400000)}, NULL);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            _exit(live_as_child());
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
        in_mid_block += WEXITSTATUS(status);
    }
    atomic_store(&stop, true);
    for (size_t i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    check_group(GROUP_RESTING, RESTING);
    CHECK(ap__large_table_is_valid());
    return in_mid_block;
}

int main(int argc, char **argv)
{
    long seconds = argc > 1 ? strtol(argv[1], NULL, 0) : 2;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)time(NULL);
    printf("large_table_fork: %ld seconds, seed %llu\n", seconds, (unsigned long long)seed);
    fflush(stdout);
    time_t end = time(NULL) + seconds;
    unsigned long rounds = 0;
    unsigned long in_mid_block = 0;
    do {
        round_seed = seed + rounds++;
        pid_t round = fork();
        CHECK(round >= 0);
        if (round == 0) {
            _exit(run_round());
        }
        int status;
        CHECK(waitpid(round, &status, 0) == round);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) <= FORKS);
        in_mid_block += (unsigned long)WEXITSTATUS(status);
    } while (time(NULL) < end);
    printf("%lu forks, %lu of them in the middle of a block\n", rounds * FORKS, in_mid_block);
    return 0;
}
