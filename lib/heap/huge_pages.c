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
#include "os/yield.h"

enum {
    UNIT_SHIFT = 21,
    UNITS = 1 << 19, /* of 1 TiB; beyond, advice stays as it is */
    WITHOUT_MAX = 1 << 13,
    WORD_BITS = 64,
    SKIP_MAX = 15, /* chunks that do without after slow ones */
};
#define UNIT_BYTES ((size_t)1 << UNIT_SHIFT)
#define HEAP_BYTES_MIN ((size_t)64 << 20) /* smaller heaps do not ask */

/* Set by init, constant afterwards. */
static enum ap__when wanted;
static enum ap__huge_pages allowed;
static uint64_t slow; /* microseconds */

static unsigned skipped;        /* after the last slow one */
static unsigned chunks_to_skip; /* of these */

/* Sets of units. relaxed throughout: they decide how pages come, not what they hold. */
static _Atomic(uint64_t) asking[UNITS / WORD_BITS]; /* their chunk has asked for huge pages */
static _Atomic(uint64_t) without[UNITS / WORD_BITS];
static _Atomic(unsigned) without_count;

static size_t unit_of(uintptr_t address)
{
    return (address - ap__region_base()) >> UNIT_SHIFT;
}

static uint64_t bit_of(size_t unit)
{
    return UINT64_C(1) << (unit % WORD_BITS);
}

static bool has(const _Atomic(uint64_t) *set, size_t unit)
{
    return unit < UNITS &&
           (atomic_load_explicit(&set[unit / WORD_BITS], memory_order_relaxed) & bit_of(unit)) != 0;
}

static void add(_Atomic(uint64_t) *set, size_t unit)
{
    if (unit < UNITS) {
        atomic_fetch_or_explicit(&set[unit / WORD_BITS], bit_of(unit), memory_order_relaxed);
    }
}

void ap__huge_pages_init(enum ap__when pages, uint64_t slow_us)
{
    wanted = pages;
    slow = slow_us;
    /* Here, not at the growth that needs it: programs forbid themselves to open files later on. */
    allowed = pages == AP__WHEN_NEVER ? AP__HUGE_PAGES_NEVER : ap__os_huge_pages();
}

/* What a chunk that small blocks will fill wants: huge pages, once the heap is big enough not to notice
 * 2 MiB that are resident too early. A chunk made for a large object may stay empty for the most part. */
static bool is_wanted(bool for_small, size_t heap_bytes)
{
    if (wanted != AP__WHEN_AUTO) {
        return wanted == AP__WHEN_ALWAYS;
    }
    return for_small && allowed == AP__HUGE_PAGES_ADVISED && heap_bytes >= HEAP_BYTES_MIN;
}

/* Brings the first huge page of a chunk, which is about to be used, and looks at the clock. */
static bool is_slow(uintptr_t start)
{
    uint64_t before = ap__os_now_us();
    return ap__os_populate((void *)start, UNIT_BYTES) && ap__os_now_us() - before >= slow;
}

/* After a slow one, some chunks do without a trial. Under the page heap's lock, like all growth. */
static bool is_skipped(void)
{
    bool skips = chunks_to_skip != 0;
    chunks_to_skip -= skips;
    return skips;
}

/* Asks, and takes it back if the first page was slow. */
static bool ask(uintptr_t start, size_t bytes)
{
    if (!ap__os_advise_huge_pages((void *)start, bytes, true)) {
        return false;
    }
    if (wanted == AP__WHEN_ALWAYS || !is_slow(start)) {
        skipped = 0;
        return true;
    }
    skipped = (unsigned)ap__min(2 * skipped + 1, SKIP_MAX);
    chunks_to_skip = skipped;
    return !ap__os_advise_huge_pages((void *)start, bytes, false);
}

void ap__huge_pages_advise_chunk(uintptr_t start, size_t bytes, bool for_small, size_t heap_bytes)
{
    if (start % UNIT_BYTES != 0 || bytes % UNIT_BYTES != 0) {
        return;
    }
    if (wanted == AP__WHEN_NEVER) {
        (void)ap__os_advise_huge_pages((void *)start, bytes, false);
    } else if (is_wanted(for_small, heap_bytes) && !is_skipped() && ask(start, bytes)) {
        for (uintptr_t unit = start; unit < start + bytes; unit += UNIT_BYTES) {
            add(asking, unit_of(unit));
        }
    }
}

/* ------------------------------------------------------------ units without */

static bool may_be_huge(size_t unit)
{
    return allowed == AP__HUGE_PAGES_ALWAYS || has(asking, unit);
}

static void go_without(size_t unit)
{
    if (unit >= UNITS || has(without, unit) ||
        atomic_load_explicit(&without_count, memory_order_relaxed) >= WITHOUT_MAX) {
        return;
    }
    AP__YIELD_POINT();
    add(without, unit);
    AP__YIELD_POINT();
    atomic_fetch_add_explicit(&without_count, 1, memory_order_relaxed);
    uintptr_t start = ap__region_base() + (unit << UNIT_SHIFT);
    (void)ap__os_advise_huge_pages((void *)start, UNIT_BYTES, false);
}

void ap__huge_pages_purged(uintptr_t start, size_t bytes)
{
    if (!ap__region_contains(start) || wanted == AP__WHEN_ALWAYS) {
        return;
    }
    for (size_t unit = unit_of(start); unit <= unit_of(start + bytes - 1); unit++) {
        if (may_be_huge(unit)) {
            go_without(unit);
        }
    }
}

bool ap__huge_pages_expected(uintptr_t address)
{
    size_t unit = unit_of(address);
    return has(asking, unit) && !has(without, unit);
}
