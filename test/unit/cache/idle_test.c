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
#include <sys/mman.h>
#include <time.h>

#include "api/live_check.h"
#include "cache/cache_limits.h"
#include "cache/thread.h"
#include "central/central_free_list.h"
#include "central/transfer_cache.h"
#include "decay/decay.h"
#include "heap/page_heap.h"
#include "os/bell.h"
#include "os/lock.h"
#include "os/os.h"
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
    PAIRS = 4000000,
    MOST = 400
};

static struct ap__thread_cache *cache;

static void init(void)
{
    cr_assert(ap__region_init((size_t)1 << 30));
    ap__decay_init(AP__DECAY_NEVER); /* epochs and looks are by hand */
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

static unsigned age_to_take;

static void *take_idle_here(void *more)
{
    if (age_to_take == 0) { /* seen for the first time */
        (void)ap__thread_caches_take_idle(0);
    }
    *(bool *)more = ap__thread_caches_take_idle(age_to_take);
    return NULL;
}

/* By another thread than the owner. */
static bool take_idle(unsigned age)
{
    pthread_t thread;
    bool more;
    age_to_take = age;
    cr_assert_eq(pthread_create(&thread, NULL, take_idle_here, &more), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    return more;
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

Test(idle, what_was_left_for_long_goes_home)
{
    init();
    fill(CLASS_64);
    size_t before = ap__thread_cache_count(cache, CLASS_64);
    uint64_t out = atomic_load(&cache->blocks_out);
    cr_assert_geq(before, MANY / 3);
    wait_epochs(AGE - 1);
    cr_assert(take_idle(AGE), "too young: there is more to come");
    cr_assert_eq(ap__thread_cache_count(cache, CLASS_64), before);
    wait_epochs(1);
    cr_assert(take_idle(AGE), "nobody knows yet that it sleeps");
    size_t after = ap__thread_cache_count(cache, CLASS_64);
    cr_assert_leq(after * ap__size_class[CLASS_64].size, 20 << 10, "%zu blocks stay", after);
    cr_assert_gt(after, 0);
    cr_assert_eq(blocks_claimed(CLASS_64), after);
    cr_assert_eq(atomic_load(&cache->blocks_out) - out, before - after);
    for (int i = 0; i < MANY; i++) {
        bool stays = i >= MANY - (int)after;
        cr_assert_eq(ap__thread_cache_holds(cache, CLASS_64, blocks[i]), stays, "%d", i);
    }
}

Test(idle, a_thread_that_sleeps_keeps_nothing)
{
    static const unsigned classes[] = {CLASS_64, CLASS_1K, CLASS_4K};
    init();
    for (int i = 0; i < 3; i++) {
        fill(classes[i]);
    }
    cr_assert(take_idle(AGE), "seen for the first time");
    wait_epochs(AGE);
    cr_assert_not(take_idle(AGE), "nothing is left to come back for");
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(ap__thread_cache_count(cache, classes[i]), 0);
        cr_assert_eq(blocks_claimed(classes[i]), 0);
    }
    fill(CLASS_64);
    cr_assert(atomic_load(&cache->has_blocks));
}

Test(idle, a_thread_at_work_keeps_what_it_has_in_sight)
{
    init();
    fill(CLASS_64);
    for (int look = 0; look < 3 * AGE; look++) {
        void *p = ap__free_list_pop(&cache->lists[CLASS_64]);
        cr_assert_not_null(p, "look %d", look);
        wait_epochs(1);
        cr_assert(take_idle(AGE));
    }
    cr_assert_gt(ap__thread_cache_count(cache, CLASS_64), 0);
}

/* Blocks in sight, those that were hidden are gone. */
static size_t fill_and_take_hidden(void)
{
    fill(CLASS_64);
    os_faults_fail_always(OS_FAULTS_MEMBARRIER);
    (void)take_idle(0);
    os_faults_reset();
    size_t in_sight = ap__thread_cache_count(cache, CLASS_64);
    cr_assert_gt(in_sight, 1);
    return in_sight;
}

Test(idle, without_barriers_what_is_in_sight_stays)
{
    init();
    for (unsigned long nth = 1; nth <= 2; nth++) {
        fill(CLASS_64);
        os_faults_fail_from(OS_FAULTS_MEMBARRIER, nth);
        cr_assert_not(take_idle(0), "nor is it a reason to come again");
        os_faults_reset();
        size_t left = ap__thread_cache_count(cache, CLASS_64);
        cr_assert_gt(left, 0);
        cr_assert_lt(left, MANY / 2);
        for (size_t i = 0; i < left; i++) {
            cr_assert_eq(ap__free_list_pop(&cache->lists[CLASS_64]), blocks[MANY - 1 - i]);
        }
        for (size_t i = left; i-- > 0;) {
            hit_path_give(cache, CLASS_64, blocks[MANY - 1 - i]);
        }
    }
}

Test(idle, without_leave_or_by_the_owner_no_barrier_is_asked_for)
{
    init();
    fill(CLASS_64);
    (void)ap__thread_caches_take_idle(0);
    ap__thread_caches_use_barriers(false);
    (void)take_idle(0);
    cr_assert_eq(os_faults_count(OS_FAULTS_MEMBARRIER), 0);
    cr_assert_gt(ap__thread_cache_count(cache, CLASS_64), 0);
    ap__thread_caches_use_barriers(true);
    atomic_store(&cache->has_blocks, true);
    cr_assert_not(take_idle(0));
    cr_assert_eq(ap__thread_cache_count(cache, CLASS_64), 0);
}

static void *popped;

/* What an owner can do while the other thread waits for the barrier. */
static void meet_the_null(void)
{
    popped = ap__free_list_pop(&cache->lists[CLASS_64]);
}

Test(idle, an_owner_who_comes_between_waits_and_finds_what_there_is)
{
    init();
    (void)fill_and_take_hidden();
    atomic_store(&cache->has_blocks, true);
    os_faults_watch(OS_FAULTS_MEMBARRIER, meet_the_null);
    cr_assert_not(take_idle(0));
    cr_assert_geq(os_faults_count(OS_FAULTS_MEMBARRIER), 2);
    os_faults_reset();
    cr_assert_null(popped);
    cr_assert_eq(ap__thread_cache_count(cache, CLASS_64), 0);
    cr_assert_not_null(hit_path_take(cache, CLASS_64));
}

static void push_on_top(void)
{
    static char block[64];
    struct ap__free_list *list = &cache->lists[CLASS_64];
    ap__slot *top = ap__free_list_top(list);
    ap__slot_store(top + 1, block);
    ap__free_list_set_top(list, top + 1);
    popped = block;
    os_faults_watch(OS_FAULTS_MEMBARRIER, NULL);
}

Test(idle, what_the_owner_frees_meanwhile_stays_in_sight)
{
    init();
    (void)fill_and_take_hidden();
    atomic_store(&cache->has_blocks, true);
    os_faults_watch(OS_FAULTS_MEMBARRIER, push_on_top);
    (void)take_idle(0);
    os_faults_reset();
    cr_assert_eq(ap__thread_cache_count(cache, CLASS_64), 1);
    cr_assert_eq(ap__free_list_pop(&cache->lists[CLASS_64]), popped);
    cr_assert_null(ap__free_list_pop(&cache->lists[CLASS_64]));
}

/* As if it had popped it just before the other thread laid its NULL, and stored the top now. */
static void have_popped(void)
{
    struct ap__free_list *list = &cache->lists[CLASS_64];
    ap__free_list_set_top(list, ap__free_list_top(list) - 1);
    os_faults_watch(OS_FAULTS_MEMBARRIER, NULL);
}

Test(idle, what_the_owner_has_taken_is_his)
{
    init();
    size_t in_sight = fill_and_take_hidden();
    atomic_store(&cache->has_blocks, true);
    os_faults_watch(OS_FAULTS_MEMBARRIER, have_popped);
    cr_assert(take_idle(0), "there is more");
    os_faults_reset();
    cr_assert_eq(ap__thread_cache_count(cache, CLASS_64), in_sight - 1);
    cr_assert(atomic_load(&cache->has_blocks));
    cr_assert_not(take_idle(0));
    cr_assert_eq(blocks_claimed(CLASS_64), 1);
}

static bool is_resident(const void *address)
{
    unsigned char state;
    size_t page_bytes = ap__os_page_size();
    void *page = (void *)((uintptr_t)address / page_bytes * page_bytes);
    cr_assert_eq(mincore(page, page_bytes, &state), 0);
    return (state & 1) != 0;
}

Test(idle, the_arrays_whole_pages_go_back_with_their_blocks)
{
    init();
    fill(CLASS_64);
    const ap__slot *bottom = ap__free_list_bottom(&cache->infos[CLASS_64]);
    size_t words = ap__os_page_size() / sizeof *bottom;
    cr_assert(is_resident(bottom));
    size_t count = ap__thread_cache_count(cache, CLASS_64);
    cr_assert_not(take_idle(0));
    cr_assert_eq(is_resident(bottom), count < words || (uintptr_t)bottom % ap__os_page_size() != 0);
    fill(CLASS_64);
    cr_assert_gt(ap__thread_cache_count(cache, CLASS_64), MANY / 3);
}

Test(idle, the_owner_goes_on_as_if_nothing_had_been)
{
    init();
    for (int round = 0; round < 20; round++) {
        fill(CLASS_64);
        wait_epochs(AGE);
        (void)take_idle(AGE);
        size_t left = ap__thread_cache_count(cache, CLASS_64);
        cr_assert_lt(left, MANY / 2);
        cr_assert_gt(left, 0);
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
    cr_assert(take_idle(0), "later perhaps");
    cr_assert_eq(ap__thread_cache_count(cache, CLASS_64), before);
    ap__thread_cache_unclaim(cache);
    cr_assert(!take_idle(0));
    cr_assert_lt(ap__thread_cache_count(cache, CLASS_64), before);
}

Test(idle, blocks_freed_without_a_slow_path_are_in_reach_before_they_are_many)
{
    init();
    for (int round = 0; round < 2;
         round++) { /* in the second one the list is large from the start */
        fill(CLASS_1K);
        wait_epochs(AGE);
        (void)take_idle(AGE);
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
    cr_assert(take_idle(AGE), "too young");
    cr_assert_eq(ap__thread_cache_count(cache, CLASS_64), before);
    wait_epochs(1);
    (void)take_idle(AGE);
    size_t in_sight = ap__thread_cache_count(cache, CLASS_64);
    cr_assert_lt(in_sight, before);
    cr_assert_gt(in_sight, 0);
    wait_epochs(AGE - 1);
    cr_assert_not(take_idle(AGE), "seen as it is an epoch ago");
    cr_assert_eq(ap__thread_cache_count(cache, CLASS_64), 0);
}

Test(idle, a_cache_that_nobody_has_is_left_alone)
{
    init();
    fill(CLASS_64);
    size_t before = ap__thread_cache_count(cache, CLASS_64);
    atomic_store(&cache->in_use, false); /* as a forked child finds those of other threads */
    cr_assert(!take_idle(0), "nor is it a reason to come again");
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
    cr_assert(!take_idle(0));
    cr_assert_gt(registry_locks(), before);
    before = registry_locks();
    cr_assert(!take_idle(0));
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
    atomic_store(&cache->has_blocks, true); /* as the owner's slow path does */
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
    cr_assert(atomic_load(&cache->has_blocks));
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
    cr_assert(!take_idle(0));
    cr_assert_lt(ap__thread_cache_count(cache, CLASS_64), before);
    cr_assert_lt(ap__thread_cache_count(another, CLASS_64), before);
}

static _Atomic(bool) ends;

static void *take_all_the_time(void *unused)
{
    while (!atomic_load(&ends)) {
        (void)ap__thread_caches_take_idle(0);
        (void)ap__thread_caches_take_idle(0);
        /* Owners who meet a claim wait for the lock, which is ours most of the time otherwise. */
        (void)nanosleep(&(struct timespec){0, 20000}, NULL);
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

/* One block comes and goes at the top of a list, which is where the other thread looks for one. */
static void *come_and_go(void *argument)
{
    uintptr_t self = *(unsigned *)argument;
    struct ap__thread_cache *own = ap__thread_enter();
    cr_assert_not_null(own);
    for (int round = 0; round < PAIRS; round++) {
        _Atomic(uintptr_t) *held = hit_path_take(own, CLASS_64);
        cr_assert_not_null(held);
        uintptr_t before = atomic_exchange_explicit(held, self, memory_order_relaxed);
        for (int i = 0; i < round % 16; i++) {
            atomic_signal_fence(memory_order_seq_cst);
        }
        uintptr_t after = atomic_exchange_explicit(held, 0, memory_order_relaxed);
        cr_assert(before == 0 && after == self, "a block has two owners");
        hit_path_give(own, CLASS_64, held);
    }
    ap__thread_cache_empty(own);
    return argument;
}

static void run_owners_and_a_taker(void *(*owner)(void *))
{
    init();
    pthread_t taker;
    pthread_t owners[OWNERS];
    unsigned seeds[OWNERS];
    cr_assert_eq(pthread_create(&taker, NULL, take_all_the_time, NULL), 0);
    for (unsigned i = 0; i < OWNERS; i++) {
        seeds[i] = i + 1;
        cr_assert_eq(pthread_create(&owners[i], NULL, owner, &seeds[i]), 0);
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

Test(idle, owners_at_work_and_who_takes_from_them_share_no_block, .timeout = 300)
{
    run_owners_and_a_taker(swing);
}

Test(idle, a_block_that_comes_and_goes_has_one_owner, .timeout = 300)
{
    run_owners_and_a_taker(come_and_go);
}
