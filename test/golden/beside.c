/* SPDX-License-Identifier: MIT */
/*
 * beside.c: spans taken and given back beside much free memory. Helper of free_memory_test.py, which counts.
 *
 * beside FREE_MIB COUNT
 */
#include <stdlib.h>

/* So long that no freed one waits for the next of its length. */
enum { FIRST_BYTES = 5 << 20, SECOND_BYTES = 6 << 20 };

static void *allocate(size_t bytes)
{
    void *p = malloc(bytes);
    if (p == NULL) {
        exit(77);
    }
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        return 2;
    }
    size_t free_mib = strtoul(argv[1], NULL, 10);
    unsigned long count = strtoul(argv[2], NULL, 10);
    free(allocate(free_mib << 20));
    for (unsigned long i = 0; i < count; i++) {
        void *first = allocate(FIRST_BYTES);
        void *second = allocate(SECOND_BYTES);
        free(first);
        free(second);
    }
    return 0;
}
