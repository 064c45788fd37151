/* SPDX-License-Identifier: MIT */
/*
 * fine_classes_program.c: what size blocks have as a program goes on.
 *
 * Goal: blocks of one size that make up the heap come to lie in the tightest class, and no class opens for a little of
 * everything; the option holds. Method: malloc_usable_size() of blocks that stay.
 *
 * fine_classes_program MODE; 0: as promised. Modes: grows, mixed, always, never, hardened.
 */
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "apmalloc.h"

/* 4,368 bytes: a page of a database and its header. The fine class, and the next; then another size of the latter. */
enum {
    SIZE = 4368,
    TIGHT = 4608,
    NEXT = 5120,
    OTHER_SIZE = 5000,
    BLOCKS = 20000,
    MIXED_MOST = 65536
};
#define MIXED_BYTES ((size_t)64 << 20)

static void fail(const char *what, size_t figure)
{
    fprintf(stderr, "fine_classes_program: %s: %zu\n", what, figure);
    exit(1);
}

static void *take(size_t size)
{
    void *p = malloc(size);
    if (p == NULL) {
        fail("no memory for", size);
    }
    memset(p, 1, size);
    return p;
}

static size_t usable_after(unsigned blocks)
{
    for (unsigned i = 1; i < blocks; i++) {
        (void)take(SIZE);
    }
    return malloc_usable_size(take(SIZE));
}

static void expect(size_t size, size_t usable)
{
    if (malloc_usable_size(take(size)) != usable || ap_good_size(size) != usable) {
        fail("not the class it should be, of size", size);
    }
}

static void grow(void)
{
    size_t blocks = 1;
    expect(SIZE, NEXT);
    while (usable_after(1) == NEXT) {
        if (++blocks == BLOCKS) {
            fail("no tight class after blocks", blocks);
        }
    }
    /* 128 KiB are saved by 256 blocks; they are looked at now and then. */
    if (blocks < 256 || blocks > 2000) {
        fail("a tight class after blocks", blocks);
    }
    expect(SIZE, TIGHT);
    expect(OTHER_SIZE, NEXT);
}

/* Sizes of which all doublings make the same part of the heap. */
static size_t next_size(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407;
    size_t random = (size_t)(*state >> 33), most = 32;
    for (; most < MIXED_MOST && random % 2 == 0; random /= 2) {
        most *= 2;
    }
    return most / 2 + 1 + random % (most / 2);
}

static void mix(void)
{
    uint64_t seed = (uint64_t)time(NULL), state = seed;
    fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
    for (size_t bytes = 0; bytes < MIXED_BYTES;) {
        size_t size = next_size(&state);
        (void)take(size);
        bytes += size;
    }
    /* Sizes that only a fine class fits: just above all others. */
    for (size_t base = 128; base < MIXED_MOST; base *= 2) {
        for (size_t i = 0; i < 4; i++) {
            expect(base + base / 4 * i + 1, base + base / 4 * (i + 1));
        }
    }
}

/* With `hardened` a block says what was asked for; its class is seen in the statistics. */
static void look_at_statistics(void)
{
    static char text[1 << 16];
    for (int i = 0; i < 100; i++) {
        (void)take(SIZE);
    }
    FILE *stream = fmemopen(text, sizeof text, "w");
    if (stream == NULL || malloc_info(0, stream) != 0 || fclose(stream) != 0) {
        fail("no statistics of bytes", sizeof text);
    }
    if (strstr(text, "<class size=\"4608\" live=\"100\"") == NULL) {
        fail("not in the class of bytes", TIGHT);
    }
}

int main(int argc, char **argv)
{
    const char *mode = argc == 2 ? argv[1] : "";
    if (strcmp(mode, "grows") == 0) {
        grow();
    } else if (strcmp(mode, "mixed") == 0) {
        mix();
    } else if (strcmp(mode, "always") == 0) {
        expect(SIZE, TIGHT);
        expect(129, 144);
        expect(60000, 61440);
    } else if (strcmp(mode, "never") == 0) {
        if (usable_after(BLOCKS) != NEXT) {
            fail("a fine class is open after blocks", BLOCKS);
        }
    } else if (strcmp(mode, "hardened") == 0) {
        look_at_statistics();
    } else {
        fail("modes: grows, mixed, always, never, hardened; arguments", (size_t)argc);
    }
    return 0;
}
