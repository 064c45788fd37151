/* SPDX-License-Identifier: MIT */
/*
 * ifunc_program.c: a program whose first use of the heap is while it is being linked at run time.
 * Helper of early_test.c.
 * Goal: malloc, calloc, realloc and free work when the loader resolves an indirect function, before
 * any initialiser of any library. Method: the resolver allocates; main looks whether the blocks are
 * this library's and hold what was written. Nothing here is linked to apmalloc by name, so that the
 * program runs with it linked and preloaded; dlsym tells which.
 *
 * Prints "resolved by apmalloc" and ends with status 0 if all is well.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL_BYTES = 1000, LARGE_BYTES = 3000000 };

static char *small, *large;

static int answer(void)
{
    return 42;
}

__attribute__((used)) static int (*resolve(void))(void)
{
    free(malloc(100));
    small = calloc(1, SMALL_BYTES);
    if (small != NULL) {
        memset(small, 's', SMALL_BYTES);
    }
    large = realloc(malloc(100000), LARGE_BYTES);
    if (large != NULL) {
        memset(large, 'l', LARGE_BYTES);
    }
    return answer;
}

int indirect(void) __attribute__((ifunc("resolve")));
int (*volatile indirect_pointer)(void) = indirect;

static int holds(const char *block, size_t size, char mark)
{
    size_t (*usable_size)(void *p);
    *(void **)&usable_size = dlsym(RTLD_DEFAULT, "ap_usable_size");
    return block != NULL && usable_size != NULL && usable_size((void *)(uintptr_t)block) >= size &&
           block[0] == mark && block[size - 1] == mark;
}

int main(void)
{
    if (indirect() != 42 || indirect_pointer() != 42) {
        return 1;
    }
    if (!holds(small, SMALL_BYTES, 's') || !holds(large, LARGE_BYTES, 'l')) {
        return 2;
    }
    free(small);
    free(large);
    (void)puts("resolved by apmalloc");
    return 0;
}
