/* SPDX-License-Identifier: MIT */
/*
 * init.c: initialisation in two steps: what the first allocation needs, and what needs libc.
 *
 * The first step is guarded by a lock and a flag; the second is the library's constructor. Between the
 * two, everything works except that thread exits go unnoticed (there are none yet, as a rule:
 * threads of earlier constructors are armed on a later slow path) and options from the environment
 * may be missing, where the first call came before there was one; they are read again then.
 */
#include "life/init.h"

#include "cache/cache_limits.h"
#include "cache/fine_classes.h"
#include "cache/idle.h"
#include "central/central_free_list.h"
#include "central/transfer_cache.h"
#include "config/options.h"
#include "decay/decay.h"
#include "hardened/hardened.h"
#include "hardened/sampled.h"
#include "heap/heap_limits.h"
#include "heap/huge_pages.h"
#include "heap/page_heap.h"
#include "heap/region.h"
#include "life/fork.h"
#include "life/helper.h"
#include "life/soft_limit.h"
#include "meta/meta.h"
#include "os/check.h"
#include "os/lock.h"
#include "os/os.h"
#include "os/yield.h"
#include "pack/pack.h"
#include "table/large_table.h"

/* A limit on address space leaves the program at least three quarters of it. */
#define LIMIT_DIVISOR 4

/* With `hardened`, every allocation is looked at: a period as good as any. */
#define HARDENED_SAMPLE 1000

static struct ap__lock lock = AP_LOCK_INIT(AP__RANK_INIT);
static _Atomic(bool) ready;
static bool environment_read; /* under `lock`, then the constructor only */

static void apply_limits(void)
{
    ap__cache_limits_init(ap__options.cache_thread, ap__options.cache_total);
    /* With `hardened` blocks have no more room than they must. */
    ap__fine_classes_init(ap__options.hardened != 0 ? AP__WHEN_ALWAYS
                                                    : (enum ap__when)ap__options.fine_classes);
    ap__huge_pages_init((enum ap__when)ap__options.thp, AP__HUGE_PAGE_SLOW_US);
    ap__central_init(ap__options.populate != 0, (unsigned)ap__options.cpu_shards);
    ap__pack_init(ap__options.hardened != 0 ? AP__WHEN_NEVER : (enum ap__when)ap__options.pack,
                  ap__options.populate != 0);
    ap__decay_init(ap__options.decay_ms);
    ap__thread_caches_use_barriers(ap__options.membarrier != 0);
    ap__decay_look_also(ap__thread_caches_take_idle);
    ap__soft_limit_init();
    ap__heap_limits_set_hard(ap__options.limit != 0 ? ap__options.limit : SIZE_MAX);
    ap__transfer_init((unsigned)ap__options.cpu_shards, ap__options.transfer_class);
}

/* A block must be freed as it was allocated: so before the first one, or never. */
static void apply_protection(void)
{
    uint64_t secret = ap__os_seed();
    uint64_t period = ap__options.guard_sample;
    if (ap__options.hardened != 0) {
        ap__hardened_init(ap__options.quarantine, secret);
        ap__thread_hide_caches();
        period = period != 0 ? period : HARDENED_SAMPLE;
    }
    if (period != 0) {
        (void)ap__sampled_init(period, secret);
    }
}

/* The environment came after the first block. */
static void refuse_protection(void)
{
    static const char text[] =
        "apmalloc: hardened, guard_sample: the program allocated before its environment was there; "
        "both stay off\n";
    if (ap__options.hardened != 0 || ap__options.guard_sample != 0) {
        ap__options.hardened = 0;
        ap__options.guard_sample = 0;
        ap__os_write_stderr(text, sizeof text - 1);
    }
}

static void init_locked(void)
{
    ap__abort_after(ap__thread_drop_unfinished_cache);
    environment_read = ap__options_read_environment();
    ap__meta_set_heap(ap__options.reserve);
    apply_limits();
    apply_protection();
    ap__large_table_set_secret(ap__os_seed());
    size_t limit = ap__os_address_space_limit();
    size_t reserve =
        ap__min(ap__options.reserve, limit == SIZE_MAX ? limit : limit / LIMIT_DIVISOR);
    /* Without a region the heap works too: all spans then are mappings of their own. */
    (void)ap__region_init(reserve);
}

void ap__life_init(void)
{
    /* acquire: pairs with the release below: whoever sees `ready` sees what init has written. */
    if (AP_LIKELY(atomic_load_explicit(&ready, memory_order_acquire))) {
        return;
    }
    ap__lock_take(&lock);
    if (!atomic_load_explicit(&ready, memory_order_relaxed)) {
        init_locked();
        AP__YIELD_POINT();
        atomic_store_explicit(&ready, true, memory_order_release);
    }
    ap__lock_release(&lock);
}

struct ap__thread_cache *ap__life_enter(void)
{
    ap__life_init();
    struct ap__thread_cache *cache = ap__thread_enter();
    ap__helper_consider();
    return cache;
}

struct ap__thread_cache *ap__life_enter_to_free(void)
{
    ap__life_init();
    return ap__thread_enter_to_free();
}

/* Early among constructors; in a program linked statically, others may have run all the same. */
__attribute__((constructor(101))) static void construct(void)
{
    ap__life_init();
    if (!environment_read) {
        environment_read = ap__options_read_environment();
        refuse_protection();
        apply_limits();
    }
    ap__options_seal();
    (void)ap__thread_watch_exits();
    (void)ap__life_enter();
    ap__soft_limit_update();
    ap__fork_set_init_lock(&lock);
    ap__fork_watch();
    ap__helper_allow(ap__helper_is_wanted());
}

/* Without a priority: in a program linked statically, the unwinder learns where its tables are from a constructor
 * that has none either, and comes first; before that, it ends the process when it is asked for a stack trace. */
__attribute__((constructor)) static void construct_late(void)
{
    if (ap__options.hardened != 0 || ap__sampled_is_on()) {
        ap__hardened_watch();
    }
}
