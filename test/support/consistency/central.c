/* SPDX-License-Identifier: MIT */
/*
 * central.c: each small span's bitmap, counts and list agree, and each shard's counts with those of its spans.
 */
#include "support/consistency/walk.h"

#include <string.h>

#include "base/size_class.h"
#include "central/central_free_list.h"
#include "central/shards.h"

enum { WORD_BITS = 64 };

/* By shard and class, from the records. */
static struct class_sums {
    size_t spans, listed, claimed;
} class_sums[AP_CENTRAL_SHARDS_MAX][AP_CLASS_COUNT];

static void check_bitmap(const struct ap__span *span, const struct ap__size_class *info)
{
    unsigned words = (info->slots + WORD_BITS - 1u) / WORD_BITS;
    unsigned tail = info->slots % WORD_BITS;
    size_t set = 0;
    for (unsigned i = 0; i < words; i++) {
        uint64_t word = span->slots.bitmap[i];
        set += (size_t)__builtin_popcountll(word);
        walk_check_span(word == 0 || i >= span->slots.first_word,
                        "a slot is free before the first word with one", span);
        walk_check_span(i + 1 < words || tail == 0 || word >> tail == 0,
                        "a bit is set behind the last slot", span);
    }
    walk_check_span(set == span->slots.free_slots, "the number of free slots is not the bitmap's",
                    span);
}

static void check_small_span(const struct ap__span *span)
{
    const struct ap__size_class *info = &ap__size_class[span->size_class];
    unsigned name = atomic_load(&span->shard);
    unsigned number = (name >> 8) - 1;
    walk_check_span(span->granules == info->span_granules, "a small span's length is wrong", span);
    if (!walk_check(ap__shard_named(name, span->size_class) != NULL &&
                        number < ap__central_shards(span->size_class),
                    "a small span names no shard of its class", span, span->index) ||
        !walk_check(span->slots.bitmap != NULL, "a small span has no bitmap", span, span->index)) {
        return;
    }
    struct class_sums *class_sum = &class_sums[number][span->size_class];
    check_bitmap(span, info);
    bool is_away = span->slots.bucket == AP_SPAN_AWAY;
    unsigned bucket = span->slots.free_slots == 0
                          ? AP_SPAN_NO_BUCKET
                          : (span->slots.free_slots - 1u) * AP_SPAN_BUCKETS / info->slots;
    walk.is_busy |= is_away;
    walk_check_span(is_away || span->slots.bucket == bucket,
                    "a span's bucket is not that of its free slots", span);
    class_sum->spans++;
    class_sum->listed += span->slots.bucket < AP_SPAN_BUCKETS;
    /* A class at its bound gets a span for a claim that follows; a child may be made in between. */
    bool may_be_new = walk.is_child && ap__central_bound(span->size_class) != SIZE_MAX;
    walk_check_span(is_away || may_be_new || span->slots.free_slots != info->slots,
                    "a span without live blocks is kept", span);
    class_sum->claimed += info->slots - (size_t)span->slots.free_slots;
}

/* Returns the spans on the list. */
static size_t check_bucket(unsigned number, unsigned size_class, unsigned bucket)
{
    const struct ap__span_lists *lists = &ap__shard_at(number, size_class)->lists;
    const struct ap__span *head = lists->buckets[bucket];
    const struct ap__span *span = head;
    bool purged_before = false;
    size_t count = 0;
    (void)walk_check(((lists->occupied >> bucket & 1) != 0) == (head != NULL),
                     "the bit of a bucket is wrong", head, bucket);
    while (span != NULL && !walk.found) {
        walk_check_span(count <= walk.records, "a bucket's list has no end", span);
        walk_check_span(span->state == AP__SPAN_SMALL && span->size_class == size_class,
                        "a span on a bucket's list is not of the class", span);
        walk_check_span(atomic_load(&span->shard) == ap__shard_name(number, size_class),
                        "a span on a shard's list names another", span);
        walk_check_span(span->slots.bucket == bucket, "a span is on another list than it says",
                        span);
        walk_check_span(span->link.next->link.previous == span, "a bucket's links differ", span);
        walk_check_span(span->slots.is_purged || !purged_before,
                        "a span with its pages is behind a purged one", span);
        purged_before = span->slots.is_purged;
        count++;
        span = span->link.next == head ? NULL : span->link.next;
    }
    return count;
}

static void check_shard(unsigned number, unsigned size_class)
{
    const struct class_sums *expected = &class_sums[number][size_class];
    const struct ap__shard *shard = ap__shard_at(number, size_class);
    uint64_t claimed = atomic_load(&shard->claimed);
    size_t listed = 0;
    for (unsigned bucket = 0; bucket < AP_SPAN_BUCKETS; bucket++) {
        listed += check_bucket(number, size_class, bucket);
    }
    (void)walk_check(listed == expected->listed, "a span is not on the list it says", NULL,
                     size_class);
    (void)walk_check(atomic_load(&shard->lists.has_spare) == (listed >= 2),
                     "a shard's spare span is not what it says", NULL, size_class);
    (void)walk_check(shard->lists.members == expected->spans, "a class' count of spans is wrong",
                     NULL, size_class);
    (void)walk_check(claimed == expected->claimed, "a class' count of claimed blocks is wrong",
                     NULL, size_class);
    walk.sums.claimed_blocks += claimed;
}

void walk_central(void)
{
    memset(class_sums, 0, sizeof class_sums);
    for (uint32_t i = 0; i < walk.records && !walk.found; i++) {
        const struct ap__span *span = ap__span_by_index(i);
        if (span->state == AP__SPAN_SMALL) {
            check_small_span(span);
        } else if (span->state != AP__SPAN_PACKED) { /* which names a pool */
            walk_check_span(atomic_load(&span->shard) == 0, "a span of no class names a shard",
                            span);
        }
    }
    for (unsigned c = 1; c < AP_CLASS_COUNT && !walk.found; c++) {
        for (unsigned number = 0; number < ap__central_shards(c); number++) {
            check_shard(number, c);
        }
    }
}
