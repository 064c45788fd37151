/* SPDX-License-Identifier: MIT */
/* pack_traffic.c: one mean and one bit a class. */
#include "pack/pack_traffic.h"

#include "pack/pack.h"

enum {
    FORGOTTEN_PART = 64,
    ALL = UINT16_MAX,
    MANY = ALL / 8 * 3,
    MANY_BIG = ALL / 4 * 3,
    MANY_OF_ALL = ALL / 8 * 5,
    BIG_SIZE =
        16384, /* beyond, sessions have so few of a class that they look much like random sizes */
};

/* A fine class and the one above it are one kind. */
static unsigned kind_of(size_t size_bytes)
{
    return (ap__class_of_size(size_bytes) - ap__class_of_size(AP__PACK_SIZE_MIN)) / 2;
}

/* The mean after one more. */
static unsigned mean_with(unsigned mean, bool replaces)
{
    return mean - mean / FORGOTTEN_PART + (replaces ? ALL / FORGOTTEN_PART : 0);
}

bool ap__pack_traffic_taken(struct ap__pack_traffic *traffic, size_t size_bytes, bool waited)
{
    unsigned kind = kind_of(size_bytes);
    unsigned mean = mean_with(traffic->replacing[kind], traffic->given_last[kind] || waited);
    unsigned all = mean_with(traffic->all_replacing, traffic->all_given_last);
    bool is_alike = size_bytes <= BIG_SIZE || all > MANY_OF_ALL;
    bool replaces = mean > (is_alike ? MANY : MANY_BIG);
    traffic->all_replacing = (uint16_t)all;
    traffic->all_given_last = false;
    /* What was true of a large heap need not be of what is left of it. */
    traffic->replacing[kind] = (uint16_t)(replaces ? 0 : mean);
    traffic->given_last[kind] = false;
    return replaces;
}

void ap__pack_traffic_given(struct ap__pack_traffic *traffic, size_t size_bytes)
{
    traffic->given_last[kind_of(size_bytes)] = true;
    traffic->all_given_last = true;
}
