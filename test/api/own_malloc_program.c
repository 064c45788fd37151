/* SPDX-License-Identifier: MIT */
/*
 * own_malloc_program.c: a malloc of the program's own is in force, and the heap comes behind it.
 * Goal: no block gets from one to the other, whose names the program does not define: reallocarray.
 *
 * own_malloc_program [LIBRARY]. With the malloc in it or in a library; the heap is linked or preloaded, or, with
 * LIBRARY, loaded late: then its functions are of one heap, whatever the names stand for. Status 0 if all is well.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "expect.h"
#include "own_malloc.h"

static void blocks_of_reallocarray_are_the_programs(void)
{
    char *p = reallocarray(NULL, 10, 10);
    expect(p != NULL && own_malloc_has(p), "reallocarray takes from the program's malloc");
    memset(p, 1, 100);
    p = reallocarray(p, 100, 1000);
    expect(p != NULL && own_malloc_has(p) && p[0] == 1 && p[99] == 1, "it grows a block of it");
    char *volatile kept = p; /* volatile: the compiler knows reallocarray, and warns */
    size_t volatile too_many = SIZE_MAX / 2;
    errno = 0;
    expect(reallocarray(kept, too_many, 3) == NULL && errno == ENOMEM, "a product that overflows");
    expect(kept[0] == 1, "the block stays");
    free(kept);
    p = reallocarray(malloc(10), 10, 2);
    expect(own_malloc_has(p), "a block of malloc is grown");
    free(realloc(p, 30));
}

static void *function(void *library, const char *name)
{
    void *address = dlsym(library, name);
    expect(address != NULL, name);
    return address;
}

static void blocks_of_a_late_library_are_its_own(const char *path)
{
    void *library = dlopen(path, RTLD_NOW);
    expect(library != NULL, "the library can be loaded");
    void *(*its_malloc)(size_t);
    void *(*its_reallocarray)(void *, size_t, size_t);
    void (*its_free)(void *);
    *(void **)&its_malloc = function(library, "malloc");
    *(void **)&its_reallocarray = function(library, "reallocarray");
    *(void **)&its_free = function(library, "free");
    char *p = its_reallocarray(its_malloc(10), 10, 10);
    expect(p != NULL && !own_malloc_has(p), "its reallocarray is of its heap");
    its_free(p);
}

int main(int argc, char **argv)
{
    expect(dlsym(RTLD_DEFAULT, "ap_malloc") != NULL || argc > 1, "the heap is there");
    blocks_of_reallocarray_are_the_programs();
    if (argc > 1) {
        blocks_of_a_late_library_are_its_own(argv[1]);
        blocks_of_reallocarray_are_the_programs();
    }
    return 0;
}
