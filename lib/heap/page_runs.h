/* SPDX-License-Identifier: MIT */
/* page_runs.h: runs of pages inside spans that are in use, on their way back to the kernel. */
#ifndef AP_HEAP_PAGE_RUNS_H
#define AP_HEAP_PAGE_RUNS_H

#include "base/compiler.h"

struct ap__page_run {
    uintptr_t start;
    size_t bytes; /* 0: there is none */
};

/* Gives them back; nobody else may use them meanwhile. Returns the bytes; *refused becomes true if the kernel did not take
 * some: locked pages, say; trying again would not help. Takes no lock; any thread. */
size_t ap__page_runs_discard(const struct ap__page_run *runs, unsigned count, bool *refused);

#endif
