/* SPDX-License-Identifier: MIT */
/*
 * plugin.c: a library that is loaded and unloaded again. Helper of life_test.c. It has thread-local
 * storage of its own, larger than what libc keeps in reserve, so that it is allocated on demand.
 */
#include <stdlib.h>
#include <string.h>

char *plugin_use(int mark);

static _Thread_local char storage[3000];

/* A block with the mark, which outlives the library. */
char *plugin_use(int mark)
{
    memset(storage, mark, sizeof storage);
    char *block = malloc(sizeof storage);
    if (block != NULL) {
        memcpy(block, storage, sizeof storage);
    }
    return block;
}
