/* SPDX-License-Identifier: MIT */
/*
 * region.c: reservation and growth of the region and its maps.
 *
 * Reserving is one system call and costs no memory; making granules usable is an mprotect() of whole
 * chunks. A map's entries are 1, 1 and 8 bytes a granule, so a page of the span map serves
 * 32 MiB of heap: growing the maps is rare. Cost of a lookup: one subtraction, one shift, one load.
 *
 * Refused: a two-level page map (a second dependent load in free), and a header in each span (a load
 * from the span itself, one cache miss for each span freed into, and metadata beside user data).
 */
#include "heap/region.h"

#include <string.h>

#include "os/check.h"
#include "os/os.h"
#include "os/yield.h"

#define REGION_ALIGNMENT ((size_t)2 << 20) /* a huge page, so that chunks can be backed by them */
#define RESERVE_MIN ((size_t)4 << 20)

/*
 * One section of their own keeps the two on one cache line. Compilers lay a section's variables out in
 * the order of their definition or in the reverse one, so the one that brings the alignment, and what
 * fills the line, stands at an end.
 */
#define HOT_PAIR __attribute__((section(".data.ap_region")))
__attribute__((used, aligned(AP_CACHE_LINE))) static char
    line_filler[AP_CACHE_LINE - 2 * sizeof(uintptr_t)] HOT_PAIR = {0};
_Atomic(_Atomic(uint8_t) *) ap__region_class_map HOT_PAIR = NULL;
size_t ap__region_limit HOT_PAIR = 0;

/* One array inside the reservation, made usable from its start as far as needed. */
struct map {
    char *start;
    size_t entry_bytes;
    size_t usable_bytes;
};

enum { CLASS_MAP, CLEAN_MAP, SPAN_MAP, MAP_COUNT };

/* Written by init and, except `maps`, constant afterwards; usable_bytes under the page heap's lock. */
static struct map maps[MAP_COUNT] = {
    [CLASS_MAP] = {.entry_bytes = sizeof(uint8_t)},
    [CLEAN_MAP] = {.entry_bytes = sizeof(uint8_t)},
    [SPAN_MAP] = {.entry_bytes = sizeof(struct ap__span *)},
};
static size_t granules_reserved;
size_t ap__region_first;
static size_t page_bytes;

static uint8_t *clean_map(void)
{
    return (uint8_t *)maps[CLEAN_MAP].start;
}

_Atomic(_Atomic(struct ap__span *) *) ap__region_span_map;

static _Atomic(struct ap__span *) *span_map(void)
{
    return atomic_load_explicit(&ap__region_span_map, memory_order_relaxed);
}

/* `size_bytes` of address space at a multiple of REGION_ALIGNMENT. */
static char *reserve_aligned(size_t size_bytes)
{
    size_t padded = size_bytes + REGION_ALIGNMENT;
    char *start = ap__os_reserve(padded);
    return start == NULL ? NULL
                         : ap__os_trim_to_alignment(start, padded, size_bytes, REGION_ALIGNMENT);
}

static size_t map_bytes(const struct map *map, size_t granules)
{
    return ap__align_up(granules * map->entry_bytes, page_bytes);
}

/* Places the maps at the start of the reservation, each followed by a guard page. */
static void place_maps(char *base, size_t granules)
{
    size_t offset = 0;
    for (int i = 0; i < MAP_COUNT; i++) {
        maps[i].start = base + offset;
        maps[i].usable_bytes = 0;
        offset += map_bytes(&maps[i], granules) + page_bytes;
    }
    granules_reserved = granules;
    ap__region_first = ap__align_up(offset, AP_GRANULE) >> AP_PAGE_HEAP_GRANULE_SHIFT;
}

/* There is no region: nothing may grow into addresses that are somebody else's by now. */
static void forget_maps(void)
{
    for (int i = 0; i < MAP_COUNT; i++) {
        maps[i].start = NULL;
        maps[i].usable_bytes = 0;
    }
    granules_reserved = 0;
    ap__region_first = 0;
}

/* Makes the entries of all granules below `granules` usable. */
static bool commit_maps(size_t granules)
{
    for (int i = 0; i < MAP_COUNT; i++) {
        struct map *map = &maps[i];
        size_t wanted = map_bytes(map, granules);
        if (wanted > map->usable_bytes) {
            if (!ap__os_commit(map->start + map->usable_bytes, wanted - map->usable_bytes)) {
                return false;
            }
            map->usable_bytes = wanted;
        }
    }
    return true;
}

/* release: base and maps are usable before anybody sees the limit that admits their use. */
static void publish_limit(size_t granules)
{
    __atomic_store_n(&ap__region_limit, granules << (AP_PAGE_HEAP_GRANULE_SHIFT - 4),
                     __ATOMIC_RELEASE);
}

bool ap__region_init(size_t reserve_bytes)
{
    page_bytes = ap__os_page_size();
    for (size_t size = ap__align_down(reserve_bytes, REGION_ALIGNMENT); size >= RESERVE_MIN;
         size = ap__align_down(size / 2, REGION_ALIGNMENT)) {
        char *base = reserve_aligned(size);
        if (base == NULL) {
            continue;
        }
        place_maps(base, size >> AP_PAGE_HEAP_GRANULE_SHIFT);
        if (!commit_maps(ap__region_first)) {
            (void)ap__os_unmap(base, size);
            forget_maps();
            return false;
        }
        atomic_store_explicit(&ap__region_span_map,
                              (_Atomic(struct ap__span *) *)maps[SPAN_MAP].start,
                              memory_order_relaxed);
        atomic_store_explicit(&ap__region_class_map, (_Atomic(uint8_t) *)base,
                              memory_order_relaxed);
        AP__YIELD_POINT();
        publish_limit(ap__region_first);
        return true;
    }
    return false;
}

size_t ap__region_grow(size_t granules)
{
    size_t first = ap__region_limit_granules();
    if (granules > ap__region_granules_left() || !commit_maps(first + granules)) {
        return 0;
    }
    if (!ap__os_commit((void *)ap__region_address_of(first),
                       granules << AP_PAGE_HEAP_GRANULE_SHIFT)) {
        return 0;
    }
    AP__YIELD_POINT();
    ap__region_set_clean(first, granules, true);
    AP__YIELD_POINT();
    publish_limit(first + granules);
    return first;
}

size_t ap__region_granules_left(void)
{
    return granules_reserved - ap__region_limit_granules();
}

size_t ap__region_unused_bytes(void)
{
    size_t unused = (granules_reserved << AP_PAGE_HEAP_GRANULE_SHIFT) - ap__region_usable_bytes();
    for (int i = 0; i < MAP_COUNT; i++) {
        unused -= maps[i].usable_bytes;
    }
    return unused;
}

size_t ap__region_usable_bytes(void)
{
    return (ap__region_limit_granules() - ap__region_first) << AP_PAGE_HEAP_GRANULE_SHIFT;
}

void ap__region_set_class(size_t first, size_t granules, unsigned size_class)
{
    _Atomic(uint8_t) *map = (_Atomic(uint8_t) *)maps[CLASS_MAP].start;
    for (size_t i = first; i < first + granules; i++) {
        /* relaxed: blocks of the span reach other threads under a lock or by the program's own means. */
        atomic_store_explicit(&map[i], (uint8_t)size_class, memory_order_relaxed);
        AP__YIELD_POINT();
    }
}

void ap__region_set_span(size_t first, size_t granules, struct ap__span *span)
{
    for (size_t i = first; i < first + granules; i++) {
        AP__YIELD_POINT();
        atomic_store_explicit(&span_map()[i], span, memory_order_release);
    }
}

void ap__region_set_span_ends(size_t first, size_t granules, struct ap__span *span)
{
    atomic_store_explicit(&span_map()[first], span, memory_order_release);
    AP__YIELD_POINT();
    atomic_store_explicit(&span_map()[first + granules - 1], span, memory_order_release);
}

bool ap__region_is_clean(size_t granule)
{
    return clean_map()[granule] != 0;
}

void ap__region_set_clean(size_t first, size_t granules, bool clean)
{
    memset(clean_map() + first, clean, granules);
}

size_t ap__region_dirty_end(size_t first, size_t end)
{
    const uint8_t *map = clean_map();
    /* A free span may be as long as the heap, and clean but for a few granules. */
    const uint8_t *last = memrchr(map + first, 0, end - first);
    return last == NULL ? first : (size_t)(last - map) + 1;
}

size_t ap__region_count_dirty(size_t first, size_t granules)
{
    size_t dirty = 0;
    for (size_t i = first; i < first + granules; i++) {
        dirty += clean_map()[i] == 0;
    }
    return dirty;
}
