/* SPDX-License-Identifier: MIT */
/*
 * shards.c: which shard a thread claims from, and how spans come to it and leave.
 *
 * When a class is spread: from one shard to two, four and so on, each time that it has SPREAD_SPANS spans in use for
 * each shard it then has, so that a begun span in each costs an eighth of the class at most; for good. Only blocks
 * several of which share a page: bigger ones are not mixed, and their spans are long. Where there has never been a
 * second thread nothing is spread.
 *
 * A thread's shard is its number, modulo how many there are. Refused: by processors. Threads that share one mix their
 * blocks, and those that move leave them behind: eight threads on two processors waited longer for their own blocks'
 * lines, a tenth of all time.
 *
 * Taken over is the second span of another shard, never the only one: its owner is about to claim from that, and would
 * take it back. When there is no memory for a new one, any.
 */
#include "central/shards.h"

#include "base/counter.h"
#include "central/central_free_list.h"
#include "central/slot_map.h"
#include "meta/meta.h"
#include "os/yield.h"

enum {
    SPREAD_SPANS = 4,
    SPREAD_SIZE_MAX = 2048, /* bytes of a block */
};

#define SHARDS_OF_RANK(rank)                                                                       \
    {                                                                                              \
        [0 ... AP_CLASS_COUNT - 1] = {.lock = AP_LOCK_INIT(rank) }                                 \
    }
struct ap__shard ap__shards[AP_CENTRAL_SHARDS_MAX][AP_CLASS_COUNT] = {
    SHARDS_OF_RANK(AP__RANK_CENTRAL + 0), SHARDS_OF_RANK(AP__RANK_CENTRAL + 1),
    SHARDS_OF_RANK(AP__RANK_CENTRAL + 2), SHARDS_OF_RANK(AP__RANK_CENTRAL + 3),
    SHARDS_OF_RANK(AP__RANK_CENTRAL + 4), SHARDS_OF_RANK(AP__RANK_CENTRAL + 5),
    SHARDS_OF_RANK(AP__RANK_CENTRAL + 6), SHARDS_OF_RANK(AP__RANK_CENTRAL + 7),
};

/* How many a class may get. Set by init, constant afterwards. */
static unsigned shards_most = 1;

/* relaxed, both: who sees it late claims from the shard that was its own, and gives to the central free list, as
 * before. */
static _Atomic(bool) is_shared;
/* How many shards a class has beyond the first. Grows, with the lock of any that it has. */
static _Atomic(uint8_t) more_shards[AP_CLASS_COUNT];

static AP_TLS unsigned thread_number;

/* relaxed, all: a span more or less, or a claim that is tried in vain, does no harm. */
static _Atomic(size_t) bound_below_max[AP_CLASS_COUNT]; /* SIZE_MAX - bytes: 0 is no bound */
static _Atomic(size_t) lifted_granules[AP_CLASS_COUNT]; /* 0: the bound is in force */
_Atomic(bool) ap__class_at_bound[AP_CLASS_COUNT];

void ap__shards_init(unsigned count)
{
    count = count != 0 ? count : AP_CENTRAL_SHARDS_MAX;
    /* The environment may be read a second time; a class that has been spread stays as it is. */
    if (!ap__central_is_shared()) {
        shards_most = (unsigned)ap__min(count, AP_CENTRAL_SHARDS_MAX);
    }
}

void ap__central_set_thread(unsigned number)
{
    thread_number = number;
}

void ap__central_share(void)
{
    atomic_store_explicit(&is_shared, true, memory_order_relaxed);
}

bool ap__central_is_shared(void)
{
    return atomic_load_explicit(&is_shared, memory_order_relaxed);
}

unsigned ap__shards_of(unsigned size_class)
{
    return ap__size_class[size_class].size <= SPREAD_SIZE_MAX ? shards_most : 1;
}

static unsigned number_of(const struct ap__shard *shard)
{
    return (unsigned)((size_t)(shard - ap__shards[0]) / AP_CLASS_COUNT);
}

unsigned ap__central_shards(unsigned size_class)
{
    return 1u + atomic_load_explicit(&more_shards[size_class], memory_order_relaxed);
}

bool ap__central_is_spread(unsigned size_class)
{
    return ap__central_shards(size_class) != 1;
}

struct ap__shard *ap__shard_mine(unsigned size_class)
{
    return ap__shard_at(thread_number % ap__central_shards(size_class), size_class);
}

AP_NOINLINE struct ap__span *ap__span_of_class_outside(unsigned size_class, const void *p)
{
    struct ap__span *span = ap__page_heap_span_of((uintptr_t)p);
    bool is_of_class =
        span != NULL && span->state == AP__SPAN_SMALL && span->size_class == size_class;
    return is_of_class ? span : NULL;
}

/* ------------------------------------------------------------ spans come and go */

static size_t bitmap_bytes(unsigned slots)
{
    return ap__slot_map_words(slots) * sizeof(uint64_t);
}

/* How many shards the class should have, now that it is to get one more span. */
static unsigned shards_wanted(unsigned size_class)
{
    unsigned count = ap__central_shards(size_class);
    unsigned next = (unsigned)ap__min(2 * count, ap__shards_of(size_class));
    size_t slots = ap__size_class[size_class].slots;
    bool is_large = ap__central_claimed(size_class) + slots >= SPREAD_SPANS * next * slots;
    return is_large && ap__central_is_shared() ? next : count;
}

/* Takes no other lock, so a new span is claimed from at once: if the shard's lock were free in between, it might lie
 * there without a live block where one has come back meanwhile. In the fork window, where a thread passes through its
 * own locks, the locks that it has stay all there are. */
static void spread_locked(const struct ap__shard *shard, unsigned size_class)
{
    unsigned wanted = shards_wanted(size_class);
    uint8_t more = (uint8_t)(ap__central_shards(size_class) - 1);
    if (AP_UNLIKELY(wanted > more + 1u) && shard->lock.recursion == 0) {
        /* relaxed: who needs to know has taken the shard's lock since. Fails where a thread with the lock of another
         * one was sooner: never fewer. */
        (void)atomic_compare_exchange_strong_explicit(&more_shards[size_class], &more,
                                                      (uint8_t)(wanted - 1), memory_order_relaxed,
                                                      memory_order_relaxed);
    }
}

/* Whether nothing of the span can be resident yet. */
static bool is_clean(const struct ap__span *span)
{
    return !span->outside &&
           ap__region_count_dirty(ap__region_granule_of(span->start), span->granules) == 0;
}

/* From now on the span, which is on no list, belongs to the shard. */
static void enter_span_locked(struct ap__shard *shard, struct ap__span *span)
{
    unsigned slots = ap__size_class[span->size_class].slots;
    shard->lists.members++;
    ap__counter_add(&shard->claimed, slots - span->slots.free_slots);
    ap__span_lists_insert(&shard->lists, span);
    /* relaxed: read without a lock as a hint only; see ap__shard_enter(). */
    atomic_store_explicit(&span->shard, ap__shard_name(number_of(shard), span->size_class),
                          memory_order_relaxed);
}

/* The reverse, of a span that is on a list; but it goes on naming the shard: a thread that frees one of its blocks must
 * find a lock to take at any time. */
static void leave_span_locked(struct ap__shard *shard, struct ap__span *span)
{
    unsigned slots = ap__size_class[span->size_class].slots;
    shard->lists.members--;
    ap__counter_add(&shard->claimed, (uint64_t)0 - (slots - span->slots.free_slots));
    ap__span_lists_remove(&shard->lists, span);
}

void ap__central_set_bound(unsigned size_class, size_t bytes)
{
    atomic_store_explicit(&bound_below_max[size_class], SIZE_MAX - bytes, memory_order_relaxed);
    atomic_store_explicit(&lifted_granules[size_class], 0, memory_order_relaxed);
    atomic_store_explicit(&ap__class_at_bound[size_class], false, memory_order_relaxed);
}

void ap__central_lift_bound(unsigned size_class, size_t granules)
{
    atomic_store_explicit(&lifted_granules[size_class], granules, memory_order_relaxed);
    atomic_store_explicit(&ap__class_at_bound[size_class], false, memory_order_relaxed);
}

bool ap__central_is_bound_lifted(unsigned size_class)
{
    return atomic_load_explicit(&lifted_granules[size_class], memory_order_relaxed) != 0;
}

size_t ap__central_bound(unsigned size_class)
{
    return SIZE_MAX - atomic_load_explicit(&bound_below_max[size_class], memory_order_relaxed);
}

bool ap__central_is_at_bound(unsigned size_class)
{
    return atomic_load_explicit(&ap__class_at_bound[size_class], memory_order_relaxed);
}

/* Whether the bound is lifted still: until there is room for what there was none for. */
static bool stays_lifted(unsigned size_class)
{
    size_t granules = atomic_load_explicit(&lifted_granules[size_class], memory_order_relaxed);
    if (granules != 0 && ap__page_heap_has_room(granules)) {
        atomic_store_explicit(&lifted_granules[size_class], 0, memory_order_relaxed);
        return false;
    }
    return granules != 0;
}

/* Whether the class has all the spans that its bound allows: those that would hold its blocks, in whatever shards. */
static bool is_at_bound(unsigned size_class)
{
    const struct ap__size_class *info = &ap__size_class[size_class];
    size_t spans = (ap__central_claimed(size_class) + info->slots - 1) / info->slots;
    return spans * info->span_granules * AP_GRANULE >= ap__central_bound(size_class) &&
           !stays_lifted(size_class);
}

static bool add_span_locked(struct ap__shard *shard, unsigned size_class)
{
    const struct ap__size_class *info = &ap__size_class[size_class];
    uint64_t *bitmap = ap__meta_take(bitmap_bytes(info->slots));
    if (bitmap == NULL) {
        return false;
    }
    struct ap__span *span = ap__page_heap_take(info->span_granules, AP_GRANULE, size_class);
    if (span == NULL) {
        ap__meta_give(bitmap, bitmap_bytes(info->slots));
        return false;
    }
    span->slots.bitmap = bitmap;
    span->slots.fresh = 0;
    span->slots.is_purged = is_clean(span);
    span->slots.claim_epoch = ap__central_epoch();
    ap__slot_map_fill(span, info->slots);
    enter_span_locked(shard, span);
    return true;
}

static bool add_span_within_bound_locked(struct ap__shard *shard, unsigned size_class)
{
    if (AP_UNLIKELY(is_at_bound(size_class))) {
        atomic_store_explicit(&ap__class_at_bound[size_class], true, memory_order_relaxed);
        return false;
    }
    spread_locked(shard, size_class);
    return add_span_locked(shard, size_class);
}

/* Takes the lock of the thread's shard: that which is its own after the class has been spread. From another's it would
 * not claim the span that it adds, as long as it may have a new one. */
static struct ap__shard *enter_mine_to_add(unsigned size_class)
{
    for (;;) {
        struct ap__shard *shard = ap__shard_mine(size_class);
        ap__lock_take(&shard->lock);
        spread_locked(shard, size_class);
        if (AP_LIKELY(shard == ap__shard_mine(size_class))) {
            return shard;
        }
        ap__lock_release(&shard->lock);
    }
}

bool ap__central_add_span(unsigned size_class)
{
    struct ap__shard *shard = enter_mine_to_add(size_class);
    /* Where a block has come back meanwhile, that is claimed first: the span might never be. */
    bool added = shard->lists.occupied != 0 || add_span_locked(shard, size_class);
    if (added) {
        ap__shard_leave_bound(size_class);
    }
    ap__lock_release(&shard->lock);
    return added;
}

void ap__shard_remove_span_locked(struct ap__shard *shard, struct ap__span *span)
{
    uint64_t *bitmap = span->slots.bitmap;
    unsigned slots = ap__size_class[span->size_class].slots;
    leave_span_locked(shard, span);
    /* Nobody has a block of it. */
    atomic_store_explicit(&span->shard, 0, memory_order_relaxed);
    ap__page_heap_give(span);
    ap__meta_give(bitmap, bitmap_bytes(slots));
}

/* ------------------------------------------------------------ from one shard to another */

/* `true`: the shard has a span now; also because blocks of its own have come back, while its lock was free. */
static bool take_over_from_locked(struct ap__shard *shard, struct ap__shard *other, bool the_only)
{
    ap__lock_take_second(&shard->lock, &other->lock);
    if (shard->lists.occupied == 0) {
        struct ap__span *span = ap__span_lists_second(&other->lists);
        if (span == NULL && the_only) {
            span = ap__span_lists_first(&other->lists);
        }
        if (span != NULL) {
            leave_span_locked(other, span);
            enter_span_locked(shard, span);
        }
    }
    ap__lock_release(&other->lock);
    return shard->lists.occupied != 0;
}

/* `the_only`: also that which another shard claims from. */
static bool take_over_locked(struct ap__shard *shard, unsigned size_class, bool the_only)
{
    for (unsigned number = 0; number < ap__central_shards(size_class); number++) {
        struct ap__shard *other = ap__shard_at(number, size_class);
        bool is_worth_a_look =
            the_only || atomic_load_explicit(&other->lists.has_spare, memory_order_relaxed);
        if (other != shard && is_worth_a_look && take_over_from_locked(shard, other, the_only)) {
            return true;
        }
    }
    return false;
}

bool ap__shard_find_span_locked(struct ap__shard *shard, unsigned size_class)
{
    return take_over_locked(shard, size_class, false) ||
           add_span_within_bound_locked(shard, size_class) ||
           take_over_locked(shard, size_class, true);
}
