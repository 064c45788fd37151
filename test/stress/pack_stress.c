/* SPDX-License-Identifier: MIT */
/*
 * pack_stress.c: blocks of many sizes lie side by side in spans that all threads share, and go on changing.
 *
 * Goal: a packed block keeps its bytes and its neighbours theirs, whoever takes, resizes and frees them, while free pages
 * between them go back and spans move from pool to pool; nothing is lost, in forked children neither. Method: threads
 * exchange blocks through places, resize them in both directions, ask how long they are, and free what others took;
 * now and then one trims, ends and is followed by another, or forks: the child checks and frees what its thread had.
 * Sizes are such that most are packed, with smaller and larger ones that packed ones turn into. In the end the
 * figures must be exactly the blocks that are left, and the walk of support/consistency.h must find no fault; with
 * all freed, no packed span is left. The options say how early memory goes back.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/compiler.h"
#include "base/size_class.h"
#include "central/central_free_list.h"
#include "decay/decay.h"
#include "pack/pack.h"
#include "pack/pack_place.h"
#include "stress.h"
#include "support/consistency.h"
#include "support/process_view.h"

enum {
    SPAWNERS = 4,
    PLACES = 600,
    OWN = 40, /* blocks that a thread has for itself */
    ROUNDS_MOST = 4000,
    CHILD_SECONDS = 60,
    AT_REST_MS = 30000,
    LARGE = 300000,
};

static struct place {
    pthread_mutex_t mutex;
    struct stress_block block;
} places[PLACES];

static _Atomic(unsigned) next_number = SPAWNERS;
static _Atomic(uint64_t) forks, resized_in_place;

/* Half of them short, as most blocks of a program are; now and then one that is not packed. */
static size_t random_size(struct stress_random *random)
{
    switch (stress_random_below(random, 16)) {
    case 0:
        return stress_random_below(random, AP__PACK_SIZE_MIN);
    case 1:
        return AP__PACK_SIZE_MAX + stress_random_below(random, 200000);
    case 2:
    case 3:
    case 4:
    case 5:
        return AP__PACK_SIZE_MIN +
               stress_random_below(random, AP__PACK_SIZE_MAX - AP__PACK_SIZE_MIN);
    default:
        return AP__PACK_SIZE_MIN + stress_random_below(random, 8000);
    }
}

static void allocate(struct stress_block *block, struct stress_random *random)
{
    size_t size = random_size(random);
    void *p = NULL;
    switch (stress_random_below(random, 4)) {
    case 0: {
        const unsigned char *zeros = p = ap_calloc(1, size);
        STRESS_CHECK(p != NULL);
        for (size_t i = 0; i < size; i += 1 + i / 8) {
            STRESS_CHECK(zeros[i] == 0);
        }
        break;
    }
    case 1:
        p = ap_aligned_alloc(128, size);
        STRESS_CHECK((uintptr_t)p % 128 == 0);
        break;
    default:
        p = ap_malloc(size);
        break;
    }
    STRESS_CHECK(p != NULL);
    stress_block_fill(block, p, size, 16, stress_random_next(random));
}

static void resize(struct stress_block *block, struct stress_random *random)
{
    size_t size = random_size(random) + 1; /* to 0 is to free */
    if (stress_random_below(random, 2) == 0) {
        size = 1 + block->size / 2 + stress_random_below(random, block->size + 1);
    }
    const void *before = block->p;
    stress_block_realloc(block, size);
    atomic_fetch_add_explicit(&resized_in_place, block->p == before, memory_order_relaxed);
}

static void exchange(struct stress_block *block, struct stress_random *random)
{
    struct place *place = &places[stress_random_below(random, PLACES)];
    (void)pthread_mutex_lock(&place->mutex);
    struct stress_block found = place->block;
    place->block = *block;
    (void)pthread_mutex_unlock(&place->mutex);
    *block = found;
}

static void change(struct stress_block *block, struct stress_random *random)
{
    switch (stress_random_below(random, 4)) {
    case 0:
        exchange(block, random);
        break;
    case 1:
        stress_block_free(block);
        break;
    default:
        if (block->p == NULL) {
            allocate(block, random);
        } else {
            resize(block, random);
        }
        break;
    }
}

/* ------------------------------------------------------------ children */

#ifdef AP_THREAD_SANITIZER
/* A child of a program with threads is not ThreadSanitizer's. */
static void fork_and_wait(struct stress_block *own, struct stress_random *random)
{
    (void)own;
    (void)random;
}
#else
static _Noreturn void be_child(struct stress_block *own, struct stress_random *random)
{
    (void)alarm(CHILD_SECONDS);
    for (unsigned i = 0; i < 2 * OWN; i++) {
        struct stress_block *block = &own[i % OWN];
        stress_block_free(block);
        allocate(block, random);
        resize(block, random);
    }
    for (unsigned i = 0; i < OWN; i++) {
        stress_block_free(&own[i]);
    }
    (void)ap_trim();
    const char *fault = consistency_find_fault_in_child();
    if (fault != NULL) {
        (void)fprintf(stderr, "in a child: %s\n", fault);
    }
    _exit(fault != NULL);
}

static void fork_and_wait(struct stress_block *own, struct stress_random *random)
{
    int status = 0;
    pid_t child = fork();
    STRESS_CHECK(child >= 0);
    if (child == 0) {
        be_child(own, random);
    }
    STRESS_CHECK(waitpid(child, &status, 0) == child);
    STRESS_CHECK(status == 0);
    atomic_fetch_add(&forks, 1);
}
#endif

/* ------------------------------------------------------------ threads */

static void *live_shortly(void *unused)
{
    struct stress_random random = stress_random_stream(atomic_fetch_add(&next_number, 1));
    struct stress_block own[OWN] = {{0}};
    size_t rounds = 1 + stress_random_below(&random, ROUNDS_MOST);
    for (size_t round = 0; round < rounds && !stress_is_over(); round++) {
        change(&own[stress_random_below(&random, OWN)], &random);
        if (stress_random_below(&random, 2000) == 0) {
            (void)ap_trim();
        }
        if (stress_random_below(&random, 4000) == 0) {
            fork_and_wait(own, &random);
        }
    }
    for (unsigned i = 0; i < OWN; i++) {
        stress_block_free(&own[i]);
    }
    stress_count(rounds);
    return unused;
}

static void spawn(unsigned number)
{
    (void)number;
    while (!stress_is_over()) {
        pthread_t thread;
        STRESS_CHECK(pthread_create(&thread, NULL, live_shortly, NULL) == 0);
        STRESS_CHECK(pthread_join(thread, NULL) == 0);
    }
}

/* ------------------------------------------------------------ the end */

static void expect_no_fault(void)
{
    const char *fault = consistency_find_fault();
    if (fault != NULL) {
        (void)fprintf(stderr, "%s\n", fault);
    }
    STRESS_CHECK(fault == NULL);
}

static bool is_packed(const struct stress_block *block)
{
    return block->p != NULL && ap__pack_span_of(block->p) != NULL;
}

static void expect_figures(void)
{
    size_t blocks = 0, bytes = 0;
    for (size_t i = 0; i < PLACES; i++) {
        if (is_packed(&places[i].block)) {
            blocks++;
            bytes += ap_usable_size(places[i].block.p);
        }
    }
    struct ap__pack_stats stats;
    ap__pack_stats(&stats);
    /* Else threads may have found that these blocks replace each other, and all have spans of their classes. */
    bool packs_always = ap__central_bound(ap__class_of_size(AP__PACK_SIZE_MIN)) == 0;
    STRESS_CHECK(blocks != 0 || !packs_always);
    STRESS_CHECK(stats.blocks == blocks);
    STRESS_CHECK(stats.block_bytes == bytes);
    STRESS_CHECK(stats.span_bytes >= bytes);
}

/* A span that the helper purges meanwhile goes afterwards. */
static bool no_span_is_left(void)
{
    struct ap__pack_stats stats;
    ap_free(ap_malloc(LARGE)); /* one thread is left: it decays by its own calls */
    ap__pack_stats(&stats);
    return stats.spans == 0;
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "pack_stress");
    for (size_t i = 0; i < PLACES; i++) {
        (void)pthread_mutex_init(&places[i].mutex, NULL);
    }
    stress_run_threads(SPAWNERS, spawn);
    ap__decay_empty_caches("free"); /* what the threads have left there is not live */
    expect_no_fault();
    expect_figures();
    for (size_t i = 0; i < PLACES; i++) {
        stress_block_free(&places[i].block);
    }
    ap_thread_idle(); /* some are kept: those that replace each other */
    STRESS_CHECK(view_wait(no_span_is_left, AT_REST_MS) >= 0);
    expect_no_fault();
    (void)printf("pack_stress: %llu forks, %llu blocks resized where they lay\n",
                 (unsigned long long)atomic_load(&forks),
                 (unsigned long long)atomic_load(&resized_in_place));
    return stress_finish();
}
