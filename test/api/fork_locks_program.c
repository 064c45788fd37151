/* SPDX-License-Identifier: MIT */
/*
 * fork_locks_program.c: threads allocate while they hold locks that a fork takes, too.
 * Goal: no deadlock. Who forks must not wait for such a lock with the heap's locks in hand, since who has the lock may
 * wait for these: so the heap's come last. Method: the lock of a library with fork handlers, older than ours where
 * the program begins that way; libc's own lock of the list of streams. A hang is ended by the alarm.
 *
 * fork_locks_program library|streams. Linked with the heap, or preloaded. Status 0 if all is well.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "expect.h"
#include "good_end.h"
#include "locking_library.h"

enum { FORKS = 400, SECONDS = 60, THREADS = 2 };

static atomic_bool stop;
static FILE *stream;

static void *use_library(void *unused)
{
    while (!stop) {
        expect(locking_library_work() != 0, "memory");
    }
    return unused;
}

/* The list's lock, then one stream's. */
static void *flush_all(void *unused)
{
    while (!stop) {
        (void)fflush(NULL);
        (void)usleep(200);
    }
    return unused;
}

/* One stream's lock, then the heap's. */
static void *write_stream(void *unused)
{
    while (!stop) {
        flockfile(stream);
        (void)usleep(300);
        for (size_t i = 0; i < 32; i++) {
            free(malloc(300000 + i * 65536));
        }
        (void)fputs("x", stream);
        funlockfile(stream);
        (void)usleep(50);
    }
    return unused;
}

static void fork_and_wait(void)
{
    pid_t child = fork();
    if (child == 0) {
        (void)alarm(SECONDS);
        expect(locking_library_work() != 0, "memory in the child");
        expect(fflush(NULL) == 0, "streams in the child");
        FILE *opened = fopen("/dev/null", "w");
        expect(opened != NULL && fclose(opened) == 0, "a stream of the child's");
        _exit(0);
    }
    expect_good_end(child);
}

static void run(void *(*first)(void *), void *(*second)(void *))
{
    pthread_t threads[THREADS];
    expect(pthread_create(&threads[0], NULL, first, NULL) == 0, "a thread");
    expect(pthread_create(&threads[1], NULL, second, NULL) == 0, "a thread");
    for (int i = 0; i < FORKS; i++) {
        fork_and_wait();
    }
    stop = true;
    for (int i = 0; i < THREADS; i++) {
        expect(pthread_join(threads[i], NULL) == 0, "its end");
    }
}

int main(int argc, char **argv)
{
    expect(argc == 2, "usage: fork_locks_program library|streams");
    (void)alarm(SECONDS);
    fork_and_wait(); /* of one thread */
    stream = fopen("/dev/null", "w");
    expect(stream != NULL, "a stream");
    if (strcmp(argv[1], "library") == 0) {
        run(use_library, use_library);
    } else {
        run(flush_all, write_stream);
    }
    fork_and_wait();
    return 0;
}
