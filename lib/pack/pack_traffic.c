/* SPDX-License-Identifier: MIT */
/*
 * pack_traffic.c: the imitated caches.
 *
 * Random sizes that replace each other make `stock` a random walk between 0 and what fits: of four blocks it finds four
 * fifths.
 */
#include "pack/pack_traffic.h"

#include "base/bits.h"
#include "pack/pack.h"

enum {
    CACHE_BYTES =
        65536, /* 16384: buffers of random sizes, 16 MiB of them, take 1.3 to 1.6 times as long */
    CACHE_BLOCKS_MAX = 32,
    FORGOTTEN_PART = 64,
    FOUND_ALL = UINT16_MAX,
    FOUND_MOST = FOUND_ALL / 4 * 3,
};

/* A fine class and the one above it are one kind. */
static unsigned kind_of(size_t size_bytes)
{
    return (ap__class_of_size(size_bytes) - ap__class_of_size(AP__PACK_SIZE_MIN)) / 2;
}

static unsigned stock_max(size_t size_bytes)
{
    return (unsigned)ap__min(ap__max(CACHE_BYTES / size_bytes, 1), CACHE_BLOCKS_MAX);
}

bool ap__pack_traffic_taken(struct ap__pack_traffic *traffic, size_t size_bytes, bool waited)
{
    unsigned kind = kind_of(size_bytes);
    bool found = traffic->stock[kind] != 0;
    traffic->stock[kind] -= found;
    unsigned mean = traffic->found[kind];
    unsigned wanted = found || waited ? FOUND_ALL : 0;
    traffic->found[kind] = (uint16_t)(mean - mean / FORGOTTEN_PART + wanted / FORGOTTEN_PART);
    bool comes_and_goes = traffic->found[kind] > FOUND_MOST;
    if (comes_and_goes) {
        traffic->found[kind] =
            0; /* what was true of a large heap need not be of what is left of it */
    }
    return comes_and_goes;
}

void ap__pack_traffic_given(struct ap__pack_traffic *traffic, size_t size_bytes)
{
    unsigned kind = kind_of(size_bytes);
    traffic->stock[kind] = (uint8_t)ap__min(traffic->stock[kind] + 1u, stock_max(size_bytes));
}
