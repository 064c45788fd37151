/* SPDX-License-Identifier: MIT */
/*
 * foreign_program.c: a program that hands another allocator's block to this one. Helper of
 * foreign_test.c.
 *
 * foreign_program KIND FUNCTION SET: prints the block's address, then calls the function of the set
 * (libc or ap) with it, then prints "went on". Kinds: where the block is from,
 *   dlmopen    a library in a namespace of its own, which has a libc of its own
 *   deepbind   a library that prefers its dependencies' names to the program's
 *   ld.so      the dynamic loader, before it knew any malloc
 *   libc       libc's malloc, looked for in libc alone
 */
#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "entry_points.h"

static _Noreturn void fail(const char *what)
{
    (void)dprintf(STDERR_FILENO, "failed: %s\n", what);
    _exit(1);
}

static char *block_of_library(void *library)
{
    char *(*use)(int mark);
    if (library == NULL) {
        fail(dlerror());
    }
    *(void **)&use = dlsym(library, "plugin_use");
    return use == NULL ? NULL : use('x');
}

/* The loader's record of libc itself, made before libc was there. */
static void *block_of_loader(void)
{
    for (struct link_map *map = _r_debug.r_map; map != NULL; map = map->l_next) {
        if (strstr(map->l_name, "libc.so") != NULL) {
            return map;
        }
    }
    return NULL;
}

static void *block_of(const char *kind)
{
    const char *path = beside_test("libforeign_plugin.so");
    if (strcmp(kind, "dlmopen") == 0) {
        return block_of_library(dlmopen(LM_ID_NEWLM, path, RTLD_NOW | RTLD_LOCAL));
    }
    if (strcmp(kind, "deepbind") == 0) {
        return block_of_library(dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND));
    }
    if (strcmp(kind, "ld.so") == 0) {
        return block_of_loader();
    }
    void *(*libc_malloc)(size_t size);
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    *(void **)&libc_malloc = libc == NULL ? NULL : dlsym(libc, "malloc");
    return libc_malloc == NULL ? NULL : libc_malloc(100);
}

static void call(const struct entry_points *e, const char *function, void *p)
{
    if (strcmp(function, "free") == 0) {
        e->free(p);
    } else if (strcmp(function, "cfree") == 0) {
        e->cfree(p);
    } else if (strcmp(function, "realloc") == 0) {
        (void)e->realloc(p, 1000);
    } else if (strcmp(function, "reallocarray") == 0) {
        (void)e->reallocarray(p, 10, 100);
    } else if (strcmp(function, "usable_size") == 0) {
        (void)e->usable_size(p);
    } else if (strcmp(function, "free_sized") == 0) {
        e->free_sized(p, 100);
    } else if (strcmp(function, "free_aligned_sized") == 0) {
        e->free_aligned_sized(p, 16, 100);
    } else {
        fail(function);
    }
}

int main(int argc, char **argv)
{
    char image[16];
    if (argc != 4) {
        fail("usage: foreign_program KIND FUNCTION SET");
    }
    void *p = block_of(argv[1]);
    if (p == NULL) {
        (void)dprintf(STDERR_FILENO, "none\n");
        return 77;
    }
    memcpy(image, p, sizeof image);
    (void)dprintf(STDERR_FILENO, "0x%lx\n", (unsigned long)(uintptr_t)p);
    call(&entry_points[strcmp(argv[3], "ap") == 0], argv[2], p);
    if (memcmp(image, p, sizeof image) != 0) {
        fail("the block has changed");
    }
    free(malloc(100));
    (void)dprintf(STDERR_FILENO, "went on\n");
    return 0;
}
