/* SPDX-License-Identifier: MIT */
/*
 * thread.c: registry of thread caches.
 *
 * Exits are noticed by a pthread key's destructor. libc runs it after C++ thread_local destructors
 * and among other keys' destructors, and frees some memory of its own later still: after ours has
 * run, the thread goes on without a cache, whatever it calls.
 *
 * pthread_setspecific() may call calloc(): the new cache is published before the call, so the
 * nested allocation finds it.
 */
#include "cache/thread.h"

#include <pthread.h>

#include "cache/cache_limits.h"
#include "cache/idle.h"
#include "central/central_free_list.h"
#include "heap/page_heap.h"
#include "meta/meta.h"
#include "os/bell.h"
#include "os/lock.h"
#include "os/yield.h"

#define EMPTY_LIST                                                                                 \
    {                                                                                              \
        .top = &ap__free_list_none, .full = &ap__free_list_none                                    \
    }
#define EMPTY_CACHE                                                                                \
    {                                                                                              \
        .lists = { [0 ... AP_CLASS_COUNT - 1] = EMPTY_LIST }                                       \
    }

/* Its lists are empty and full for ever, so nobody writes to them, and all threads can share it. */
static struct ap__thread_cache no_cache = EMPTY_CACHE;

AP_TLS struct ap__thread_cache *ap__thread_cache_current = &no_cache;

/* 1, but 0 in threads of the library's own. */
static AP_TLS unsigned char counts = 1;

/*
 * Thread-local variables have their initial values; until then they read as zero. The dynamic loader copies
 * these values when everything is relocated, but calls the resolvers of indirect functions on its way, and
 * they may allocate. Caches that threads had got so early would be forgotten by the copy.
 */
static AP_TLS bool has_initial_values = true;

/* This thread's cache. NULL: none yet, or no more. */
static AP_TLS struct ap__thread_cache *own;

/* Blocks that this thread has freed without a cache. */
enum { FREES_WITHOUT_MAX = 4 };
static AP_TLS unsigned char frees_without;

/* All calls shall take the slow paths: the hit paths see `no_cache` although there is another. */
static bool hidden;

/* The thread is past its exit destructor: it shall not get a cache again. */
static AP_TLS bool has_left;

static struct ap__lock lock = AP_LOCK_INIT(AP__RANK_THREADS);
/* Pushed to under `lock`, walked without it. */
static _Atomic(struct ap__thread_cache *) caches;
static struct ap__thread_cache *vacant; /* under `lock` */
static _Atomic(unsigned) count;         /* of caches in use */
static void (*on_last_exit)(void);      /* constant once there is a second thread */

static pthread_key_t exit_key;
static _Atomic(bool) exit_key_made;
/* All keys were taken. Exits go unnoticed, so a cache would be lost with its thread: there are none. */
static _Atomic(bool) exit_key_refused;

/*
 * What makes the pointer valid before that: an indirect function of our own, which nobody calls. The loader
 * resolves it when it relocates this library, after its other relocations and before the programs and
 * libraries that are linked to it. In static programs resolvers run before there is any thread-local storage:
 * there, and only there, libc has the weak function. Not where the compiler adds calls of its own to every
 * function, which cannot run so early.
 */
#if !defined(AP_THREAD_SANITIZER) && !defined(__SANITIZE_ADDRESS__) && !defined(__AFL_COMPILER)
extern AP_HIDDEN void __libc_setup_tls(void) __attribute__((weak));

static void do_nothing(void)
{
}

AP_UNUSED static void (*make_pointer_valid(void))(void)
{
    if (__libc_setup_tls == NULL && ap__thread_cache_current == NULL) {
        ap__thread_cache_current = &no_cache;
    }
    return do_nothing;
}

static void resolved_early(void) __attribute__((ifunc("make_pointer_valid")));
__attribute__((used)) static void (*const resolved_early_reference)(void) = resolved_early;
#endif

struct ap__lock *ap__thread_lock(void)
{
    return &lock;
}

unsigned ap__thread_count(void)
{
    /* relaxed: a hint, but for the last one, who has changed it himself. */
    return atomic_load_explicit(&count, memory_order_relaxed);
}

void ap__thread_on_last_exit(void (*function)(void))
{
    on_last_exit = function;
}

struct ap__thread_cache *ap__thread_caches(void)
{
    /* acquire: pairs with the release in new_record(); the record behind it is complete. */
    return atomic_load_explicit(&caches, memory_order_acquire);
}

static struct ap__thread_cache *new_record_locked(void)
{
    struct ap__thread_cache *cache = ap__meta_take(sizeof *cache);
    if (cache != NULL) {
        ap__thread_cache_init(cache);
        cache->next = atomic_load_explicit(&caches, memory_order_relaxed);
        if (cache->next != NULL) {
            cache->number = cache->next->number + 1;
            ap__central_share();
        }
        AP__YIELD_POINT();
        atomic_store_explicit(&caches, cache, memory_order_release);
    }
    return cache;
}

static struct ap__thread_cache *take_record(void)
{
    ap__lock_take(&lock);
    struct ap__thread_cache *cache = vacant;
    if (cache != NULL) {
        vacant = cache->next_vacant;
    } else {
        cache = new_record_locked();
    }
    ap__lock_release(&lock);
    AP__YIELD_POINT();
    if (cache != NULL) {
        atomic_store_explicit(&cache->in_use, true, memory_order_relaxed);
        AP__YIELD_POINT();
        atomic_fetch_add_explicit(&count, counts, memory_order_relaxed);
    }
    return cache;
}

static void give_record(struct ap__thread_cache *cache)
{
    atomic_store_explicit(&cache->in_use, false, memory_order_relaxed);
    cache->exit_armed = false;
    AP__YIELD_POINT();
    ap__lock_take(&lock);
    cache->next_vacant = vacant;
    vacant = cache;
    ap__lock_release(&lock);
}

/* Returns how many threads are left. */
static unsigned leave(struct ap__thread_cache *cache)
{
    ap__thread_cache_current = &no_cache;
    own = NULL;
    if (!cache->at_work) {
        ap__thread_cache_empty(cache);
        give_record(cache);
    } else { /* cancelled asynchronously in there: nothing in it can be relied on */
        atomic_store_explicit(&cache->in_use, false, memory_order_relaxed);
    }
    AP__YIELD_POINT();
    return atomic_fetch_sub_explicit(&count, counts, memory_order_acq_rel) - counts;
}

static void on_thread_exit(void *value)
{
    has_left = true;
    unsigned left = leave(value);
    AP__YIELD_POINT();
    if (left == 0 && on_last_exit != NULL) {
        on_last_exit();
    } else if (left == 1) {
        ap__bell_ring(&ap__heap_bell); /* who works for several threads may go */
    }
}

bool ap__thread_watch_exits(void)
{
    if (pthread_key_create(&exit_key, on_thread_exit) != 0) {
        atomic_store_explicit(&exit_key_refused, true, memory_order_relaxed);
        return false;
    }
    AP__YIELD_POINT();
    /* release: pairs with the acquire in arm(): the key is there. */
    atomic_store_explicit(&exit_key_made, true, memory_order_release);
    return true;
}

/* Makes sure that this thread's exit is noticed; the key may not exist yet. `false`: libc has no memory for
 * that now. Then the thread does without a cache: it would be lost with the thread. */
static bool arm(struct ap__thread_cache *cache)
{
    if (!cache->exit_armed && atomic_load_explicit(&exit_key_made, memory_order_acquire)) {
        cache->exit_armed = true;
        cache->exit_armed = pthread_setspecific(exit_key, cache) == 0;
        return cache->exit_armed;
    }
    return true;
}

struct ap__thread_cache *ap__thread_cache_or_null(void)
{
    return own;
}

void ap__thread_be_uncounted(void)
{
    counts = 0;
}

void ap__thread_leave(void)
{
    if (own != NULL) {
        if (own->exit_armed) {
            (void)pthread_setspecific(exit_key, NULL);
        }
        (void)leave(own);
    }
}

void ap__thread_drop_unfinished_cache(void)
{
    if (own != NULL && own->at_work) {
        has_left = true;
        ap__thread_cache_current = &no_cache;
        /* Nothing in it can be relied on. It counts until the thread's exit: the handler may be left by a jump. */
        atomic_store_explicit(&own->in_use, false, memory_order_relaxed);
        own = NULL;
    }
}

void ap__thread_hide_caches(void)
{
    hidden = true;
    ap__thread_cache_current = &no_cache;
}

struct ap__thread_cache *ap__thread_enter(void)
{
    struct ap__thread_cache *cache = own;
    if (AP_UNLIKELY(cache == NULL)) {
        if (has_left || !has_initial_values ||
            atomic_load_explicit(&exit_key_refused, memory_order_relaxed)) {
            return NULL;
        }
        cache = take_record();
        if (cache == NULL) {
            return NULL;
        }
        AP__YIELD_POINT();
        own = cache;
        ap__central_set_thread(cache->number);
        if (!hidden) {
            ap__thread_cache_current = cache;
        }
    }
    /* A handler that has interrupted the cache's work does not take it away. */
    if (AP_UNLIKELY(!cache->exit_armed) && !arm(cache) && !cache->at_work) {
        (void)leave(cache);
        return NULL;
    }
    return cache;
}

struct ap__thread_cache *ap__thread_enter_to_free(void)
{
    return own == NULL && frees_without < FREES_WITHOUT_MAX ? (frees_without++, NULL)
                                                            : ap__thread_enter();
}

void ap__thread_after_fork_in_child(void)
{
    struct ap__thread_cache *mine = ap__thread_cache_or_null();
    if (mine != NULL && !mine->at_work) {
        ap__thread_cache_unclaim(mine); /* a signal handler's fork took no lock: see life/fork.c */
    }
    for (struct ap__thread_cache *cache = ap__thread_caches(); cache != NULL; cache = cache->next) {
        if (cache != mine) {
            /* Its owner may have been anywhere in its hit path when the process was copied. */
            atomic_store_explicit(&cache->in_use, false, memory_order_relaxed);
        }
    }
    atomic_store_explicit(&count, mine != NULL, memory_order_relaxed);
    ap__cache_limits_reset_in_child(mine != NULL ? mine->granted_bytes : 0);
}
