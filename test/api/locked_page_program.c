/* SPDX-License-Identifier: MIT */
/*
 * locked_page_program.c: programs that lock a page of a block, for a key say, and free the block as it is.
 * Goal: blocks with a locked page are freed and resized as any other, keep their contents until then, and show nothing
 * of it to calloc() afterwards. Method: one page locked at the start, in the middle or at the end of blocks of several
 * sizes. With `hardened`, freed blocks become inaccessible, which some of the kernel's means cannot do to locked pages.
 *
 * locked_page_program: status 0 if all is well, 77 where no memory may be locked.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "entry_points.h"
#include "expect.h"

enum { PAGE_BYTES = 4096, PLACES = 3, ROUNDS = 2 };

static const size_t sizes[] = {5000, 70000, 1000000, 9000000};

/* The first whole page behind the start, the middle, or before the end. */
static void lock_page_of(char *p, size_t size, unsigned place)
{
    uintptr_t first = ((uintptr_t)p + PAGE_BYTES - 1) & -(uintptr_t)PAGE_BYTES;
    size_t pages = ((uintptr_t)p + size - first) / PAGE_BYTES;
    size_t which = place * (pages - (pages > 0)) / (PLACES - 1);
    if (pages > 0 && mlock((char *)first + which * PAGE_BYTES, PAGE_BYTES) != 0) {
        skip("this process may not lock a page");
    }
}

static char *make(const struct entry_points *e, size_t size, unsigned place)
{
    char *p = e->malloc(size);
    expect(p != NULL, "a block is had");
    fill(p, size, place);
    lock_page_of(p, size, place);
    return p;
}

static void expect_zeroed_by_calloc(const struct entry_points *e, size_t size)
{
    char *p = e->calloc(1, size);
    expect(p != NULL && is_zero(p, size), "calloc() shows nothing of what was there");
    fill(p, size, 9);
    e->free(p);
}

static void use(const struct entry_points *e, size_t size, unsigned place)
{
    e->free(make(e, size, place));
    expect_zeroed_by_calloc(e, size);
    size_t grown = 10 * size, shrunk = size / 10;
    char *p = e->realloc(make(e, size, place), grown);
    expect(p != NULL && is_filled(p, size, place), "a block that grows keeps what it held");
    e->free(p);
    expect_zeroed_by_calloc(e, grown);
    p = e->realloc(make(e, size, place), shrunk);
    expect(p != NULL && is_filled(p, shrunk, place), "a block that shrinks keeps what it held");
    e->free(p);
    expect_zeroed_by_calloc(e, size);
}

int main(void)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        FOR_EACH_SET (e) {
            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                for (unsigned place = 0; place < PLACES; place++) {
                    use(e, sizes[i], place);
                }
            }
            (void)ap_trim();
        }
    }
    return 0;
}
