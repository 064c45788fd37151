/* SPDX-License-Identifier: MIT */
/* page_runs.c: runs of pages inside spans that are in use, on their way back to the kernel. A system call each. */
#include "heap/page_runs.h"

#include "heap/huge_pages.h"
#include "os/os.h"

size_t ap__page_runs_discard(const struct ap__page_run *runs, unsigned count, bool *refused)
{
    size_t discarded = 0;
    for (unsigned i = 0; i < count; i++) {
        bool done = ap__os_discard((void *)runs[i].start, runs[i].bytes);
        if (done) {
            ap__huge_pages_purged(runs[i].start, runs[i].bytes);
            discarded += runs[i].bytes;
        }
        *refused |= !done;
    }
    return discarded;
}
