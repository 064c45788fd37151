/* SPDX-License-Identifier: MIT */
/*
 * thread_test.c: which thread has which cache.
 * Goal: one cache a thread, reused by later threads, emptied at exit, whose number says where it claims; a thread past
 * its destructors does without; a thread without memory too. Method: threads, a key of the test's own whose destructor
 * runs after ours.
 */
#include "cache/thread.h"

#include <criterion/criterion.h>
#include <pthread.h>

#include "cache/cache_limits.h"
#include "central/central_free_list.h"
#include "central/shards.h"
#include "central/transfer_cache.h"
#include "heap/region.h"
#include "support/os_faults.h"

enum { CLASS_64 = 4, THREADS = 200 };

static void init(void)
{
    cr_assert(ap__region_init((size_t)1 << 30));
    ap__cache_limits_init(4 << 20, 1 << 30);
    ap__transfer_init(1, 0);
}

static size_t claimed(void)
{
    struct ap__central_stats stats;
    ap__central_stats(CLASS_64, &stats);
    return stats.claimed;
}

static size_t records(void)
{
    size_t count = 0;
    for (struct ap__thread_cache *cache = ap__thread_caches(); cache != NULL; cache = cache->next) {
        count++;
    }
    return count;
}

static void *refill(void *block)
{
    struct ap__thread_cache *cache = ap__thread_enter();
    cr_assert_not_null(cache);
    cr_assert_eq(cache, ap__thread_enter());
    cr_assert_eq(cache, ap__thread_cache_or_null());
    cr_assert_eq(cache, ap__thread_cache_current);
    *(void **)block = ap__thread_cache_refill(cache, CLASS_64);
    return cache;
}

Test(thread, the_pointer_is_never_null)
{
    cr_assert_not_null(ap__thread_cache_current);
    cr_assert_null(ap__thread_cache_or_null());
    for (unsigned c = 0; c < AP_CLASS_COUNT; c++) {
        const struct ap__free_list *list = &ap__thread_cache_current->lists[c];
        cr_assert_eq(ap__free_list_top(list), list->full, "full");
        cr_assert_null(ap__slot_load(ap__free_list_top(list)), "and empty");
    }
}

Test(thread, an_exiting_thread_gives_all_back_and_its_record_is_used_again)
{
    init();
    cr_assert(ap__thread_watch_exits());
    void *first = NULL;
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        void *block;
        void *cache;
        cr_assert_eq(pthread_create(&thread, NULL, refill, &block), 0);
        cr_assert_eq(pthread_join(thread, &cache), 0);
        cr_assert_not_null(block);
        ap__central_give(CLASS_64, &block, 1, "free");
        cr_assert_eq(claimed(), 0);
        cr_assert(first == NULL || first == cache);
        first = cache;
    }
    cr_assert_eq(records(), 1);
}

static pthread_key_t late_key;
static bool late_had_no_cache;

static void late_destructor(void *value)
{
    /* Rounds repeat while values are set: in the second ours has run for certain. */
    if (value == (void *)1) {
        pthread_setspecific(late_key, (void *)2);
        return;
    }
    late_had_no_cache = ap__thread_enter() == NULL && ap__thread_cache_or_null() == NULL;
}

static void *use_and_leave(void *unused)
{
    void *block;
    (void)refill(&block);
    ap__central_give(CLASS_64, &block, 1, "free");
    pthread_setspecific(late_key, (void *)1);
    return unused;
}

Test(thread, past_its_destructor_a_thread_does_without)
{
    init();
    cr_assert(ap__thread_watch_exits());
    cr_assert_eq(pthread_key_create(&late_key, late_destructor), 0);
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, use_and_leave, NULL), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert(late_had_no_cache);
    cr_assert_eq(claimed(), 0);
}

Test(thread, a_cache_from_before_the_key_is_armed_later)
{
    init();
    void *block;
    struct ap__thread_cache *cache = refill(&block);
    cr_assert(!cache->exit_armed);
    cr_assert(ap__thread_watch_exits());
    (void)ap__thread_enter();
    cr_assert(cache->exit_armed);
}

static void *free_some(void *unused)
{
    for (int i = 0; i < 4; i++) {
        cr_assert_null(ap__thread_enter_to_free(), "not worth a cache: %d", i);
        cr_assert_null(ap__thread_cache_or_null());
    }
    cr_assert_not_null(ap__thread_enter_to_free());
    cr_assert_not_null(ap__thread_cache_or_null());
    return unused;
}

Test(thread, that_frees_a_few_blocks_does_without_a_cache)
{
    init();
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, free_some, NULL), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_not_null(ap__thread_enter());
    cr_assert_not_null(ap__thread_enter_to_free(), "it has one");
}

static void *expect_shard(void *number)
{
    struct ap__thread_cache *cache = ap__thread_enter();
    cr_assert_not_null(cache);
    cr_assert_eq(cache->number, *(unsigned *)number);
    cr_assert_eq(ap__shard_mine(CLASS_64), ap__shard_at(cache->number, CLASS_64));
    return number;
}

Test(thread, claims_from_the_shard_of_its_caches_number)
{
    static void *blocks[8 * AP_SLOTS_MAX]; /* with so many spans two shards come into use */
    unsigned numbers[] = {0, 1};
    unsigned count = 8 * ap__size_class[CLASS_64].slots;
    pthread_t thread;
    init();
    ap__central_init(false, 2);
    (void)ap__thread_enter();
    ap__central_share();
    cr_assert_eq(ap__central_take(CLASS_64, blocks, count), count);
    cr_assert_eq(ap__central_shards(CLASS_64), 2);
    (void)expect_shard(&numbers[0]);
    cr_assert_eq(pthread_create(&thread, NULL, expect_shard, &numbers[1]), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
}

static void *enter_hidden(void *unused)
{
    struct ap__thread_cache *cache = ap__thread_enter();
    cr_assert_not_null(cache);
    cr_assert_eq(cache, ap__thread_cache_or_null());
    cr_assert_neq(cache, ap__thread_cache_current, "the hit paths do not see it");
    cr_assert_null(ap__slot_load(ap__free_list_top(&ap__thread_cache_current->lists[CLASS_64])));
    return unused;
}

Test(thread, hidden_caches_are_there_for_the_slow_paths_only)
{
    init();
    (void)ap__thread_enter();
    ap__thread_hide_caches();
    (void)enter_hidden(NULL);
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, enter_hidden, NULL), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
}

Test(thread, without_memory_a_thread_does_without_and_tries_again)
{
    init();
    os_faults_fail_always(OS_FAULTS_MMAP);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    cr_assert_null(ap__thread_enter());
    os_faults_reset();
    cr_assert_not_null(ap__thread_enter());
}

Test(thread, a_forked_child_forgets_the_others)
{
    init();
    void *block;
    struct ap__thread_cache *mine = refill(&block);
    pthread_t thread;
    void *other;
    cr_assert_eq(pthread_create(&thread, NULL, refill, &block), 0);
    cr_assert_eq(pthread_join(thread, &other), 0);
    ap__thread_after_fork_in_child();
    cr_assert(atomic_load(&mine->in_use));
    cr_assert(!atomic_load(&((struct ap__thread_cache *)other)->in_use));
}
