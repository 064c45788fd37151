/* SPDX-License-Identifier: MIT */
/*
 * recycled_pairs.c: pairs of free and malloc of one packed block, in a heap where its class is recycled. Helper of
 * recycled_free_test.py, which counts.
 *
 * recycled_pairs COUNT
 */
#include <stdlib.h>

enum {
    SIZE = 4096,  /* a class' */
    HELD = 6000,  /* 24 MiB, of which the class has one in spans of its own */
    OFTEN = 12000 /* until it is found that they replace each other */
};

static void *held[HELD];

int main(int argc, char **argv)
{
    if (argc != 2) {
        return 2;
    }
    unsigned long count = strtoul(argv[1], NULL, 10);
    for (unsigned i = 0; i < HELD; i++) {
        held[i] = malloc(SIZE);
    }
    for (unsigned n = 0; n < OFTEN; n++) {
        unsigned i = (unsigned)rand() % (HELD - 1);
        free(held[i]);
        held[i] = malloc(SIZE);
    }
    void **last = &held[HELD - 1]; /* packed, and in its place ever since */
    for (unsigned long i = 0; i < count; i++) {
        free(*last);
        *last = malloc(SIZE);
        __asm__ volatile("" : : "r"(*last) : "memory"); /* the pair stays a pair */
    }
    return 0;
}
