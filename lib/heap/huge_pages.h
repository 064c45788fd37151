/* SPDX-License-Identifier: MIT */
/*
 * huge_pages.h: which parts of the region ask the kernel for huge pages.
 *
 * Does: asks for them where small blocks will fill a chunk of a heap that is big enough; and takes that
 * back, for good, where memory was given back: else the kernel would fill the holes again behind
 * everybody's back (khugepaged makes a huge page of a single one that is left), or at the next fault.
 * Does not: purge or populate.
 * The unit is 2 MiB, a huge page. Callers: any thread.
 */
#ifndef AP_HEAP_HUGE_PAGES_H
#define AP_HEAP_HUGE_PAGES_H

#include "config/options.h"

/* Reads what the system allows. Once, before the first use. */
void ap__huge_pages_init(enum ap__pages wanted);

/* A chunk that has become usable, aligned to units or not. `heap_bytes`: of the whole heap. */
void ap__huge_pages_advise_chunk(uintptr_t start, size_t bytes, bool for_small, size_t heap_bytes);

/* Memory of this range has been given back. */
void ap__huge_pages_purged(uintptr_t start, size_t bytes);

/* Whether a fault in fresh memory at this address brings a huge page, so that it needs no other remedy. */
bool ap__huge_pages_expected(uintptr_t address);

#endif
