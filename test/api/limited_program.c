/* SPDX-License-Identifier: MIT */
/*
 * limited_program.c: a program that runs out of memory. Helper of exhaustion_test.c.
 * Goal: every function says NULL and ENOMEM when there is no more, every block can be freed, and
 * then there is memory again. Method: allocate until NULL under a limit that was set before the
 * program started (mode "started") or that it sets itself while threads run.
 *
 * limited_program started|RLIMIT_AS|RLIMIT_DATA MEBIBYTES
 *   started: at least MEBIBYTES must be had; else MEBIBYTES is the limit that is set, beyond what
 *   the process uses. Exit status 0 if all is well, else a line on standard error and 1.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "entry_points.h"
#include "expect.h"

enum { THREADS = 9 };

#define MIB ((size_t)1 << 20)

/* Blocks are chained through their first word; the second holds their size. */
struct link {
    struct link *next;
    size_t size;
};

static size_t next_size(unsigned *state)
{
    static const size_t sizes[] = {16, 144, 1000, 4096, 16 << 10, 100 << 10, 300 << 10, 2 << 20};
    *state = *state * 1103515245 + 12345;
    return sizes[*state >> 16 & 7];
}

/* Allocates until NULL; returns the bytes that were had. */
static size_t exhaust(const struct entry_points *e, unsigned which, struct link **chain,
                      unsigned state)
{
    size_t bytes = 0;
    for (;;) {
        size_t size = next_size(&state);
        errno = 0;
        struct link *block = allocate(e, which, size);
        if (block == NULL) {
            if (errno != ENOMEM) {
                fail("%s(%zu) failed with errno %d", allocator_name(which), size, errno);
            }
            if (size <= 16) {
                return bytes;
            }
            /* Large ones fail first; go on until not even a small one is left. */
            block = allocate(e, which, 16);
            if (block == NULL) {
                return bytes;
            }
            size = 16;
        }
        block->next = *chain;
        block->size = size;
        *chain = block;
        bytes += size;
    }
}

static void free_all(const struct entry_points *e, struct link *chain)
{
    while (chain != NULL) {
        struct link *next = chain->next;
        errno = STALE_ERRNO;
        e->free(chain);
        if (errno != STALE_ERRNO) {
            fail("free set errno to %d", errno);
        }
        chain = next;
    }
}

/* After exhaustion: one block freed is one block to be had. */
static void expect_reuse(const struct entry_points *e)
{
    struct link *chain = NULL;
    (void)exhaust(e, 0, &chain, 1);
    for (struct link *at = chain; at != NULL && at->next != NULL; at = at->next->next) {
        struct link *victim = at->next;
        size_t size = victim->size;
        at->next = victim->next;
        e->free(victim);
        struct link *again = e->malloc(size);
        if (again == NULL) {
            fail("no block of %zu bytes after one was freed", size);
        }
        again->size = size;
        again->next = at->next;
        at->next = again;
        if (again->next == NULL) {
            break;
        }
    }
    free_all(e, chain);
}

static void run_started(size_t at_least)
{
    FOR_EACH_SET (e) {
        for (unsigned which = 0; which < ALLOCATORS; which++) {
            struct link *chain = NULL;
            size_t bytes = exhaust(e, which, &chain, which + 1);
            free_all(e, chain);
            /* Blocks of whole pages for small requests: the sum of requests says little. */
            bool whole_pages = which == 7 || which == 8;
            if (!whole_pages && bytes < at_least) {
                fail("%s %s: only %zu bytes", e->set, allocator_name(which), bytes);
            }
        }
        expect_reuse(e);
    }
}

static pthread_barrier_t limit_is_set;

static void *exhaust_in_thread(void *argument)
{
    unsigned number = *(unsigned *)argument;
    const struct entry_points *e = &entry_points[number % ENTRY_POINT_SETS];
    (void)pthread_barrier_wait(&limit_is_set);
    for (unsigned round = 0; round < 3; round++) {
        struct link *chain = NULL;
        (void)exhaust(e, number % ALLOCATORS, &chain, number + 10 * round + 1);
        free_all(e, chain);
    }
    return NULL;
}

/* Address space or data the process uses, without what is only reserved. */
static size_t used_bytes(int resource)
{
    size_t size = 0, data = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm == NULL || fscanf(statm, "%zu %*u %*u %*u %*u %zu", &size, &data) != 2) {
        fail("no /proc/self/statm");
    }
    (void)fclose(statm);
    return (resource == RLIMIT_DATA ? data : 0) * (size_t)sysconf(_SC_PAGESIZE);
}

static void run_with_limit(int resource, size_t more)
{
    pthread_t threads[THREADS];
    unsigned numbers[THREADS];
    (void)pthread_barrier_init(&limit_is_set, NULL, THREADS + 1);
    /* Before the limit is there: a thread's stack is memory, too. */
    for (unsigned i = 0; i < THREADS; i++) {
        numbers[i] = i;
        if (pthread_create(&threads[i], NULL, exhaust_in_thread, &numbers[i]) != 0) {
            fail("no thread");
        }
    }
    size_t bytes = used_bytes(resource) + more;
    if (resource == RLIMIT_AS) {
        bytes += THREADS * 8 * MIB + 16 * MIB; /* their stacks, libraries */
    }
    const struct rlimit limit = {.rlim_cur = bytes, .rlim_max = RLIM_INFINITY};
    if (setrlimit(resource, &limit) != 0) {
        fail("no limit");
    }
    (void)pthread_barrier_wait(&limit_is_set);
    for (unsigned i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    struct link *chain = NULL;
    size_t had = exhaust(&entry_points[0], 0, &chain, 7);
    free_all(&entry_points[0], chain);
    if (had < more / 4 || had > 2 * more + 32 * MIB) {
        fail("%zu bytes were had under a limit of %zu more", had, more);
    }
    expect_reuse(&entry_points[0]);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fail("usage: limited_program started|RLIMIT_AS|RLIMIT_DATA MEBIBYTES");
    }
    size_t mebibytes = strtoul(argv[2], NULL, 10) * MIB;
    if (strcmp(argv[1], "started") == 0) {
        run_started(mebibytes);
    } else {
        run_with_limit(strcmp(argv[1], "RLIMIT_AS") == 0 ? RLIMIT_AS : RLIMIT_DATA, mebibytes);
    }
    return 0;
}
