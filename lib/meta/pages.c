/* SPDX-License-Identifier: MIT */
/*
 * pages.c: empty pages in a bitmap, and the newest mapping.
 *
 * The bitmap lies apart from the pages, which have no memory; it is for the first GiB of the reservation (pages of
 * 4 KiB), so much as the records of some 100 GiB in small blocks. What lies beyond stays with the pieces.
 * Mappings grow from 64 KiB to 1 MiB, so that a small process keeps a small footprint and a large one makes few
 * system calls. What is left of a mapping that is too small for a request becomes empty pages.
 *
 * A search for a run reads the bitmap from the lowest empty page to the highest; one in vain is not repeated until
 * there are more.
 */
#include "meta/pages.h"

#include "base/bits.h"
#include "meta/mappings.h"
#include "os/check.h"
#include "os/os.h"

enum { WORD_BITS = 64, PAGES_MAX = 1 << 18 };
#define MAPPING_BYTES_MIN ((size_t)64 << 10)
#define MAPPING_BYTES_MAX ((size_t)1 << 20)
#define NONE SIZE_MAX

/* All below: under meta's lock. */
static uint64_t empty[PAGES_MAX / WORD_BITS];
static size_t empty_count;
static size_t lowest;      /* no page below is empty */
static size_t highest;     /* nor is one from here on */
static size_t longest_run; /* at most so many are side by side */
static char *rest;         /* untouched pages of the newest mapping */
static size_t rest_bytes;  /* of them */
static size_t next_mapping_bytes = MAPPING_BYTES_MIN;

bool ap__pages_is_empty(size_t page)
{
    return (empty[page / WORD_BITS] >> page % WORD_BITS & 1) != 0;
}

size_t ap__pages_known(void)
{
    return ap__min(ap__mappings_pages(), PAGES_MAX);
}

/* --- empty pages --- */

/* The first of the lowest run, NONE if there is none. */
static size_t find_run(size_t pages)
{
    size_t run = 0;
    for (size_t page = lowest; page < highest; page++) {
        if (empty[page / WORD_BITS] == 0) {
            page |= WORD_BITS - 1;
            run = 0;
            continue;
        }
        run = ap__pages_is_empty(page) ? run + 1 : 0;
        if (run == pages) {
            return page + 1 - pages;
        }
    }
    longest_run = pages - 1;
    return NONE;
}

static void flip(size_t first, size_t pages)
{
    for (size_t page = first; page < first + pages; page++) {
        empty[page / WORD_BITS] ^= UINT64_C(1) << page % WORD_BITS;
    }
}

static char *take_empty(size_t pages)
{
    size_t first = pages <= longest_run ? find_run(pages) : NONE;
    if (first == NONE) {
        return NULL;
    }
    flip(first, pages);
    empty_count -= pages;
    lowest = pages == 1 ? first + 1 : lowest;
    return ap__mappings_page_at(first);
}

void ap__pages_give(char *pages, size_t bytes)
{
    size_t first = ap__mappings_page_of(pages);
    size_t known = ap__pages_known();
    if (first >= known) {
        return;
    }
    size_t count = ap__min(bytes / ap__os_page_size(), known - first);
    AP_ASSERT(!ap__pages_is_empty(first) && !ap__pages_is_empty(first + count - 1));
    flip(first, count);
    lowest = empty_count == 0 ? first : ap__min(lowest, first);
    highest = ap__max(highest, first + count);
    empty_count += count;
    longest_run = empty_count;
}

/* --- the newest mapping --- */

/* A new mapping with room for `bytes`. */
static bool map_more(size_t bytes)
{
    size_t usable = ap__max(next_mapping_bytes, bytes);
    char *mapping = ap__mappings_add(usable);
    if (mapping == NULL) {
        return false;
    }
    if (rest_bytes != 0) {
        ap__pages_give(rest, rest_bytes);
    }
    rest = mapping;
    rest_bytes = usable;
    next_mapping_bytes = ap__min(next_mapping_bytes * 2, MAPPING_BYTES_MAX);
    return true;
}

static char *bump(size_t bytes)
{
    if (rest_bytes < bytes && !map_more(bytes)) {
        return NULL;
    }
    char *pages = rest;
    rest += bytes;
    rest_bytes -= bytes;
    return pages;
}

char *ap__pages_take(size_t bytes)
{
    char *pages = take_empty(bytes / ap__os_page_size());
    return pages != NULL ? pages : bump(bytes);
}

size_t ap__pages_empty_bytes(void)
{
    return empty_count * ap__os_page_size();
}

size_t ap__pages_untouched_bytes(void)
{
    return rest_bytes;
}
