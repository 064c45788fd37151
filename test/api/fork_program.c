/* SPDX-License-Identifier: MIT */
/*
 * fork_program.c: a program that forks. Helper of fork_test.c.
 * Goal: both sides go on, whatever other threads did at that moment and whatever fork handlers do.
 * Method: one mode per situation, each a bounded number of forks; a child that hangs is ended by
 * its alarm, which the parent sees. Exit status 0 if all is well.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "entry_points.h"
#include "expect.h"
#include "good_end.h"

enum { BLOCKS = 200, CHILD_SECONDS = 30, WORKERS = 4 };

static void use_heap(unsigned seed)
{
    static const size_t sizes[] = {8, 64, 500, 3000, 20000, 150000, 300000, 1000000};
    enum { N = sizeof sizes / sizeof sizes[0] };
    const struct entry_points *e = &entry_points[seed % ENTRY_POINT_SETS];
    void *blocks[N];
    for (unsigned i = 0; i < N; i++) {
        blocks[i] = allocate(e, (seed + i) % ALLOCATORS, sizes[i]);
        expect(blocks[i] != NULL, "memory");
        fill(blocks[i], sizes[i] < 4096 ? sizes[i] : 4096, seed);
    }
    for (unsigned i = 0; i < N; i++) {
        expect(is_filled(blocks[i], sizes[i] < 4096 ? sizes[i] : 4096, seed), "contents");
        e->free(blocks[i]);
    }
}

/* --- threads at work while others fork --- */

static atomic_bool stop_workers;
static pthread_t workers[WORKERS];
/* Blocks that travel between workers: allocated by one, freed by another. */
static _Atomic(void *) in_transit[64];

static void *work(void *number)
{
    unsigned state = *(unsigned *)number;
    while (!atomic_load(&stop_workers)) {
        state = state * 1103515245 + 12345;
        size_t size = (state >> 8) % 4 == 0 ? state % 500000 : state % 2000;
        ap_free(atomic_exchange(&in_transit[state >> 20 & 63], ap_malloc(size)));
        if ((state >> 12) % 64 == 0) {
            ap_thread_idle();
        }
    }
    return NULL;
}

static void start_workers(void)
{
    static unsigned numbers[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        numbers[i] = i + 1;
        expect(pthread_create(&workers[i], NULL, work, &numbers[i]) == 0, "a worker");
    }
}

static void end_workers(void)
{
    atomic_store(&stop_workers, true);
    for (unsigned i = 0; i < WORKERS; i++) {
        expect(pthread_join(workers[i], NULL) == 0, "a thread ends");
    }
}

/* --- mode threads --- */

static void *thread_of_child(void *block)
{
    for (unsigned i = 0; i < 5; i++) {
        use_heap(i);
    }
    ap_free(block);
    return ap_malloc(100);
}

static void live_as_child(void *const blocks[BLOCKS], const size_t sizes[BLOCKS])
{
    enum { THREADS = 3 };
    pthread_t threads[THREADS];
    (void)alarm(CHILD_SECONDS);
    use_heap(1);
    for (unsigned i = THREADS; i < BLOCKS; i++) {
        expect(is_filled(blocks[i], sizes[i], i), "blocks of the parent keep their contents");
        ap_free(blocks[i]);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        expect(pthread_create(&threads[i], NULL, thread_of_child, blocks[i]) == 0, "a thread");
    }
    for (unsigned i = 0; i < THREADS; i++) {
        void *left = NULL;
        expect(pthread_join(threads[i], &left) == 0 && left != NULL, "a thread ends");
        ap_free(left);
    }
    for (unsigned i = 0; i < 64; i++) {
        ap_free(atomic_exchange(&in_transit[i], NULL)); /* other threads' blocks */
    }
    (void)ap_trim();
    (void)ap_mallinfo2();
    use_heap(2);
}

/* Children use the heap fully, create threads, fork again, and exit normally. */
static void fork_with_threads(void)
{
    enum { FORKS = 30 };
    start_workers();
    for (unsigned round = 0; round < FORKS; round++) {
        void *blocks[BLOCKS];
        size_t sizes[BLOCKS];
        for (unsigned i = 0; i < BLOCKS; i++) {
            sizes[i] = i % 20 == 19 ? 300000 : i * 37 % 3000;
            blocks[i] = ap_malloc(sizes[i]);
            fill(blocks[i], sizes[i], i);
        }
        pid_t child = fork();
        expect(child >= 0, "a child");
        if (child == 0) {
            live_as_child(blocks, sizes);
            pid_t grandchild = fork();
            if (grandchild == 0) {
                (void)alarm(CHILD_SECONDS);
                use_heap(3);
                exit(0);
            }
            expect(grandchild > 0, "a grandchild");
            expect_good_end(grandchild);
            exit(0);
        }
        use_heap(round);
        expect_good_end(child);
        for (unsigned i = 0; i < BLOCKS; i++) {
            expect(is_filled(blocks[i], sizes[i], i), "blocks of the parent keep their contents");
            ap_free(blocks[i]);
        }
    }
    end_workers();
}

/* --- mode handlers --- */

static atomic_bool handlers_active;
static atomic_uint handler_calls;
static _Atomic(void *) handler_block;

static void handler_allocates(void)
{
    static atomic_uint seed;
    if (!atomic_load(&handlers_active)) {
        return;
    }
    void *block = ap_malloc(1000 + 300000 * (atomic_fetch_add(&seed, 1) % 2));
    expect(block != NULL, "memory in a fork handler");
    ap_free(atomic_exchange(&handler_block, block));
    for (int i = 0; i < 100; i++) {
        ap_free(ap_malloc((size_t)i * 50));
    }
    void *chain = NULL;
    for (int i = 0; i < 3000; i++) { /* beyond what any cache holds */
        void **link = ap_malloc(100);
        *link = chain;
        chain = link;
    }
    while (chain != NULL) {
        void *next = *(void **)chain;
        ap_free(chain);
        chain = next;
    }
    (void)ap_mallinfo2();
    (void)ap_trim();
    atomic_fetch_add(&handler_calls, 1);
}

/* Before any constructor, the library's own too: these handlers run inside of the library's. */
static void register_early(void)
{
    (void)pthread_atfork(handler_allocates, handler_allocates, handler_allocates);
}
__attribute__((section(".preinit_array"),
               used)) static void (*const preinit)(void) = register_early;

static void fork_with_handlers(void)
{
    enum { FORKS = 40 };
    atomic_store(&handlers_active, true);
    expect(pthread_atfork(handler_allocates, handler_allocates, handler_allocates) == 0, "atfork");
    start_workers();
    for (unsigned round = 0; round < FORKS; round++) {
        pid_t child = fork();
        expect(child >= 0, "a child");
        if (child == 0) {
            (void)alarm(CHILD_SECONDS);
            use_heap(round);
            pthread_t thread;
            expect(pthread_create(&thread, NULL, thread_of_child, NULL) == 0, "a thread");
            void *left;
            expect(pthread_join(thread, &left) == 0, "a thread ends");
            ap_free(left);
            exit(0);
        }
        expect_good_end(child);
    }
    end_workers();
    expect(atomic_load(&handler_calls) >= 4 * FORKS, "handlers run");
}

/* --- mode forkers --- */

static atomic_uint forks_left = 120;

static void *fork_and_wait(void *unused)
{
    while (atomic_load(&forks_left) != 0) {
        pid_t child = fork();
        expect(child >= 0, "a child");
        if (child == 0) {
            (void)alarm(CHILD_SECONDS);
            use_heap(5);
            _exit(0);
        }
        expect_good_end(child);
        unsigned left = atomic_load(&forks_left);
        while (left != 0 && !atomic_compare_exchange_weak(&forks_left, &left, left - 1)) {
        }
    }
    return unused;
}

/* Several threads fork while others allocate and one flushes all streams (libio's locks). */
static void fork_from_many_threads(void)
{
    enum { FORKERS = 4 };
    pthread_t forkers[FORKERS];
    start_workers();
    for (int i = 0; i < FORKERS; i++) {
        expect(pthread_create(&forkers[i], NULL, fork_and_wait, NULL) == 0, "a thread that forks");
    }
    while (atomic_load(&forks_left) != 0) {
        (void)fflush(NULL);
        use_heap(6);
    }
    for (int i = 0; i < FORKERS; i++) {
        expect(pthread_join(forkers[i], NULL) == 0, "a thread ends");
    }
    end_workers();
}

/* --- modes signal and signal_threads --- */

static atomic_uint forks_in_handler;
static bool fork_without_handlers;

static void fork_in_handler(int signal_number)
{
    (void)signal_number;
    int saved_errno = errno;
    pid_t child = fork_without_handlers ? _Fork() : fork();
    if (child == 0) {
        _exit(0);
    }
    if (child > 0) {
        int status;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        atomic_fetch_add(&forks_in_handler, 1);
    }
    errno = saved_errno;
}

/* A handler forks wherever it interrupted the heap; the child only exits. The clock is that of the
 * process's own work, so forks cannot starve it. */
static void fork_from_signals(bool threaded)
{
    enum { FORKS = 300 };
    const struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART};
    fork_without_handlers = threaded;
    if (threaded) {
        start_workers();
    }
    expect(sigaction(SIGPROF, &action, NULL) == 0, "sigaction");
    expect(setitimer(ITIMER_PROF, &often, NULL) == 0, "setitimer");
    for (unsigned i = 0; atomic_load(&forks_in_handler) < FORKS; i++) {
        use_heap(i);
    }
    expect(setitimer(ITIMER_PROF, &never, NULL) == 0, "setitimer");
    if (threaded) {
        end_workers();
    }
    use_heap(0);
}

/* --- mode spawn --- */

static void spawn_under_load(void)
{
    enum { ROUNDS = 20 };
    extern char **environ;
    start_workers();
    for (unsigned round = 0; round < ROUNDS; round++) {
        static char program[] = "/bin/true";
        char *arguments[] = {program, NULL};
        pid_t child;
        expect(posix_spawn(&child, arguments[0], NULL, NULL, arguments, environ) == 0, "spawn");
        expect_good_end(child);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
        child = vfork();
#pragma GCC diagnostic pop
        if (child == 0) {
            (void)execv(arguments[0], arguments);
            _exit(127);
        }
        expect_good_end(child);
        FILE *pipe_end = popen("echo 12345", "r");
        char text[32] = "";
        expect(pipe_end != NULL && fgets(text, sizeof text, pipe_end) != NULL, "popen");
        expect(strcmp(text, "12345\n") == 0, "popen's text");
        expect(pclose(pipe_end) == 0, "pclose");
        expect(system("exit 3") >> 8 == 3, "system");
        use_heap(round);
    }
    end_workers();
}

/* --- mode first --- */

static void *first_use(void *unused)
{
    use_heap(7);
    return unused;
}

/* A fork right when another thread uses the heap for the first time. */
static void fork_at_first_use(void)
{
    enum { FORKS = 200 };
    for (unsigned round = 0; round < FORKS; round++) {
        pthread_t thread;
        expect(pthread_create(&thread, NULL, first_use, NULL) == 0, "a thread");
        pid_t child = fork();
        expect(child >= 0, "a child");
        if (child == 0) {
            (void)alarm(CHILD_SECONDS);
            use_heap(8);
            exit(0);
        }
        expect(pthread_join(thread, NULL) == 0, "a thread ends");
        expect_good_end(child);
    }
}

int main(int argc, char **argv)
{
    const char *mode = argc == 2 ? argv[1] : "";
    if (strcmp(mode, "threads") == 0) {
        fork_with_threads();
    } else if (strcmp(mode, "handlers") == 0) {
        fork_with_handlers();
    } else if (strcmp(mode, "forkers") == 0) {
        fork_from_many_threads();
    } else if (strcmp(mode, "signal") == 0) {
        fork_from_signals(false);
    } else if (strcmp(mode, "signal_threads") == 0) {
        fork_from_signals(true);
    } else if (strcmp(mode, "spawn") == 0) {
        spawn_under_load();
    } else if (strcmp(mode, "first") == 0) {
        fork_at_first_use();
    } else {
        return 2;
    }
    return 0;
}
