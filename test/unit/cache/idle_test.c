/* SPDX-License-Identifier: MIT */
/*
 * idle_test.c: blocks that a thread has left in its cache go home.
 * Goal: what is hidden for long enough is taken, nothing else is, and the owner never notices: no block is lost,
 * none has two owners. Method: the owner's hit path by hand, epochs by hand; then two owners at work
 * while a third thread takes whatever it can, all of whose blocks pass the bitmaps of the spans.
 */
#include "cache/idle.h"

#include <criterion/criterion.h>
#include <pthread.h>

#include "api/live_check.h"
#include "cache/cache_limits.h"
#include "cache/thread.h"
#include "central/central_free_list.h"
#include "central/transfer_cache.h"
#include "heap/page_heap.h"
#include "os/bell.h"
#include "os/lock.h"
#include "support/hit_paths.h"
#include "support/os_faults.h"

enum {
    CLASS_64 = 4,
    CLASS_1K = 32,
    CLASS_4K = 48,
    MANY = 900,
    AGE = 4,
    OWNERS = 2,
    ROUNDS = 20000,
    MOST = 400
};

static struct ap__thread_cache *cache;

static void init(void)
{
    cr_assert(ap__region_init((size_t)1 << 30));
    ap__cache_limits_init(4 << 20, 1 << 30);
    ap__transfer_init(1, 0);
    cr_assert_geq(ap__size_class[CLASS_1K].size, 1000);
    cr_assert_eq(ap__size_class[CLASS_4K].size, 4096);
}

static void *blocks[MANY];
static unsigned epoch = 1;

static void wait_epochs(unsigned count)
{
    epoch += count;
    ap__central_set_epoch(epoch);
}

/* A cache with as many blocks of a class as it likes to hold. */
static void fill(unsigned size_class)
{
    cache = ap__thread_enter();
    cr_assert_not_null(cache);
    wait_epochs(1);
    for (int i = 0; i < MANY; i++) {
        blocks[i] = hit_path_take(cache, size_class);
        cr_assert_not_null(blocks[i]);
    }
    for (int i = 0; i < MANY; i++) {
        hit_path_give(cache, size_class, blocks[i]);
    }
}

Test(idle, what_was_left_for_long_goes_home_and_the_newest_stays)
{
    init();
    fill(CLASS_64);
    size_t before = ap__thread_cache_count(cache, CLASS_64);
    uint64_t out = atomic_load(&cache->blocks_out);
    cr_assert_geq(before, MANY / 3);
    wait_epochs(AGE - 1);
    cr_assert(ap__thread_caches_take_idle(AGE), "too young: there is more to come");
    cr_assert_eq(ap__thread_cache_count(cache, CLASS_64), before);
    wait_epochs(1);
    cr_assert(!ap__thread_caches_take_idle(AGE), "nothing is left to come back for");
    size_t after = ap__thread_cache_count(cache, CLASS_64);
    cr_assert_leq(after * ap__size_class[CLASS_64].size, 12 << 10, "%zu blocks stay", after);
    cr_assert_gt(after, 0);
    cr_assert_eq(blocks_claimed(CLASS_64), after);
    cr_assert_eq(atomic_load(&cache->blocks_out) - out, before - after);
    for (int i = 0; i < MANY; i++) {
        bool stays = i >= MANY - (int)after;
        cr_assert_eq(ap__thread_cache_holds(cache, CLASS_64, blocks[i]), stays, "%d", i);
    }
}

Test(idle, the_owner_goes_on_as_if_nothing_had_been)
{
    init();
    for (int round = 0; round < 20; round++) {
        fill(CLASS_64);
        wait_epochs(AGE);
        (void)ap__thread_caches_take_idle(AGE);
        size_t left = ap__thread_cache_count(cache, CLASS_64);
        cr_assert_lt(left, MANY / 2);
        if (round % 2 == 0) { /* allocate first, or free first */
            for (size_t i = 0; i < left; i++) {
                cr_assert_eq(hit_path_take(cache, CLASS_64), blocks[MANY - 1 - i],
                             "the newest first");
            }
            for (size_t i = left; i-- > 0;) {
                hit_path_give(cache, CLASS_64, blocks[MANY - 1 - i]);
            }
        }
    }
    ap__thread_cache_empty(cache);
    cr_assert_eq(blocks_claimed(CLASS_64), 0);
}

Test(idle, a_cache_at_work_is_left_alone)
{
    init();
    fill(CLASS_64);
    size_t before = ap__thread_cache_count(cache, CLASS_64);
    ap__thread_cache_claim(cache);
    cr_assert(ap__thread_caches_take_idle(0), "later perhaps");
    cr_assert_eq(ap__thread_cache_count(cache, CLASS_64), before);
    ap__thread_cache_unclaim(cache);
    cr_assert(!ap__thread_caches_take_idle(0));
    cr_assert_lt(ap__thread_cache_count(cache, CLASS_64), before);
}

Test(idle, blocks_freed_without_a_slow_path_are_in_reach_before_they_are_many)
{
    init();
    for (int round = 0; round < 2;
         round++) { /* in the second one the list is large from the start */
        fill(CLASS_1K);
        wait_epochs(AGE);
        (void)ap__thread_caches_take_idle(AGE);
        size_t left = ap__thread_cache_count(cache, CLASS_1K);
        cr_assert_leq(left * ap__size_class[CLASS_1K].size, 40 << 10, "%zu blocks stay", left);
    }
}

Test(idle, epochs_wrap)
{
    init();
    wait_epochs(252); /* and one more in fill() */
    fill(CLASS_64);
    size_t before = ap__thread_cache_count(cache, CLASS_64);
    wait_epochs(AGE - 1);
    cr_assert(ap__thread_caches_take_idle(AGE), "too young");
    cr_assert_eq(ap__thread_cache_count(cache, CLASS_64), before);
    wait_epochs(1);
    cr_assert(!ap__thread_caches_take_idle(AGE));
    cr_assert_lt(ap__thread_cache_count(cache, CLASS_64), before);
}

Test(idle, a_cache_that_nobody_has_is_left_alone)
{
    init();
    fill(CLASS_64);
    size_t before = ap__thread_cache_count(cache, CLASS_64);
    atomic_store(&cache->in_use, false); /* as a forked child finds those of other threads */
    cr_assert(!ap__thread_caches_take_idle(0), "nor is it a reason to come again");
    cr_assert_eq(ap__thread_cache_count(cache, CLASS_64), before);
}

static uint64_t registry_locks(void)
{
    struct ap__lock_stats figures = {0, 0};
    ap__lock_add_stats(ap__thread_lock(), &figures);
    return figures.taken;
}

/* A fork takes it, and meets no cache that another thread has claimed. */
Test(idle, blocks_are_taken_under_the_registrys_lock)
{
    init();
    fill(CLASS_64);
    uint64_t before = registry_locks();
    cr_assert(!ap__thread_caches_take_idle(0));
    cr_assert_gt(registry_locks(), before);
    before = registry_locks();
    cr_assert(!ap__thread_caches_take_idle(0));
    cr_assert_eq(registry_locks(), before, "a look at a cache without folds takes no lock");
}

Test(idle, an_owner_who_waits_does_so_for_the_registrys_lock)
{
    init();
    fill(CLASS_64);
    uint64_t before = registry_locks();
    ap__thread_cache_claim_slowly(cache);
    cr_assert_eq(registry_locks(), before + 1);
    cr_assert_eq(atomic_load(&cache->claim), AP__CLAIMED_BY_OWNER);
    ap__thread_cache_unclaim(cache);
}

static unsigned looks;

static void fold_meanwhile(void)
{
    looks++;
    atomic_store(&cache->has_folds, true); /* as the owner's slow path does */
}

/* Blocks that come home drain their spans, which rings. */
Test(idle, a_fold_that_is_made_meanwhile_is_seen_next_time)
{
    init();
    fill(CLASS_64);
    ap__bell_listen(&ap__heap_bell);
    os_faults_watch(OS_FAULTS_FUTEX, fold_meanwhile);
    (void)ap__thread_caches_take_idle(0);
    os_faults_reset();
    cr_assert_gt(looks, 0);
    cr_assert(atomic_load(&cache->has_folds));
}

/* --- with other threads --- */

static void *fill_another(void *unused)
{
    fill(CLASS_64);
    return unused;
}

Test(idle, all_caches_are_looked_at)
{
    pthread_t thread;
    init();
    cr_assert_eq(pthread_create(&thread, NULL, fill_another, NULL), 0);
    pthread_join(thread, NULL); /* nobody watches for its end: its cache stays */
    struct ap__thread_cache *another = cache;
    fill(CLASS_64);
    cr_assert_neq(cache, another);
    size_t before = ap__thread_cache_count(cache, CLASS_64);
    cr_assert_eq(ap__thread_cache_count(another, CLASS_64), before);
    cr_assert(!ap__thread_caches_take_idle(0));
    cr_assert_lt(ap__thread_cache_count(cache, CLASS_64), before);
    cr_assert_lt(ap__thread_cache_count(another, CLASS_64), before);
}

static _Atomic(bool) ends;

static void *take_all_the_time(void *unused)
{
    while (!atomic_load(&ends)) {
        (void)ap__thread_caches_take_idle(0);
    }
    return unused;
}

static unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 16;
}

/* Swings of random height on three classes, of one of which folds hide all; every block says whose it is while it is
 * in use, and is not taken for one that was freed. */
static void *swing(void *argument)
{
    static const unsigned classes[] = {CLASS_64, CLASS_1K, CLASS_4K};
    unsigned seed = *(unsigned *)argument;
    uintptr_t self = seed;
    uintptr_t *held[MOST];
    struct ap__thread_cache *own = ap__thread_enter();
    cr_assert_not_null(own);
    for (int round = 0; round < ROUNDS; round++) {
        unsigned size_class = classes[next_random(&seed) % 3];
        unsigned count = next_random(&seed) % MOST;
        for (unsigned i = 0; i < count; i++) {
            held[i] = hit_path_take(own, size_class);
            cr_assert_not_null(held[i]);
            *held[i] = self;
        }
        for (unsigned i = 0; i < count; i++) {
            cr_assert_eq(*held[i], self, "a block has two owners");
            cr_assert_not(ap__is_newest(own, size_class, held[i]));
            *held[i] = 0;
            hit_path_give(own, size_class, held[i]);
        }
    }
    ap__thread_cache_empty(own);
    return argument;
}

Test(idle, owners_at_work_and_who_takes_from_them_share_no_block, .timeout = 300)
{
    init();
    pthread_t taker;
    pthread_t owners[OWNERS];
    unsigned seeds[OWNERS];
    cr_assert_eq(pthread_create(&taker, NULL, take_all_the_time, NULL), 0);
    for (unsigned i = 0; i < OWNERS; i++) {
        seeds[i] = i + 1;
        cr_assert_eq(pthread_create(&owners[i], NULL, swing, &seeds[i]), 0);
    }
    for (unsigned i = 0; i < OWNERS; i++) {
        void *seen;
        cr_assert_eq(pthread_join(owners[i], &seen), 0);
        cr_assert_eq(seen, &seeds[i]);
    }
    atomic_store(&ends, true);
    cr_assert_eq(pthread_join(taker, NULL), 0);
    cr_assert_eq(blocks_claimed(CLASS_64), 0);
    cr_assert_eq(blocks_claimed(CLASS_1K), 0);
    cr_assert_eq(blocks_claimed(CLASS_4K), 0);
}
