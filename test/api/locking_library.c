/* SPDX-License-Identifier: MIT */
/*
 * locking_library.c: a library with a lock, under which it allocates, and which it keeps whole across a fork, as
 * POSIX says how. Helper of fork_locks_program.c.
 * Its constructor registers the handlers before anything is allocated, and forks: the first use is a child's.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "locking_library.h"

enum { BLOCKS = 16, BLOCK_BYTES = 300000 }; /* large: each call takes a lock of the heap */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void take(void)
{
    (void)pthread_mutex_lock(&lock);
}

static void release(void)
{
    (void)pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void watch(void)
{
    (void)pthread_atfork(take, release, release);
    pid_t child = fork();
    if (child == 0) {
        _exit(locking_library_work() ? 0 : 1);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        _exit(1);
    }
}

int locking_library_work(void)
{
    void *blocks[BLOCKS];
    int done = 1;
    take();
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(BLOCK_BYTES + (size_t)i * 65536);
        done &= blocks[i] != NULL;
    }
    for (int i = 0; i < BLOCKS; i++) {
        free(blocks[i]);
    }
    release();
    return done;
}
