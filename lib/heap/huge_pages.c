/* SPDX-License-Identifier: MIT */
/*
 * huge_pages.c: advice for chunks, and units without.
 *
 * Each change of advice in the middle of a range costs the process a mapping, of which it has 65,530 as
 * a rule: there is a bound on units that go without.
 */
#include "heap/huge_pages.h"

#include <stdatomic.h>

#include "base/bits.h"
#include "heap/region.h"
#include "os/os.h"

enum {
    UNIT_SHIFT = 21,
    UNITS = 1 << 19, /* of 1 TiB; beyond, advice stays as it is */
    WITHOUT_MAX = 1 << 13,
    WORD_BITS = 64,
};
#define UNIT_BYTES ((size_t)1 << UNIT_SHIFT)
#define HEAP_BYTES_MIN ((size_t)64 << 20) /* smaller heaps do not ask */

/* Set by init, constant afterwards. */
static enum ap__pages wanted;
static enum ap__huge_pages allowed;

/* relaxed throughout: they decide how pages come, not what they hold. */
static _Atomic(bool) is_asking;
static _Atomic(uint64_t) without[UNITS / WORD_BITS];
static _Atomic(unsigned) without_count;

void ap__huge_pages_init(enum ap__pages pages)
{
    wanted = pages;
    /* Here, not at the growth that needs it: programs forbid themselves to open files later on. */
    allowed = pages == AP__PAGES_NEVER ? AP__HUGE_PAGES_NEVER : ap__os_huge_pages();
}

/* What a chunk that small blocks will fill wants: huge pages, once the heap is big enough not to notice
 * 2 MiB that are resident too early. A chunk made for a large object may stay empty for the most part. */
static bool is_wanted(bool for_small, size_t heap_bytes)
{
    if (wanted != AP__PAGES_AUTO) {
        return wanted == AP__PAGES_ALWAYS;
    }
    return for_small && allowed == AP__HUGE_PAGES_ADVISED && heap_bytes >= HEAP_BYTES_MIN;
}

void ap__huge_pages_advise_chunk(uintptr_t start, size_t bytes, bool for_small, size_t heap_bytes)
{
    bool whole = start % UNIT_BYTES == 0 && bytes % UNIT_BYTES == 0;
    bool asks = is_wanted(for_small, heap_bytes);
    if (whole && (asks || wanted == AP__PAGES_NEVER)) {
        bool done = ap__os_advise_huge_pages((void *)start, bytes, asks);
        atomic_store_explicit(&is_asking, done && asks, memory_order_relaxed);
    }
}

/* ------------------------------------------------------------ units without */

static bool may_be_huge(void)
{
    return allowed == AP__HUGE_PAGES_ALWAYS ||
           atomic_load_explicit(&is_asking, memory_order_relaxed);
}

static size_t unit_of(uintptr_t address)
{
    return (address - ap__region_base()) >> UNIT_SHIFT;
}

static uint64_t bit_of(size_t unit)
{
    return UINT64_C(1) << (unit % WORD_BITS);
}

static bool goes_without(size_t unit)
{
    return unit < UNITS && (atomic_load_explicit(&without[unit / WORD_BITS], memory_order_relaxed) &
                            bit_of(unit)) != 0;
}

static void go_without(size_t unit)
{
    if (unit >= UNITS || goes_without(unit) ||
        atomic_load_explicit(&without_count, memory_order_relaxed) >= WITHOUT_MAX) {
        return;
    }
    atomic_fetch_or_explicit(&without[unit / WORD_BITS], bit_of(unit), memory_order_relaxed);
    atomic_fetch_add_explicit(&without_count, 1, memory_order_relaxed);
    uintptr_t start = ap__region_base() + (unit << UNIT_SHIFT);
    (void)ap__os_advise_huge_pages((void *)start, UNIT_BYTES, false);
}

void ap__huge_pages_purged(uintptr_t start, size_t bytes)
{
    if (!may_be_huge() || !ap__region_contains(start) || wanted == AP__PAGES_ALWAYS) {
        return;
    }
    for (size_t unit = unit_of(start); unit <= unit_of(start + bytes - 1); unit++) {
        go_without(unit);
    }
}

bool ap__huge_pages_expected(uintptr_t address)
{
    return atomic_load_explicit(&is_asking, memory_order_relaxed) &&
           !goes_without(unit_of(address));
}
