/* SPDX-License-Identifier: MIT */
/*
 * pairs.c: pairs of malloc and free of one size. Helper of fast_path_test.py, which counts.
 *
 * pairs SIZE COUNT
 */
#include <stdlib.h>

int main(int argc, char **argv)
{
    if (argc != 3) {
        return 2;
    }
    size_t size = strtoul(argv[1], NULL, 10);
    unsigned long count = strtoul(argv[2], NULL, 10);
    for (unsigned long i = 0; i < count; i++) {
        void *p = malloc(size);
        __asm__ volatile("" : "+r"(p) : : "memory"); /* the pair stays a pair */
        free(p);
    }
    return 0;
}
