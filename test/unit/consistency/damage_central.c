/* SPDX-License-Identifier: MIT */
/* damage_central.c: the first shards of the central free lists, spoilt. */
#include "central/shards.h"
#include "damage.h"

void damage_central_count(unsigned size_class, enum damage_central_count which)
{
    struct ap__shard *shard = ap__shard_at(0, size_class);
    shard->lists.members += which == DAMAGE_SPANS;
    shard->claimed += which == DAMAGE_CLAIMED;
    shard->claimed -= which == DAMAGE_UNCLAIMED;
    shard->lists.occupied ^= which == DAMAGE_OCCUPIED ? 1 << (AP_SPAN_BUCKETS - 1) : 0;
    shard->lists.has_spare ^= which == DAMAGE_SPARE;
}

void damage_forget_listed(unsigned size_class)
{
    struct ap__shard *shard = ap__shard_at(0, size_class);
    AP_CHECK(shard->lists.occupied != 0, "there is one");
    ap__span_lists_remove(&shard->lists, ap__span_lists_first(&shard->lists));
}
