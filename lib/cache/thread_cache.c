/* SPDX-License-Identifier: MIT */
/*
 * thread_cache.c: refill, overflow, and the visits that give unused blocks back.
 *
 * Slow start: a list begins with one cache line of addresses and doubles: up to a batch when it
 * runs empty, up to its bound when it overflows (only then is holding more of use; list_capacity.c). The first
 * refill brings half a kilobyte of blocks, each later one twice as many, up to a batch; an overflow
 * of a list at its bound gives the older half back and keeps the newer, which is what the processor's
 * cache still has.
 *
 * A list that only grows goes beyond: as long as nothing comes back, and nothing comes from other threads,
 * a refill brings an eighth of what the list has had so far as well, up to 32 KiB. So locks weigh less where
 * a heap grows large, and small ones stay small. Blocks that come and go stay at a batch: more would be cold.
 *
 * Visits: every VISIT_EVENTS slow events all lists are looked at (see the fold in free_list.h); blocks
 * that lay unused since the last visit go back, and so does their capacity. What a fold hides, others may
 * take meanwhile (idle.h); so it follows the top: a list is `full` for the hit path when enough has
 * come on top of the fold, although its capacity may not be used up; at once if the fold hides all.
 *
 * Cost: a refill or flush is one lock, two when the transfer cache has nothing or no room.
 */
#include "cache/thread_cache.h"

#include <string.h>

#include "base/counter.h"
#include "cache/cache_limits.h"
#include "cache/fine_classes.h"
#include "cache/fold.h"
#include "cache/idle.h"
#include "cache/list_capacity.h"
#include "central/central_free_list.h"
#include "central/transfer_cache.h"
#include "decay/decay.h"
#include "heap/page_heap.h"
#include "os/bell.h"
#include "os/check.h"
#include "os/os.h"
#include "os/yield.h"
#include "pack/pack.h"

enum {
    STREAK_DIVISOR = 8, /* 4: as many instructions; no such bound: 1.6 % more memory */
    STREAK_COUNTED = AP_STREAK_MAX * STREAK_DIVISOR,
    VISIT_EVENTS = 128,
    POLL_EVENTS = 16,
    FOLD_WHOLE_SIZE = 1024, /* bytes from which a visit gives back a whole list that was not used */
    IN_SIGHT_BYTES = 2048,  /* of the newest blocks, what a fold leaves to the hit path, and */
    ABOVE_BYTES = 16384,    /* what may come on top of them before it is made anew, */
    ABOVE_BLOCKS = 4,       /* but so many at least: to swing by a few big blocks is common */
    IN_SIGHT_SIZE_MAX = 2048, /* bytes of a block, beyond which a fold leaves none */
    /* Bytes to which blocks pass through the transfer cache. Beyond, one block left there would pin a
     * span of hundreds of KiB, and locks are nothing beside the use of such a block. */
    TRANSFER_SIZE_MAX = 8192,
};

void ap__thread_cache_count_flush(struct ap__thread_cache *cache, unsigned blocks)
{
    ap__counter_add(&cache->flushes, 1);
    ap__counter_add(&cache->blocks_out, blocks);
}

void ap__thread_cache_init(struct ap__thread_cache *cache)
{
    for (unsigned c = 0; c < AP_CLASS_COUNT; c++) {
        ap__free_list_set_top(&cache->lists[c], &ap__free_list_none);
        cache->lists[c].full = &ap__free_list_none;
        AP__YIELD_POINT();
    }
}

/* ------------------------------------------------------------ the fold */

/* A signal handler that allocates in the middle of a hit path leaves a list whose top was read before and is stored
 * after: the hit path cannot see that, and here it would be written beyond the array. */
static inline void check_list(const struct ap__thread_cache *cache, unsigned size_class)
{
    const struct ap__free_list_info *info = &cache->infos[size_class];
    /* One comparison for both ends: below the fold the difference is huge. */
    if (AP_UNLIKELY(ap__free_list_bottom(info) != NULL &&
                    ap__thread_cache_used(cache, size_class) - ap__fold_hidden(info) >
                        info->room)) {
        ap__cache_damaged();
    }
}

static void unfold(struct ap__thread_cache *cache, unsigned size_class)
{
    check_list(cache, size_class);
    ap__unfold(&cache->lists[size_class], &cache->infos[size_class]);
}

/* Blocks that may come and go between two changes of a fold. */
static size_t above_of(const struct ap__size_class *class)
{
    return ap__max(ap__slot_of_offset(class, ABOVE_BYTES), ABOVE_BLOCKS);
}

/* A list whose capacity is not used up is `full` when `above` more blocks have come: then the fold should be higher. */
static inline void set_full(struct ap__free_list *list, const struct ap__free_list_info *info,
                            size_t above)
{
    ap__slot *bottom = ap__free_list_bottom(info);
    size_t used = (size_t)(ap__free_list_top(list) - bottom);
    list->full = bottom + ap__min(used + above, info->capacity);
}

/* Whether the list can take a block as soon as it is put in order. Only a hint if others may take blocks. */
static bool has_room(const struct ap__thread_cache *cache, unsigned size_class)
{
    const struct ap__free_list_info *info = &cache->infos[size_class];
    return info->capacity != 0 &&
           (ap__thread_cache_used(cache, size_class) < info->capacity || ap__fold_gone(info) != 0);
}

/* Hides blocks of an unfolded list, `unused` of which a visit gives back if they are still hidden then. */
static void hide(struct ap__free_list_info *info, size_t hidden, size_t unused)
{
    info->unused = (uint16_t)unused;
    if (hidden != 0) {
        ap__fold(info, hidden, ap__central_epoch());
    }
}

/* Blocks that a fold leaves in sight; none that is more than may be. */
static size_t in_sight_of(const struct ap__size_class *class)
{
    return class->size > IN_SIGHT_SIZE_MAX ? 0 : ap__slot_of_offset(class, IN_SIGHT_BYTES) + 1;
}

/* Hides all blocks of an unfolded list but the newest, and `unused` at least. A list that hides all it has is
 * full: so the next free is a slow one, and compares with the block that was freed last. */
static void fold(struct ap__thread_cache *cache, unsigned size_class, size_t unused)
{
    struct ap__free_list_info *info = &cache->infos[size_class];
    const struct ap__size_class *class = &ap__size_class[size_class];
    size_t used = ap__thread_cache_used(cache, size_class);
    size_t hidden = used - ap__min(used, in_sight_of(class));
    hide(info, ap__max(hidden, unused), unused);
    bool hides_all = used != 0 && ap__fold_hidden(info) == used;
    set_full(&cache->lists[size_class], info, hides_all ? 0 : above_of(class));
}

/* Others may find blocks to take, later. */
static void note_blocks(struct ap__thread_cache *cache)
{
    atomic_store_explicit(&cache->has_blocks, true, memory_order_relaxed);
    ap__bell_ring(&ap__heap_bell);
}

/* When a pop has come to the fold: as many blocks as may come on top of it, but not beyond what a visit would give
 * back: when a pop comes there, that has been of use. */
static void fold_lower(struct ap__thread_cache *cache, unsigned size_class)
{
    struct ap__free_list *list = &cache->lists[size_class];
    struct ap__free_list_info *info = &cache->infos[size_class];
    const struct ap__size_class *class = &ap__size_class[size_class];
    size_t unused = ap__fold_unused(info);
    ap__unfold(list, info);
    size_t used = ap__thread_cache_used(cache, size_class);
    size_t hidden = used - ap__min(used, above_of(class));
    unused = used > unused ? unused : 0;
    hide(info, ap__max(hidden, unused), unused);
    set_full(list, info, above_of(class));
}

/* ------------------------------------------------------------ down and up */

/* Whether other threads are likely to want what a list gives back sooner than its own thread. One thread alone has
 * nobody to pass blocks to. Where the class is spread, who also allocates finds its blocks in the spans of its own
 * shard again, together; who only frees gives to others. */
static bool is_for_others(const struct ap__thread_cache *cache, unsigned size_class)
{
    return ap__pack_is_recycled(size_class) ||
           (ap__size_class[size_class].size <= TRANSFER_SIZE_MAX && ap__central_is_shared() &&
            (cache->infos[size_class].refill == 0 || !ap__central_is_spread(size_class)));
}

/* Gives blocks back: what other threads are likely to want soon stays within their reach. */
static void give_back(struct ap__thread_cache *cache, unsigned size_class, void *const *blocks,
                      unsigned count, const char *function)
{
    unsigned kept = 0;
    if (is_for_others(cache, size_class)) {
        kept = (unsigned)ap__min(ap__transfer_room(size_class), count);
    }
    if (kept != 0) {
        ap__pack_check_kept(size_class, blocks, kept, function);
        kept = ap__transfer_give(size_class, blocks, kept);
    }
    AP__YIELD_POINT();
    if (kept < count) {
        ap__pack_give_kept(size_class, blocks + kept, count - kept, function);
    }
    ap__thread_cache_count_flush(cache, count);
}

/* Takes the oldest `count` blocks off an unfolded list and gives them back. */
static void flush_oldest(struct ap__thread_cache *cache, unsigned size_class, size_t count,
                         const char *function)
{
    struct ap__free_list *list = &cache->lists[size_class];
    ap__slot *bottom = ap__free_list_bottom(&cache->infos[size_class]);
    size_t used = (size_t)(ap__free_list_top(list) - bottom);
    for (size_t done = 0; done < count;) {
        size_t n = ap__min(AP_STREAK_MAX, count - done);
        /* The words of the list as they lie: their owner is here, and nobody else changes them. */
        give_back(cache, size_class, (void *const *)(const void *)&bottom[1 + done], (unsigned)n,
                  function);
        done += n;
    }
    memmove(bottom + 1, bottom + 1 + count, (used - count) * sizeof *bottom);
    ap__free_list_set_top(list, bottom + used - count);
}

/* What lay under the fold since the last visit goes back, and half of the rest is hidden, or all if the
 * blocks are big. */
static void visit(struct ap__thread_cache *cache, unsigned size_class)
{
    struct ap__free_list_info *info = &cache->infos[size_class];
    if (ap__free_list_bottom(info) == NULL) {
        return;
    }
    unsigned left = ap__fold_unused(info);
    unsigned unused = left + ap__fold_gone(info);
    unfold(cache, size_class);
    if (left != 0) {
        flush_oldest(cache, size_class, left, "free");
    }
    if (unused != 0) {
        unsigned least = ap__cache_limits_initial_capacity(size_class);
        unsigned capacity = (unsigned)ap__max(info->capacity - unused, 1);
        capacity = (unsigned)ap__min(ap__max(capacity, least), info->capacity);
        ap__list_lower_capacity(cache, size_class, capacity);
    }
    size_t used = ap__thread_cache_used(cache, size_class);
    if ((used | unused) != 0) {
        bool is_big = ap__size_class[size_class].size > FOLD_WHOLE_SIZE;
        fold(cache, size_class, is_big ? used : used / 2);
    }
}

/* Before the work on the cache begins: a step may call the program's function, which may allocate and
 * free, so that the cache afterwards is not what it was. */
static void poll_now_and_then(const struct ap__thread_cache *cache)
{
    if (cache->slow_events % POLL_EVENTS == 0) {
        ap__decay_poll();
    }
}

static void note_slow_event(struct ap__thread_cache *cache)
{
    if (++cache->slow_events < VISIT_EVENTS) {
        return;
    }
    cache->slow_events = 0;
    cache->is_trimmed = false;
    size_t worth = ap__fine_classes_worth();
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        if (cache->infos[c].fitting != 0) {
            ap__fine_classes_consider(c, cache->infos[c].fitting, worth);
        }
        visit(cache, c);
    }
    note_blocks(cache);
}

/* Of a list that has room. */
static void put_on_top(struct ap__thread_cache *cache, unsigned size_class, void *p)
{
    struct ap__free_list *list = &cache->lists[size_class];
    unsigned unused = ap__fold_unused(&cache->infos[size_class]);
    unfold(cache, size_class);
    AP_ASSERT(ap__thread_cache_used(cache, size_class) < cache->infos[size_class].capacity);
    ap__slot *top = ap__free_list_top(list);
    ap__slot_store(top + 1, p);
    ap__free_list_set_top(list, top + 1);
    fold(cache, size_class, unused);
    note_blocks(cache);
}

/*
 * A thread's first blocks of a class lie on lines of their own, also where it begins by freeing what
 * another has given it: else both would go on writing to one line (Hoard's "passive false sharing").
 */
static unsigned fetch_lines(unsigned size_class, void **blocks, unsigned count)
{
    bool can_share_a_line = ap__size_class[size_class].size < AP_CACHE_LINE;
    return can_share_a_line ? ap__central_take_lines(size_class, blocks, count) : 0;
}

/* Blocks from below, the best one to be handed out last. */
static unsigned fetch(unsigned size_class, void **blocks, unsigned count, bool is_first,
                      bool *has_travelled)
{
    unsigned got = is_first ? fetch_lines(size_class, blocks, count) : 0;
    *has_travelled = false;
    if (got == 0) {
        got = ap__transfer_take(size_class, blocks, count);
        *has_travelled = got != 0;
    }
    return got != 0 ? got : ap__central_take(size_class, blocks, count);
}

/* What a refill may bring: a batch, and an eighth of what the list has had since it gave back any. */
static size_t most_to_bring(const struct ap__free_list_info *info, unsigned size_class)
{
    size_t batch = ap__size_class[size_class].batch;
    return ap__min(batch + info->streak / STREAK_DIVISOR, ap__cache_limits_refill_max(size_class));
}

/* How many blocks to ask for: twice as many as last time, within the bounds, and what the list can hold. */
static unsigned next_refill(struct ap__thread_cache *cache, unsigned size_class)
{
    struct ap__free_list_info *info = &cache->infos[size_class];
    size_t most = most_to_bring(info, size_class);
    size_t wanted = info->refill == 0 ? ap__cache_limits_initial_refill(size_class)
                                      : ap__min((size_t)2 * info->refill + 1, most);
    if (wanted > info->capacity) {
        (void)ap__list_grow(cache, size_class, (unsigned)wanted);
    }
    info->refill = (uint16_t)wanted;
    return (unsigned)ap__min(wanted, ap__max(info->capacity, 1));
}

/* The next refill brings a batch again: this list is one of those through which blocks come and go. */
static void end_streak(struct ap__free_list_info *info, unsigned size_class)
{
    info->refill = (uint16_t)ap__min(info->refill, ap__size_class[size_class].batch / 2u);
    info->streak = 0;
}

static void begin_work(struct ap__thread_cache *cache)
{
    if (AP_UNLIKELY(cache->at_work)) {
        ap__reentered();
    }
    cache->at_work = true;
    ap__thread_cache_claim(cache);
}

static void end_work(struct ap__thread_cache *cache)
{
    ap__thread_cache_unclaim(cache);
    cache->at_work = false;
}

static void *refill_from_below(struct ap__thread_cache *cache, unsigned size_class)
{
    struct ap__free_list *list = &cache->lists[size_class];
    struct ap__free_list_info *info = &cache->infos[size_class];
    bool is_first = info->refill == 0;
    bool has_travelled;
    void *only;
    unsigned wanted = next_refill(cache, size_class);
    ap__slot *top = ap__free_list_top(list);
    /* Straight into the list, whose words nobody looks at above its top. */
    void **blocks = info->capacity != 0 ? (void **)(void *)(top + 1) : &only;
    unsigned got = fetch(size_class, blocks, wanted, is_first, &has_travelled);
    if (got == 0) {
        return NULL;
    }
    ap__counter_add(&cache->refills, 1);
    ap__counter_add(&cache->blocks_in, got);
    info->streak = (uint16_t)ap__min(info->streak + got, STREAK_COUNTED);
    if (has_travelled) {
        end_streak(info, size_class);
    }
    if (info->capacity != 0) {
        ap__free_list_set_top(list, top + got - 1);
        set_full(list, info, above_of(&ap__size_class[size_class]));
        note_blocks(cache);
    }
    return blocks[got - 1];
}

static void *refill(struct ap__thread_cache *cache, unsigned size_class)
{
    check_list(cache, size_class);
    if (ap__fold_hidden(&cache->infos[size_class]) != 0) {
        fold_lower(cache, size_class);
    }
    void *p = ap__free_list_pop(&cache->lists[size_class]);
    if (p != NULL) {
        return p;
    }
    note_slow_event(cache);
    return refill_from_below(cache, size_class);
}

void *ap__thread_cache_refill(struct ap__thread_cache *cache, unsigned size_class)
{
    poll_now_and_then(cache);
    begin_work(cache);
    void *p = refill(cache, size_class);
    end_work(cache);
    return p;
}

/* Exchanges the block that would be taken with any other in sight. */
static void shuffle(struct ap__thread_cache *cache, unsigned size_class)
{
    struct ap__free_list_info *info = &cache->infos[size_class];
    ap__slot *top = ap__free_list_top(&cache->lists[size_class]);
    size_t visible = ap__free_list_bottom(info) == NULL
                         ? 0
                         : (size_t)(top - ap__free_list_bottom(info)) - ap__fold_hidden(info);
    if (visible > 1) {
        if (cache->random == 0) {
            cache->random = ap__os_seed() | 1;
        }
        cache->random = cache->random * UINT64_C(6364136223846793005) + 1442695040888963407;
        ap__slot *other = top - (cache->random >> 33) % visible;
        void *block = ap__slot_load(top);
        ap__slot_store(top, ap__slot_load(other));
        ap__slot_store(other, block);
    }
}

void *ap__thread_cache_take_any(struct ap__thread_cache *cache, unsigned size_class)
{
    begin_work(cache);
    shuffle(cache, size_class);
    void *p = ap__free_list_pop(&cache->lists[size_class]);
    end_work(cache);
    return p != NULL ? p : ap__thread_cache_refill(cache, size_class);
}

/* A thread that only frees has no use for more blocks than it gives back at a time. */
static unsigned most_useful(const struct ap__free_list_info *info, unsigned size_class)
{
    return info->refill == 0 ? ap__size_class[size_class].batch
                             : ap__cache_limits_capacity_max(size_class);
}

static unsigned count_to_flush(const struct ap__free_list_info *info)
{
    return info->refill == 0 ? info->capacity : (info->capacity + 1u) / 2;
}

static void overflow(struct ap__thread_cache *cache, unsigned size_class, void *p,
                     const char *function)
{
    struct ap__free_list_info *info = &cache->infos[size_class];
    check_list(cache, size_class);
    note_slow_event(cache);
    end_streak(info, size_class);
    if (!has_room(cache, size_class) &&
        !ap__list_grow(cache, size_class, most_useful(info, size_class))) {
        if (info->capacity == 0) {
            give_back(cache, size_class, &p, 1, function);
            return;
        }
        unfold(cache, size_class);
        flush_oldest(cache, size_class, count_to_flush(info), function);
    }
    put_on_top(cache, size_class, p);
}

void ap__thread_cache_overflow(struct ap__thread_cache *cache, unsigned size_class, void *p,
                               const char *function)
{
    bool is_easy = has_room(cache, size_class);
    if (!is_easy) {
        poll_now_and_then(cache);
    }
    begin_work(cache);
    if (is_easy) {
        put_on_top(cache, size_class, p);
    } else {
        overflow(cache, size_class, p, function);
    }
    end_work(cache);
}

void ap__thread_cache_empty(struct ap__thread_cache *cache)
{
    begin_work(cache);
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        struct ap__free_list_info *info = &cache->infos[c];
        if (ap__free_list_bottom(info) == NULL) {
            continue;
        }
        unfold(cache, c);
        flush_oldest(cache, c, ap__thread_cache_used(cache, c), "free");
        info->refill = 0;
        info->streak = 0;
        info->fitting = 0;
        ap__list_drop(cache, c);
    }
    ap__list_release_grants(cache);
    end_work(cache);
}

/* From the bottom to the top, whatever lies there. */
static size_t count_words(const struct ap__thread_cache *cache, unsigned size_class)
{
    const ap__slot *bottom = ap__free_list_bottom(&cache->infos[size_class]);
    AP__YIELD_POINT();
    const ap__slot *top = ap__free_list_top(&cache->lists[size_class]);
    /* While the owner changes arrays the two may not belong together. */
    bool together = bottom != NULL && top >= bottom && top - bottom <= UINT16_MAX;
    return together ? (size_t)(top - bottom) : 0;
}

size_t ap__thread_cache_count(const struct ap__thread_cache *cache, unsigned size_class)
{
    size_t words = count_words(cache, size_class);
    size_t gone = ap__fold_gone(&cache->infos[size_class]);
    return words > gone ? words - gone : 0;
}

bool ap__thread_cache_holds(const struct ap__thread_cache *cache, unsigned size_class,
                            const void *p)
{
    const ap__slot *bottom = ap__free_list_bottom(&cache->infos[size_class]);
    size_t count = count_words(cache, size_class);
    for (size_t i = 0; bottom != NULL && i <= count; i++) {
        if (ap__slot_load(&bottom[i]) == p) {
            return true;
        }
    }
    return false;
}
