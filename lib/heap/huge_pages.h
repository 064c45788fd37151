/* SPDX-License-Identifier: MIT */
/*
 * huge_pages.h: which parts of the region ask the kernel for huge pages.
 *
 * Does: asks for them where small blocks will fill a chunk of a heap that is big enough, if the first one
 * of the chunk does not take too long to come: in a virtual machine whose host has taken free memory back,
 * a huge page can cost ten times as much as the small ones that it replaces. And takes it
 * back, for good, where memory was given back: else the kernel would fill the holes again behind
 * everybody's back (khugepaged makes a huge page of a single one that is left), or at the next fault.
 * Does not: purge or populate.
 * The unit is 2 MiB, a huge page. Callers: any thread.
 */
#ifndef AP_HEAP_HUGE_PAGES_H
#define AP_HEAP_HUGE_PAGES_H

#include "config/options.h"

/*
 * Reads what the system allows. Once, before the first use. A huge page that takes `slow_us`
 * microseconds or more to come is too slow; AP__HUGE_PAGE_SLOW_US is what 512 small faults cost at worst.
 */
#define AP__HUGE_PAGE_SLOW_US 1000
void ap__huge_pages_init(enum ap__when wanted, uint64_t slow_us);

/* A chunk that has become usable, aligned to units or not. `heap_bytes`: of the whole heap. */
void ap__huge_pages_advise_chunk(uintptr_t start, size_t bytes, bool for_small, size_t heap_bytes);

/* Memory of this range has been given back. */
void ap__huge_pages_purged(uintptr_t start, size_t bytes);

/* Whether a fault in fresh memory at this address brings a huge page, so that it needs no other remedy. */
bool ap__huge_pages_expected(uintptr_t address);

#endif
