/* SPDX-License-Identifier: MIT */
/*
 * fork_torture.c: forks at full speed, whatever the others are doing.
 * Goal: no child and no parent ever hangs or finds its heap damaged. Method: eight threads use every size and
 * way of allocation while others fork without pause; each child looks at what it has inherited, frees it,
 * allocates, has threads and children of its own, and ends; the parent waits with a deadline. One
 * situation per mode; see `modes` at the end.
 *
 *     fork_torture MODE [SECONDS] [SEED]      SECONDS: those of AP_TORTURE_SECONDS, if set
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stress.h"
#include "support/consistency.h"
#include "watch.h"

enum {
    WORKERS = 8,
    FORKERS = 3,
    HELD = 64,  /* blocks of each worker */
    SHELF = 96, /* blocks that a forker has when it forks */
    SHARED = 128,
    SIZE_MOST = 5 << 20,
    CHILD_BLOCKS = 48,
};

static _Atomic(uint64_t) forks;
static _Atomic(unsigned) streams = 100; /* of random numbers, one per thread */

static void count_fork(void)
{
    atomic_fetch_add_explicit(&forks, 1, memory_order_relaxed);
}

/* ------------------------------------------------------------ blocks */

/* From any entry point, of any size. */
static void allocate(struct stress_block *block, struct stress_random *random)
{
    size_t size = stress_random_size(random, SIZE_MOST);
    size_t alignment = (size_t)16 << stress_random_below(random, 13);
    void *p = NULL;
    switch (stress_random_below(random, 6)) {
    case 0:
        p = aligned_alloc(alignment, size);
        break;
    case 1:
        STRESS_CHECK(posix_memalign(&p, alignment, size) == 0);
        break;
    case 2:
        p = calloc(1, size);
        alignment = 16;
        break;
    default:
        p = malloc(size);
        alignment = 16;
        break;
    }
    STRESS_CHECK(p != NULL);
    stress_block_fill(block, p, size, alignment, stress_random_next(random));
}

static void change(struct stress_block *block, struct stress_random *random)
{
    if (block->p == NULL) {
        allocate(block, random);
    } else if (stress_random_below(random, 4) == 0) {
        stress_block_realloc(block, stress_random_size(random, SIZE_MOST));
    } else {
        stress_block_free(block);
    }
}

/* Blocks of any thread. Who forks holds the mutex, so that the child knows what it has inherited. */
static struct {
    pthread_mutex_t mutex;
    struct stress_block blocks[SHARED];
} shared = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void change_shared(struct stress_random *random)
{
    (void)pthread_mutex_lock(&shared.mutex);
    change(&shared.blocks[stress_random_below(random, SHARED)], random);
    (void)pthread_mutex_unlock(&shared.mutex);
}

/* ------------------------------------------------------------ workers */

static void work(void)
{
    (void)setpriority(PRIO_PROCESS, 0, 10); /* of this thread: forks come first */
    struct stress_block held[HELD] = {0};
    struct stress_random random = stress_random_stream(atomic_fetch_add(&streams, 1));
    uint64_t done = 0;
    for (; !stress_is_over(); done++) {
        for (unsigned i = 0; i < 16; i++) {
            change(&held[stress_random_below(&random, HELD)], &random);
        }
        if (done % 4 == 0) {
            change_shared(&random);
        }
        if (done % 256 == 255) {
            ap_thread_idle();
        }
    }
    for (unsigned i = 0; i < HELD; i++) {
        stress_block_free(&held[i]);
    }
    stress_count(done * 16);
}

static void *live_shortly(void *unused)
{
    struct stress_block block = {0};
    struct stress_random random = stress_random_stream(atomic_fetch_add(&streams, 1));
    for (size_t left = stress_random_below(&random, 8) * 2 + 2; left > 0; left--) {
        change(&block, &random);
    }
    change_shared(&random);
    stress_block_free(&block);
    return unused;
}

/* Threads that come, allocate for the first time and go. */
static void churn_threads(void)
{
    while (!stress_is_over()) {
        pthread_t threads[2];
        for (unsigned i = 0; i < 2; i++) {
            STRESS_CHECK(pthread_create(&threads[i], NULL, live_shortly, NULL) == 0);
        }
        for (unsigned i = 0; i < 2; i++) {
            STRESS_CHECK(pthread_join(threads[i], NULL) == 0);
        }
    }
}

/* ------------------------------------------------------------ children */

static void use_heap(struct stress_random *random, unsigned blocks)
{
    struct stress_block mine[CHILD_BLOCKS] = {0};
    for (unsigned i = 0; i < blocks; i++) {
        allocate(&mine[i], random);
    }
    for (unsigned i = 0; i < blocks; i++) {
        stress_block_free(&mine[i]);
    }
}

static void expect_consistent(const char *fault)
{
    if (fault != NULL) {
        (void)fprintf(stderr, "%s\n", fault);
        STRESS_CHECK(!"the heap is consistent");
    }
}

static struct stress_block left_to_exit;

static void at_exit(void)
{
    struct stress_random random = stress_random_stream(7);
    stress_block_free(&left_to_exit);
    use_heap(&random, 5);
}

static void *thread_of_child(void *block)
{
    struct stress_random random = stress_random_stream(8);
    stress_block_free(block);
    use_heap(&random, 10);
    return NULL;
}

static void have_threads(struct stress_block *inherited)
{
    pthread_t threads[2];
    for (unsigned i = 0; i < 2; i++) {
        STRESS_CHECK(pthread_create(&threads[i], NULL, thread_of_child, &inherited[i]) == 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        STRESS_CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

static void have_child(unsigned number, struct stress_random *random)
{
    pid_t child = fork();
    STRESS_CHECK(child >= 0);
    if (child == 0) {
        watch_note(number + 1, "grandchild: use the heap");
        use_heap(random, 10);
        watch_note(number + 1, "grandchild: exit");
        exit(0);
    }
    watch_wait(child, number + 1);
}

static _Noreturn void live_as_child(unsigned number, struct stress_block *shelf,
                                    struct stress_random *random)
{
    size_t what = stress_random_below(random, 24);
    if (what >= 8) {
        watch_note(number, "child: use the heap and exit");
        use_heap(random, 6);
        stress_block_free(&shelf[what]);
        left_to_exit = shelf[SHELF - 1];
        exit(0);
    }
    watch_note(number, "child: check its heap");
    expect_consistent(consistency_find_fault_in_child());
    watch_note(number, "child: check what its parent had");
    for (unsigned i = 0; i < SHELF; i++) {
        stress_block_check(&shelf[i], shelf[i].size);
    }
    watch_note(number, "child: use the heap");
    use_heap(random, CHILD_BLOCKS);
    watch_note(number, "child: free what any thread of its parent's had");
    for (unsigned i = 0; i < SHARED; i++) {
        stress_block_free(&shared.blocks[i]);
    }
    watch_note(number, "child: realloc what its parent had");
    for (unsigned i = 0; i < SHELF; i += 2) {
        stress_block_realloc(&shelf[i], stress_random_size(random, SIZE_MOST));
    }
    if (what == 0) {
        watch_note(number, "child: threads");
        have_threads(shelf);
    } else if (what == 1) {
        watch_note(number, "child: a child");
        have_child(number, random);
    } else if (what == 2) {
        watch_note(number, "child: trim");
        (void)ap_trim();
    }
    watch_note(number, "child: free what its parent had");
    for (unsigned i = 0; i < SHELF - 1; i++) {
        stress_block_free(&shelf[i]);
    }
    watch_note(number, "child: check the heap it leaves");
    expect_consistent(consistency_find_fault_in_child());
    watch_note(number, "child: exit");
    left_to_exit = shelf[SHELF - 1];
    exit(0);
}

static void fork_once(unsigned number, struct stress_block *shelf, struct stress_random *random)
{
    watch_note(number, "fork");
    (void)pthread_mutex_lock(&shared.mutex);
    pid_t child = fork();
    if (child == 0) {
        live_as_child(number, shelf, random);
    }
    (void)pthread_mutex_unlock(&shared.mutex);
    STRESS_CHECK(child > 0);
    count_fork();
    watch_wait(child, number);
}

/* `number` is also that of its note; a grandchild has the next. */
static void fork_all_the_time(unsigned number)
{
    static struct stress_block shelves[FORKERS][SHELF];
    struct stress_block *shelf = shelves[number];
    struct stress_random random = stress_random_stream(number);
    for (unsigned i = 0; i < SHELF; i++) {
        allocate(&shelf[i], &random);
    }
    while (!stress_is_over()) {
        fork_once(2 * number, shelf, &random);
        unsigned i = (unsigned)stress_random_below(&random, SHELF);
        stress_block_free(&shelf[i]);
        allocate(&shelf[i], &random);
    }
    for (unsigned i = 0; i < SHELF; i++) {
        stress_block_free(&shelf[i]);
    }
}

/* ------------------------------------------------------------ modes load, threads, handlers */

static void load_body(unsigned number)
{
    if (number < FORKERS) {
        fork_all_the_time(number);
    } else {
        work();
    }
}

static void run_load(void)
{
    stress_run_threads(FORKERS + WORKERS, load_body);
}

static void threads_body(unsigned number)
{
    if (number < FORKERS) {
        fork_all_the_time(number);
    } else {
        churn_threads();
    }
}

static void run_threads(void)
{
    stress_run_threads(FORKERS + WORKERS / 2, threads_body);
}

static bool handlers_are_active;
static _Atomic(uint64_t) handler_calls;
static _Thread_local struct stress_block between_handlers;

/* As other libraries' handlers may: one block is carried from one handler to the next. */
static void handler_allocates(void)
{
    if (handlers_are_active) {
        struct stress_random random = stress_random_stream((unsigned)handler_calls++);
        stress_block_free(&between_handlers);
        use_heap(&random, CHILD_BLOCKS);
        allocate(&between_handlers, &random);
    }
}

/* Before any constructor, the library's too: these run while the library is prepared for the fork. */
static void register_early(void)
{
    (void)pthread_atfork(handler_allocates, handler_allocates, handler_allocates);
}
__attribute__((section(".preinit_array"),
               used)) static void (*const preinit)(void) = register_early;

static void run_handlers(void)
{
    handlers_are_active = true;
    STRESS_CHECK(pthread_atfork(handler_allocates, handler_allocates, handler_allocates) == 0);
    run_load();
    STRESS_CHECK(atomic_load(&handler_calls) >= 4 * atomic_load(&forks));
}

/* ------------------------------------------------------------ mode table */

enum { ROUND_LARGE = 2500, ROUND_FORKS = 40, LARGE_SIZE = 300 << 10 };

static void *grow_table(void *unused)
{
    static _Thread_local void *blocks[ROUND_LARGE];
    for (unsigned i = 0; i < ROUND_LARGE; i++) {
        blocks[i] = malloc(LARGE_SIZE);
        STRESS_CHECK(blocks[i] != NULL);
    }
    for (unsigned i = 0; i < ROUND_LARGE; i++) {
        free(blocks[i]);
    }
    return unused;
}

/* A process that has had few large objects: its table grows several times while it forks. */
static _Noreturn void live_as_growing_process(void)
{
    struct stress_random random = stress_random_stream(atomic_fetch_add(&streams, 1));
    static struct stress_block shelf[SHELF];
    pthread_t threads[4];
    for (unsigned i = 0; i < SHELF; i++) {
        stress_block_fill(&shelf[i], malloc(LARGE_SIZE), LARGE_SIZE, 16, i);
    }
    for (unsigned i = 0; i < 4; i++) {
        STRESS_CHECK(pthread_create(&threads[i], NULL, grow_table, NULL) == 0);
    }
    for (unsigned i = 0; i < ROUND_FORKS; i++) {
        fork_once(2, shelf, &random);
    }
    for (unsigned i = 0; i < 4; i++) {
        STRESS_CHECK(pthread_join(threads[i], NULL) == 0);
    }
    _exit(0);
}

static void run_table(void)
{
    while (!stress_is_over()) {
        watch_note(0, "a process whose table grows");
        atomic_fetch_add(&streams, 1);
        pid_t child = fork();
        STRESS_CHECK(child >= 0);
        if (child == 0) {
            live_as_growing_process();
        }
        watch_wait(child, 0);
        atomic_fetch_add(&forks, 1 + ROUND_FORKS);
    }
}

/* ------------------------------------------------------------ modes signal, signal_threads */

static bool by_underscore_fork;
static unsigned nested_most; /* handlers within handlers */
static _Thread_local volatile sig_atomic_t nested;

/* Only _exit is safe in the child; the parent goes on as if nothing had happened. */
static void fork_in_handler(int signal_number)
{
    (void)signal_number;
    int saved_errno = errno;
    if (nested < (int)nested_most) {
        nested++;
        pid_t child = by_underscore_fork ? _Fork() : fork();
        if (child == 0) {
            _exit(0);
        }
        STRESS_CHECK(child > 0);
        count_fork();
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
        }
        nested--;
    }
    errno = saved_errno;
}

/* By the clock of the process's own work, so that forks do not starve it. */
static void set_timer(long period_us)
{
    const struct itimerval often = {{0, period_us}, {0, period_us}};
    const struct sigaction action = {.sa_handler = fork_in_handler,
                                     .sa_flags = SA_RESTART | SA_NODEFER};
    STRESS_CHECK(sigaction(SIGPROF, &action, NULL) == 0);
    STRESS_CHECK(setitimer(ITIMER_PROF, &often, NULL) == 0);
}

/* One thread allocates, and forks, too; handlers that fork interrupt either. */
static void run_signal(void)
{
    nested_most = 2;
    set_timer(1000);
    fork_all_the_time(0);
    set_timer(0);
}

static void work_body(unsigned number)
{
    (void)number;
    work();
}

static void run_signal_threads(void)
{
    nested_most = 1;
    by_underscore_fork = true;
    set_timer(1000);
    stress_run_threads(WORKERS, work_body);
    set_timer(0);
}

/* ------------------------------------------------------------ mode spawn */

static char true_program[] = "/bin/true";

static void spawn_by_vfork(unsigned number)
{
    char *arguments[] = {true_program, NULL};
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    pid_t child = vfork();
#pragma GCC diagnostic pop
    if (child == 0) {
        (void)execv(true_program, arguments);
        _exit(127);
    }
    STRESS_CHECK(child > 0);
    watch_wait(child, number);
}

static void spawn_by_posix_spawn(unsigned number)
{
    extern char **environ;
    char *arguments[] = {true_program, NULL};
    pid_t child;
    STRESS_CHECK(posix_spawn(&child, true_program, NULL, NULL, arguments, environ) == 0);
    watch_wait(child, number);
}

static void spawn_by_popen(void)
{
    char text[32] = "";
    FILE *pipe_end = popen("echo 12345", "r");
    STRESS_CHECK(pipe_end != NULL && fgets(text, sizeof text, pipe_end) != NULL);
    STRESS_CHECK(strcmp(text, "12345\n") == 0);
    STRESS_CHECK(pclose(pipe_end) == 0);
    STRESS_CHECK(system("exit 3") >> 8 == 3);
}

static void spawn_body(unsigned number)
{
    if (number >= FORKERS) {
        work();
        return;
    }
    for (unsigned i = number; !stress_is_over(); i++) {
        watch_note(2 * number, "spawn");
        if (i % 3 == 0) {
            spawn_by_vfork(2 * number);
        } else if (i % 3 == 1) {
            spawn_by_posix_spawn(2 * number);
        } else {
            spawn_by_popen();
        }
        count_fork();
    }
}

static void run_spawn(void)
{
    stress_run_threads(FORKERS + WORKERS, spawn_body);
}

/* ------------------------------------------------------------ */

static const struct {
    const char *name;
    void (*run)(void);
} modes[] = {
    {"load", run_load},
    {"threads", run_threads}, /* that allocate for the first time, and end */
    {"handlers",
     run_handlers},         /* for forks that allocate, registered before and after the library's */
    {"table", run_table},   /* of large objects, growing */
    {"signal", run_signal}, /* handlers fork where they interrupted malloc, free or fork */
    {"signal_threads", run_signal_threads}, /* the same by _Fork, many threads */
    {"spawn", run_spawn},                   /* vfork and exec, posix_spawn, popen, system */
};

int main(int argc, char **argv)
{
    char *seconds = getenv("AP_TORTURE_SECONDS");
    char *arguments[] = {argv[0],
                         seconds != NULL ? seconds
                         : argc > 2      ? argv[2]
                                         : NULL,
                         argc > 3 ? argv[3] : NULL, NULL};
    for (size_t i = 0; argc > 1 && i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(argv[1], modes[i].name) == 0) {
            stress_begin(argc > 3 ? 3 : arguments[1] != NULL ? 2 : 1, arguments, argv[1]);
            watch_begin();
            STRESS_CHECK(atexit(at_exit) == 0);
            modes[i].run();
            expect_consistent(consistency_find_fault());
            (void)printf("%s: %llu forks\n", argv[1], (unsigned long long)atomic_load(&forks));
            return stress_finish();
        }
    }
    return 2;
}
