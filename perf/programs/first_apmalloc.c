/* SPDX-License-Identifier: MIT */
/*
 * first_apmalloc: the first version's scheme, to preload: each allocation its own mmap, and one locked
 * table with linear probing that knows the lengths.
 * It is here so that one can see how far the library has come; nothing else uses it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, CELLS = 1 << 20 }; /* more live blocks than the kernel allows mappings */

struct cell {
    uintptr_t address; /* 0: never used; 1: deleted */
    size_t bytes;
};

static struct cell cells[CELLS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static size_t home(uintptr_t address)
{
    return (size_t)((address / PAGE) * 0x9e3779b97f4a7c15u >> 44) % CELLS;
}

static void enter(uintptr_t address, size_t bytes)
{
    pthread_mutex_lock(&lock);
    size_t at = home(address);
    while (cells[at].address > 1)
        at = (at + 1) % CELLS;
    cells[at] = (struct cell){address, bytes};
    pthread_mutex_unlock(&lock);
}

/* The length, or 0; with `remove` the entry goes. */
static size_t find(uintptr_t address, bool remove)
{
    size_t bytes = 0;
    pthread_mutex_lock(&lock);
    for (size_t at = home(address); cells[at].address != 0; at = (at + 1) % CELLS) {
        if (cells[at].address == address) {
            bytes = cells[at].bytes;
            if (remove)
                cells[at].address = 1;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    return bytes;
}

static void *map(size_t bytes, size_t alignment)
{
    size_t length = bytes + (alignment > PAGE ? alignment : 0);
    if (length < bytes || length > PTRDIFF_MAX) {
        errno = ENOMEM;
        return NULL;
    }
    length = (length + (length == 0) + PAGE - 1) & ~(size_t)(PAGE - 1);
    char *start = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) {
        errno = ENOMEM;
        return NULL;
    }
    size_t skip = alignment > PAGE ? -(uintptr_t)start & (alignment - 1) : 0;
    if (skip > 0)
        munmap(start, skip);
    enter((uintptr_t)start + skip, length - skip);
    return start + skip;
}

void *malloc(size_t bytes)
{
    return map(bytes, 0);
}

void free(void *block)
{
    int saved = errno;
    size_t bytes = block ? find((uintptr_t)block, true) : 0;
    if (bytes > 0)
        munmap(block, bytes);
    errno = saved;
}

void *calloc(size_t count, size_t bytes)
{
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total))
        total = SIZE_MAX;
    return map(total, 0);
}

void *realloc(void *block, size_t bytes)
{
    size_t old = block ? find((uintptr_t)block, false) : 0;
    void *moved = map(bytes, 0);
    if (moved != NULL && old > 0) {
        memcpy(moved, block, old < bytes ? old : bytes);
        free(block);
    }
    return moved;
}

void *memalign(size_t alignment, size_t bytes)
{
    return map(bytes, alignment);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return map(bytes, alignment);
}

int posix_memalign(void **block, size_t alignment, size_t bytes)
{
    *block = map(bytes, alignment);
    return *block ? 0 : ENOMEM;
}

size_t malloc_usable_size(void *block)
{
    return block ? find((uintptr_t)block, false) : 0;
}
