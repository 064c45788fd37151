/* SPDX-License-Identifier: MIT */
/*
 * central_free_list.c: claims of slots and their release, of the spans of one class.
 *
 * Blocks are taken from the fullest spans, so that sparse ones drain and can go back to the page heap. A drained span goes
 * back at once: threads' lists keep what a program that frees and allocates around a span's boundary needs. Refused:
 * one drained span kept for each class; no fewer instructions, and a tenth more memory where sizes shift.
 *
 * Cost: one lock a batch; where a class is spread (shards.h), one for each run of blocks that are of another shard than
 * those before. A block costs a bit scan on the way out, two multiplications on the way in; less where blocks lie side by
 * side.
 */
#include "central/central_free_list.h"

#include <string.h>

#include "base/counter.h"
#include "central/own_lines.h"
#include "central/shards.h"
#include "central/span_lists.h"
#include "guard/misuse.h"
#include "heap/huge_pages.h"
#include "heap/region.h"
#include "os/bell.h"
#include "os/os.h"

enum {
    BLOCKS_BETWEEN_LOOKS = 16, /* so that looking for runs costs little where there are none */
    POPULATE_SPANS_MIN = 8,    /* so that a class holds at most an eighth more than it uses */
};

/* Set by init, constant afterwards. */
static bool populates;

void ap__central_init(bool populate, unsigned shards)
{
    populates = populate;
    ap__shards_init(shards);
}

struct ap__lock *ap__central_lock(unsigned shard, unsigned size_class)
{
    return &ap__shard_at(shard, size_class)->lock;
}

size_t ap__central_claimed(unsigned size_class)
{
    unsigned count = ap__central_shards(size_class);
    size_t claimed = 0;
    /* Blocks of a span that is taken over meanwhile are seen twice, or not at all. */
    for (unsigned shard = 0; shard < count; shard++) {
        claimed +=
            atomic_load_explicit(&ap__shard_at(shard, size_class)->claimed, memory_order_relaxed);
    }
    return claimed;
}

/*
 * A fault a page is most of what a growing heap pays. A class that has many spans will fill this one too: one call brings
 * the pages of a granule when the first block of it is handed out. Not those of a whole span, which may have
 * sixteen: it may be long until the last is reached.
 */
static bool is_worth_populating(const struct ap__shard *shard, const struct ap__span *span)
{
    return populates && span->slots.is_purged &&
           ap__size_class[span->size_class].size <= AP__POPULATE_SIZE_MAX &&
           (shard->lists.members >= POPULATE_SPANS_MIN ||
            ap__central_is_spread(span->size_class)) &&
           !ap__huge_pages_expected(span->start);
}

/* Free pages of it may be resident from now on: it belongs to the head of its list. */
static void become_unpurged_locked(struct ap__shard *shard, struct ap__span *span)
{
    if (span->slots.is_purged) {
        span->slots.is_purged = false;
        if (span->slots.bucket != AP_SPAN_AWAY) {
            ap__span_lists_move(&shard->lists, span);
        }
    }
}

/* Memory that is about to be used for the first time, and is to be populated. */
struct fresh_memory {
    uintptr_t start;
    size_t bytes; /* 0: none */
};

/* The blocks of a span up to `end` have been claimed. */
static void note_fresh_locked(struct ap__shard *shard, struct ap__span *span, uintptr_t end,
                              struct fresh_memory *fresh)
{
    size_t from = span->slots.fresh;
    size_t to = (end - span->start + AP_GRANULE - 1) / AP_GRANULE;
    if (from == 0 && !is_worth_populating(shard, span)) {
        to = span->granules;
    } else if (to > from) {
        become_unpurged_locked(shard, span);
        *fresh = (struct fresh_memory){span->start + from * AP_GRANULE, (to - from) * AP_GRANULE};
    }
    span->slots.fresh = (uint8_t)ap__max(from, to);
}

/* `count` blocks of the span have been claimed. */
static void note_claimed_locked(struct ap__shard *shard, struct ap__span *span, unsigned count)
{
    span->slots.claim_epoch = ap__central_epoch();
    ap__counter_add(&shard->claimed, count);
    ap__span_lists_relist(&shard->lists, span);
}

unsigned ap__central_take(unsigned size_class, void **blocks, unsigned count)
{
    struct fresh_memory fresh = {0, 0};
    void **end = blocks + count;
    struct ap__shard *shard = ap__shard_mine(size_class);
    const struct ap__size_class *info = &ap__size_class[size_class];
    unsigned got = 0;
    ap__lock_take(&shard->lock);
    while (got < count) {
        struct ap__span *span = ap__span_lists_first(&shard->lists);
        if (AP_UNLIKELY(span == NULL)) {
            if (!ap__shard_find_span_locked(shard, size_class)) {
                break;
            }
            continue;
        }
        unsigned claimed = ap__slot_map_claim(span, info->size, end - got, count - got);
        got += claimed;
        if (AP_UNLIKELY(span->slots.fresh < info->span_granules)) {
            void *highest = *(end - got);
            note_fresh_locked(shard, span, (uintptr_t)highest + info->size, &fresh);
        }
        note_claimed_locked(shard, span, claimed);
    }
    ap__lock_release(&shard->lock);
    /* Without the lock; some of the blocks there are ours, so the span stays. */
    if (fresh.bytes != 0) {
        (void)ap__os_populate((void *)fresh.start, fresh.bytes);
    }
    if (AP_UNLIKELY(got < count)) {
        memmove(blocks, end - got, got * sizeof *blocks);
    }
    return got;
}

unsigned ap__central_take_lines(unsigned size_class, void **blocks, unsigned count)
{
    struct ap__shard *shard = ap__shard_mine(size_class);
    unsigned got = 0;
    ap__lock_take(&shard->lock);
    for (unsigned left = shard->lists.occupied; left != 0 && got == 0; left &= left - 1) {
        struct ap__span *span = shard->lists.buckets[ap__lowest_bit(left)];
        got = ap__slot_map_claim_lines(span, &ap__size_class[size_class], blocks, count);
        if (got != 0) {
            note_claimed_locked(shard, span, got);
        }
    }
    ap__lock_release(&shard->lock);
    return got;
}

static inline bool is_in(const struct ap__span *span, const void *p)
{
    return (uintptr_t)p - span->start < ap__span_bytes(span);
}

/* Which slot of the span begins at `p`. `false`: none. */
static inline bool find_slot(const struct ap__span *span, const struct ap__size_class *info,
                             const void *p, unsigned *slot)
{
    return ap__slot_starts_at(info, (uintptr_t)p - span->start, slot);
}

enum given { GIVEN, WAS_NO_SLOT, WAS_FREE };

/* Why an address is not the start of a slot. Its span may be gone: a double free found late. */
AP_COLD static enum ap__misuse_cause why_no_slot(unsigned size_class, const void *p)
{
    bool inside = ap__span_of_class(size_class, p) != NULL && !ap__central_is_slot(size_class, p);
    return inside ? AP__MISUSE_INTERIOR : AP__MISUSE_NOT_LIVE;
}

/* Blocks that lie side by side, in either order: what was allocated in order is often freed in order. */
struct block_run {
    unsigned count; /* 1 to AP_SLOT_WORD_BITS */
    unsigned first; /* the lowest slot */
};

static inline bool are_side_by_side(const struct ap__size_class *info, void *const *blocks,
                                    unsigned count)
{
    if (count < 2) {
        return false;
    }
    uintptr_t step = (uintptr_t)blocks[1] - (uintptr_t)blocks[0];
    return step == info->size || step == (uintptr_t)0 - info->size;
}

/* How many of `most` blocks follow each other at a distance of `step`. One has to look at each; four at a time, because
 * most blocks come by here on their way back. */
static inline unsigned count_in_step(void *const *blocks, unsigned most, uintptr_t step)
{
    uintptr_t next = (uintptr_t)blocks[0];
    unsigned count = 0;
    for (; count + 4 <= most; count += 4, next += 4 * step) {
        uintptr_t differences = ((uintptr_t)blocks[count] ^ next) |
                                ((uintptr_t)blocks[count + 1] ^ (next + step)) |
                                ((uintptr_t)blocks[count + 2] ^ (next + 2 * step)) |
                                ((uintptr_t)blocks[count + 3] ^ (next + 3 * step));
        if (differences != 0) {
            break;
        }
    }
    for (; count < most && (uintptr_t)blocks[count] == next; next += step) {
        count++;
    }
    return count;
}

/* The run at the start of `count` blocks, the first of which is slot `slot` of its span. */
static inline struct block_run find_run(const struct ap__size_class *info, void *const *blocks,
                                        unsigned count, unsigned slot)
{
    struct block_run run = {.count = 1, .first = slot};
    if (!are_side_by_side(info, blocks, count)) {
        return run;
    }
    uintptr_t step = (uintptr_t)blocks[1] - (uintptr_t)blocks[0];
    bool is_upwards = step == info->size;
    unsigned in_span = is_upwards ? info->slots - slot : slot + 1;
    unsigned most = (unsigned)ap__min(ap__min(count, in_span), AP_SLOT_WORD_BITS);
    run.count = count_in_step(blocks, most, step);
    run.first = is_upwards ? slot : slot - (run.count - 1);
    return run;
}

/* The same for a whole run of blocks side by side, for which one look at the bitmap will do. Returns how many, 0
 * if the first block is no run's, or there is something wrong with it. */
static AP_NOINLINE unsigned give_side_by_side_locked(struct ap__span *span,
                                                     const struct ap__size_class *info,
                                                     void *const *blocks, unsigned count)
{
    unsigned slot;
    if (!find_slot(span, info, blocks[0], &slot)) {
        return 0;
    }
    struct block_run run = find_run(info, blocks, count, slot);
    struct ap__slot_release release = ap__slot_map_release_begin(span);
    if (!ap__slot_map_release_run(&release, run.first, run.count)) {
        return 0;
    }
    ap__slot_map_release_end(span, &release, run.count);
    return run.count;
}

/*
 * Gives blocks to a span as long as they lie in it: blocks that come together are mostly of one span, so a block
 * costs two multiplications and no look at any map. Returns how many.
 */
static inline unsigned give_each_locked(struct ap__span *span, const struct ap__size_class *info,
                                        void *const *blocks, unsigned count, enum given *given)
{
    struct ap__slot_release release = ap__slot_map_release_begin(span);
    uintptr_t start = span->start;
    size_t bytes = ap__span_bytes(span);
    unsigned done = 0;
    for (; done < count && (uintptr_t)blocks[done] - start < bytes; done++) {
        unsigned slot;
        bool is_slot = ap__slot_starts_at(info, (uintptr_t)blocks[done] - start, &slot);
        if (AP_MISUSED(!is_slot)) {
            *given = WAS_NO_SLOT;
            break;
        }
        bool was_claimed = ap__slot_map_release(&release, slot);
        if (AP_MISUSED(!was_claimed)) {
            *given = WAS_FREE;
            break;
        }
    }
    ap__slot_map_release_end(span, &release, done);
    return done;
}

static inline unsigned give_run_locked(struct ap__span *span, const struct ap__size_class *info,
                                       void *const *blocks, unsigned count, enum given *given)
{
    if (are_side_by_side(info, blocks, count)) {
        unsigned done = give_side_by_side_locked(span, info, blocks, count);
        if (done != 0) {
            return done;
        }
    }
    return give_each_locked(span, info, blocks, (unsigned)ap__min(count, BLOCKS_BETWEEN_LOOKS),
                            given);
}

/* Gives blocks of one span back. Returns how many, fewer than there are if one of them is wrong. */
static unsigned give_to_span_locked(struct ap__shard *shard, struct ap__span *span,
                                    void *const *blocks, unsigned count, enum given *given)
{
    unsigned size_class = span->size_class;
    const struct ap__size_class *info = &ap__size_class[size_class];
    unsigned done = give_run_locked(span, info, blocks, count, given);
    if (done != 0) {
        ap__counter_add(&shard->claimed, -(uint64_t)done);
        become_unpurged_locked(shard, span);
        ap__shard_settle_locked(shard, span);
        ap__shard_leave_bound(size_class);
    }
    return done;
}

void ap__central_give(unsigned size_class, void *const *blocks, unsigned count,
                      const char *function)
{
    struct ap__shard *shard = NULL;
    enum given given = GIVEN;
    unsigned done = 0;
    while (done < count && given == GIVEN) {
        struct ap__span *span;
        shard = ap__shard_enter(shard, size_class, blocks[done], &span);
        if (AP_UNLIKELY(span == NULL)) {
            given = WAS_NO_SLOT;
            break;
        }
        done += give_to_span_locked(shard, span, blocks + done, count - done, &given);
    }
    if (shard != NULL) {
        ap__lock_release(&shard->lock);
    }
    ap__bell_ring(&ap__heap_bell);
    /* Reported without the lock: the program may have a handler for SIGABRT, and it may allocate. */
    if (AP_UNLIKELY(given != GIVEN)) {
        ap__misuse(function, blocks[done],
                   given == WAS_FREE ? AP__MISUSE_DOUBLE_FREE
                                     : why_no_slot(size_class, blocks[done]));
    }
}

bool ap__central_is_slot(unsigned size_class, const void *p)
{
    unsigned slot;
    const struct ap__span *span = ap__span_of_class(size_class, p);
    return span != NULL && find_slot(span, &ap__size_class[size_class], p, &slot);
}

/*
 * Which slot of its span begins at `p`. `false`: none. *span: the one that the last `p` lay in, or NULL; most lie in the
 * same. Of spans of one granule no record is read: whoever has its shard's lock writes to it.
 */
static inline bool find_slot_anywhere(unsigned size_class, const struct ap__size_class *info,
                                      const void *p, const struct ap__span **span, unsigned *slot)
{
    size_t granule = ap__region_granule_of((uintptr_t)p);
    if (info->span_granules == 1 && AP_LIKELY(granule < ap__region_limit_granules())) {
        return ap__region_class_of(granule) == size_class &&
               ap__slot_starts_at(info, (uintptr_t)p % AP_GRANULE, slot);
    }
    if (*span == NULL || !is_in(*span, p)) {
        *span = ap__span_of_class(size_class, p);
    }
    return *span != NULL && find_slot(*span, info, p, slot);
}

void ap__central_check_slots(unsigned size_class, void *const *blocks, unsigned count,
                             const char *function)
{
    const struct ap__size_class *info = &ap__size_class[size_class];
    const struct ap__span *span = NULL;
    for (unsigned i = 0; AP_CHECKS && i < count;) {
        unsigned slot;
        if (AP_MISUSED(!find_slot_anywhere(size_class, info, blocks[i], &span, &slot))) {
            ap__misuse(function, blocks[i], why_no_slot(size_class, blocks[i]));
        }
        i += find_run(info, blocks + i, count - i, slot).count;
    }
}

bool ap__central_is_free(unsigned size_class, const void *p)
{
    unsigned slot;
    struct ap__span *span;
    struct ap__shard *shard = ap__shard_enter(NULL, size_class, p, &span);
    bool is_free = span != NULL && find_slot(span, &ap__size_class[size_class], p, &slot) &&
                   ap__slot_map_is_free(span, slot);
    if (shard != NULL) {
        ap__lock_release(&shard->lock);
    }
    return is_free;
}

void ap__central_stats(unsigned size_class, struct ap__central_stats *stats)
{
    *stats = (struct ap__central_stats){0};
    for (unsigned number = 0; number < ap__central_shards(size_class); number++) {
        struct ap__shard *shard = ap__shard_at(number, size_class);
        ap__lock_take(&shard->lock);
        stats->spans += shard->lists.members;
        ap__lock_release(&shard->lock);
    }
    stats->slots = stats->spans * ap__size_class[size_class].slots;
    stats->claimed = ap__central_claimed(size_class);
}
