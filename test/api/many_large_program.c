/* SPDX-License-Identifier: MIT */
/*
 * many_large_program.c: a million live large objects.
 * Goal: the number of the kernel's mappings does not grow with the number of objects, also after every
 * other one was freed and trimmed, since it is limited (65530 by default); all objects are found.
 * Method: allocate without touching, count the lines of /proc/self/maps at each stage.
 *
 * many_large_program: status 0 if all is well, 77 where this much address space is not to be had.
 */
#include <errno.h>
#include <string.h>

#include "entry_points.h"
#include "expect.h"

enum { OBJECTS = 1000000, MORE_MAPPINGS = OBJECTS / 1000 };
#define OBJECT_BYTES ((size_t)257 << 10)

static void *objects[OBJECTS];

static unsigned count_mappings(void)
{
    static char text[1 << 16]; /* not of the heap */
    unsigned lines = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    expect(maps != NULL, "/proc/self/maps can be read");
    for (size_t n; (n = fread(text, 1, sizeof text, maps)) > 0;) {
        for (size_t i = 0; i < n; i++) {
            lines += text[i] == '\n';
        }
    }
    (void)fclose(maps);
    return lines;
}

static void expect_few_mappings(unsigned before, const char *when)
{
    unsigned now = count_mappings();
    if (now > before + MORE_MAPPINGS) {
        fail("%s: %u mappings, %u before", when, now, before);
    }
}

static void allocate_every(size_t first, size_t step)
{
    for (size_t i = first; i < OBJECTS; i += step) {
        objects[i] = entry_points[i % ENTRY_POINT_SETS].malloc(OBJECT_BYTES);
        if (objects[i] == NULL) {
            expect(errno == ENOMEM, "no memory is ENOMEM");
            skip("this machine has not the addresses for a million large objects");
        }
    }
}

static void free_every(size_t first, size_t step)
{
    for (size_t i = first; i < OBJECTS; i += step) {
        entry_points[(i + 1) % ENTRY_POINT_SETS].free(objects[i]);
    }
}

/* Some of them have contents, so that trimming has something to give back. */
static void touch(size_t step)
{
    for (size_t i = 0; i < OBJECTS; i += step) {
        *(size_t *)objects[i] = i;
    }
}

static void expect_contents(size_t first, size_t step)
{
    for (size_t i = first; i < OBJECTS; i += step) {
        if (*(size_t *)objects[i] != i || ap_usable_size(objects[i]) < OBJECT_BYTES) {
            fail("object %zu is not what it was", i);
        }
    }
}

int main(void)
{
    ap_free(ap_malloc(OBJECT_BYTES));
    unsigned before = count_mappings();
    allocate_every(0, 1);
    expect_few_mappings(before, "all allocated");
    touch(100);
    free_every(1, 2);
    (void)ap_trim();
    expect_few_mappings(before, "every other one freed and trimmed");
    allocate_every(1, 2);
    expect_few_mappings(before, "allocated again");
    expect_contents(0, 100);
    free_every(0, 1);
    (void)ap_trim();
    expect_few_mappings(before, "all freed and trimmed");
    return 0;
}
