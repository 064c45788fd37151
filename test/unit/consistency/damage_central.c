/* SPDX-License-Identifier: MIT */
/* damage_central.c: the central free lists with a way to spoil them. */
#include "central/central_free_list.c"
#include "damage.h"

void damage_central_count(unsigned size_class, enum damage_central_count which)
{
    struct central *central = &centrals[size_class];
    central->spans += which == DAMAGE_SPANS;
    central->claimed += which == DAMAGE_CLAIMED;
    central->claimed -= which == DAMAGE_UNCLAIMED;
    central->occupied ^= which == DAMAGE_OCCUPIED ? BUCKET_MASK : 0;
}

void damage_forget_listed(unsigned size_class)
{
    struct central *central = &centrals[size_class];
    AP_CHECK(central->occupied != 0, "there is one");
    list_remove(central, central->buckets[ap__lowest_bit(central->occupied)]);
}
