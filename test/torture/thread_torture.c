/* SPDX-License-Identifier: MIT */
/*
 * thread_torture.c: threads in great numbers, ended in odd ways, on stacks of every kind.
 * Goal: memory does not grow with the number of threads that were there, no thread is too small for the heap,
 * and one that is cancelled in the middle of a call does not stop the others. Method: one situation per
 * mode; see `modes` at the end. Growth is read from the library's statistics and from the kernel.
 *
 *     thread_torture MODE
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "os/lock.h"
#include "stress.h"
#include "support/consistency.h"
#include "support/process_view.h"
#include "watch.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static void expect_consistent(void)
{
    const char *fault = consistency_find_fault();
    if (fault != NULL) {
        (void)fprintf(stderr, "%s\n", fault);
        STRESS_CHECK(!"the heap is consistent");
    }
}

/* Sizes around which paths differ, and chains that make caches overflow. */
static void use_heap(unsigned seed)
{
    struct stress_random random = stress_random_stream(seed);
    struct stress_block blocks[16];
    for (unsigned i = 0; i < 16; i++) {
        stress_block_allocate(&blocks[i], stress_random_size(&random, 2 * MIB), &random);
        STRESS_CHECK(blocks[i].p != NULL);
    }
    for (unsigned i = 0; i < 16; i++) {
        stress_block_realloc(&blocks[i], stress_random_size(&random, 2 * MIB));
        stress_block_free(&blocks[i]);
    }
}

static void use_chain(size_t size, unsigned length)
{
    void *chain = NULL;
    for (unsigned i = 0; i < length; i++) {
        void **block = malloc(size);
        STRESS_CHECK(block != NULL);
        *block = chain;
        chain = block;
    }
    while (chain != NULL) {
        void *next = *(void **)chain;
        free(chain);
        chain = next;
    }
}

static pthread_t start(void *(*body)(void *), void *argument, size_t stack_bytes)
{
    pthread_attr_t attributes;
    pthread_t thread;
    (void)pthread_attr_init(&attributes);
    STRESS_CHECK(pthread_attr_setstacksize(&attributes, stack_bytes) == 0);
    STRESS_CHECK(pthread_create(&thread, &attributes, body, argument) == 0);
    (void)pthread_attr_destroy(&attributes);
    return thread;
}

static void join(pthread_t thread)
{
    STRESS_CHECK(pthread_join(thread, NULL) == 0);
}

/* ------------------------------------------------------------ mode many */

static void *leave_one_of_three(void *kept)
{
    struct stress_block block;
    struct stress_random random = stress_random_stream((unsigned)(uintptr_t)kept);
    stress_block_allocate(&block, stress_random_size(&random, 64 * KIB), &random);
    *(void **)kept = malloc(100);
    stress_block_free(&block);
    return NULL;
}

/* 100000, a few at a time, each with a block that the main thread frees. */
static void run_many(void)
{
    enum { THREADS = 100000, AT_ONCE = 4, WARM_UP = 1000 };
    size_t live = 0;
    size_t arena = 0;
    size_t resident = 0;
    for (unsigned i = 0; i < THREADS; i += AT_ONCE) {
        pthread_t threads[AT_ONCE];
        void *kept[AT_ONCE];
        for (unsigned k = 0; k < AT_ONCE; k++) {
            threads[k] = start(leave_one_of_three, &kept[k], PTHREAD_STACK_MIN + 16 * KIB);
        }
        for (unsigned k = 0; k < AT_ONCE; k++) {
            join(threads[k]);
            free(kept[k]);
        }
        if (i == WARM_UP) {
            live = ap_mallinfo2().uordblks;
            arena = ap_mallinfo2().arena;
            resident = view_resident_bytes();
        }
    }
    size_t live_after = ap_mallinfo2().uordblks;
    size_t arena_after = ap_mallinfo2().arena;
    size_t resident_after = view_resident_bytes();
    (void)printf("%d threads: live %zu -> %zu, heap %zu -> %zu, resident %zu -> %zu bytes\n",
                 THREADS, live, live_after, arena, arena_after, resident, resident_after);
    /* The helper may have started meanwhile; libc keeps its stack's record. */
    STRESS_CHECK(live_after <= live + THREADS / 10);
    STRESS_CHECK(arena_after <= arena + 8 * MIB);
    STRESS_CHECK(resident_after <= resident + 16 * MIB);
}

/* ------------------------------------------------------------ mode alive */

static pthread_barrier_t all_are_there;
static pthread_barrier_t all_may_go;

static void *live_among_many(void *number)
{
    void *kept = malloc(1000);
    STRESS_CHECK(kept != NULL);
    (void)pthread_barrier_wait(&all_are_there);
    use_heap((unsigned)(uintptr_t)number);
    (void)pthread_barrier_wait(&all_may_go);
    free(kept);
    return NULL;
}

static void *wait_to_be_told(void *mutex)
{
    (void)pthread_mutex_lock(mutex);
    (void)pthread_mutex_unlock(mutex);
    return NULL;
}

/* How many threads there can be, up to `most`. */
static unsigned find_limit(pthread_t *threads, unsigned most)
{
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_attr_t attributes;
    unsigned count = 0;
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, 64 * KIB);
    (void)pthread_mutex_lock(&mutex);
    while (count < most &&
           pthread_create(&threads[count], &attributes, wait_to_be_told, &mutex) == 0) {
        count++;
    }
    (void)pthread_mutex_unlock(&mutex);
    for (unsigned i = 0; i < count; i++) {
        join(threads[i]);
    }
    return count;
}

/* 5000 at once, or as many as can be here, each with a cache. */
static void run_alive(void)
{
    enum { THREADS = 5000, SPARE = 50 };
    static pthread_t threads[THREADS];
    unsigned count = find_limit(threads, THREADS);
    count = count < THREADS ? count - SPARE : count; /* other programs want some, too */
    size_t live = ap_mallinfo2().uordblks;
    (void)pthread_barrier_init(&all_are_there, NULL, count);
    (void)pthread_barrier_init(&all_may_go, NULL, count);
    for (unsigned i = 0; i < count; i++) {
        threads[i] = start(live_among_many, (void *)(uintptr_t)i, 64 * KIB);
    }
    for (unsigned i = 0; i < count; i++) {
        join(threads[i]);
    }
    expect_consistent();
    size_t growth = ap_mallinfo2().uordblks - live;
    (void)printf("%u threads alive at once; %zu bytes more live\n", count, growth);
    STRESS_CHECK((ptrdiff_t)growth <= (ptrdiff_t)(64 * KIB));
}

/* ------------------------------------------------------------ mode cancel */

static atomic_bool in_loop;
static _Atomic(unsigned) *locks_held; /* in how many processes */

/* In the middle of whatever the thread was doing. If that was with a lock, nobody can help: undefined. */
static void end_if_locked(void *unused)
{
    (void)unused;
    if (ap__lock_is_at_work()) {
        atomic_fetch_add(locks_held, 1);
        _exit(0);
    }
}

static void *use_heap_until_cancelled(void *number)
{
    (void)pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    pthread_cleanup_push(end_if_locked, NULL);
    for (unsigned i = 0;; i++) {
        atomic_store(&in_loop, true);
        use_chain(16 << (i + (unsigned)(uintptr_t)number) % 12, 300);
        free(malloc(MIB));
    }
    pthread_cleanup_pop(0);
    return NULL;
}

/* In a process of its own: what the cancelled thread had in its hands is lost. The others go on, if it held
 * no lock. */
static void cancel_one(unsigned number)
{
    pthread_t thread = start(use_heap_until_cancelled, (void *)(uintptr_t)number, 64 * KIB);
    while (!atomic_load(&in_loop)) {
        (void)sched_yield();
    }
    const struct timespec some_time = {0, (long)(number * 7919 % 400) * 1000};
    (void)nanosleep(&some_time, NULL);
    STRESS_CHECK(pthread_cancel(thread) == 0);
    join(thread);
    for (unsigned i = 0; i < 12; i++) {
        use_chain((size_t)16 << i, 300);
    }
    thread = start(live_among_many, NULL, 64 * KIB);
    join(thread);
    exit(0);
}

static void run_cancel(void)
{
    enum { TIMES = 300 };
    locks_held =
        mmap(NULL, sizeof *locks_held, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    STRESS_CHECK((void *)locks_held != MAP_FAILED);
    (void)pthread_barrier_init(&all_are_there, NULL, 1);
    (void)pthread_barrier_init(&all_may_go, NULL, 1);
    for (unsigned i = 0; i < TIMES; i++) {
        watch_note(0, "after a cancellation");
        pid_t child = fork();
        STRESS_CHECK(child >= 0);
        if (child == 0) {
            cancel_one(i);
        }
        watch_wait(child, 0);
    }
    (void)printf("%d threads cancelled anywhere, %u of them with a lock\n", TIMES,
                 atomic_load(locks_held));
    STRESS_CHECK(atomic_load(locks_held) < TIMES);
}

/* ------------------------------------------------------------ mode stack */

enum {
    STACK_BYTES = 64 << 10,
    PAINT = 0xa5,
    STACK_SLOW = 2 << 10,
    STACK_HELPER = 3 << 10, /* libc's pthread_create(), and what it allocates */
    STACK_START_UP = 4 << 10,
    STACK_INFORMATION = 6 << 10
};

/* A call on a painted stack of its own. Returns how many bytes of it were written to. */
static ucontext_t caller, callee;
static char stack[STACK_BYTES] __attribute__((aligned(64)));

static size_t depth_of(void (*body)(void))
{
    memset(stack, PAINT, sizeof stack);
    STRESS_CHECK(getcontext(&callee) == 0);
    callee.uc_stack.ss_sp = stack;
    callee.uc_stack.ss_size = sizeof stack;
    callee.uc_link = &caller;
    makecontext(&callee, body, 0);
    STRESS_CHECK(swapcontext(&caller, &callee) == 0);
    size_t untouched = 0;
    while (untouched < sizeof stack && (unsigned char)stack[untouched] == PAINT) {
        untouched++;
    }
    return sizeof stack - untouched;
}

static void do_nothing(void)
{
}

static void start_up(void)
{
    free(malloc(100));
}

static void small_slow_paths(void)
{
    static void *scattered[2000];
    for (size_t size = 16; size <= 256 * KIB; size += size / 4) {
        use_chain(size, size < 8 * KIB ? 2000 : 40);
    }
    /* Spans partly used and left alone: a refill may come with a step of decay that gives their pages back. */
    for (unsigned i = 0; i < 2000; i++) {
        scattered[i] = malloc(1000);
    }
    for (unsigned i = 0; i < 2000; i++) {
        if (i % 20 != 0) {
            free(scattered[i]);
        }
    }
    for (unsigned i = 0; i < 40; i++) {
        view_sleep_ms(2);
        use_chain(3000, 2000);
    }
    for (unsigned i = 0; i < 2000; i += 20) {
        free(scattered[i]);
    }
}

/* Enough calls for the helper to be started by one of them. */
static void start_helper(void)
{
    for (size_t size = 16; size <= 1024; size *= 2) {
        use_chain(size, 2000);
    }
}

static void large_slow_paths(void)
{
    enum { MANY = 1200 };
    static void *many[MANY];
    for (unsigned i = 0; i < MANY; i++) { /* the table grows twice */
        many[i] = malloc(300 * KIB);
        STRESS_CHECK(many[i] != NULL);
    }
    for (unsigned i = 0; i < MANY; i++) {
        free(many[i]);
    }
    void *p = malloc(2 * MIB);
    p = realloc(p, 40 * MIB);
    p = realloc(p, 300 * KIB);
    free(p);
    free(aligned_alloc(4 * MIB, 4 * MIB));
}

static void trim(void)
{
    ap_thread_idle();
    (void)ap_trim();
}

static void information(void)
{
    (void)ap_mallinfo2();
}

static size_t start_up_depth;

/* The very first use, before any constructor. */
static void measure_start_up(void)
{
    size_t base = depth_of(do_nothing);
    start_up_depth = depth_of(start_up) - base;
}
__attribute__((section(".preinit_array"),
               used)) static void (*const preinit)(void) = measure_start_up;

static void *nothing_to_do(void *unused)
{
    return unused;
}

static void run_stack_of(const char *what, void (*body)(void), size_t most)
{
    size_t base = depth_of(do_nothing);
    size_t depth = depth_of(body) - base;
    (void)printf("%-12s %zu bytes of stack\n", what, depth);
    (void)fflush(stdout);
    STRESS_CHECK(depth <= most);
}

/* Of use to who chooses small stacks; the figures are in doc/design.md. */
static void run_stack(void)
{
    (void)printf("%-12s %zu bytes of stack\n", "start-up", start_up_depth);
    (void)fflush(stdout);
    STRESS_CHECK(start_up_depth <= STACK_START_UP);
    join(start(nothing_to_do, NULL, 64 * KIB)); /* a second thread: transfer caches are used */
    run_stack_of("helper", start_helper, STACK_HELPER);
    run_stack_of("small", small_slow_paths, STACK_SLOW);
    run_stack_of("large", large_slow_paths, STACK_SLOW);
    run_stack_of("trim", trim, STACK_SLOW);
    run_stack_of("information", information, STACK_INFORMATION);
}

/* ------------------------------------------------------------ mode coroutines */

enum { COROUTINES = 32, CARRIERS = 4, ROUNDS = 200, COROUTINE_BYTES = 32 << 10 };

static struct coroutine {
    pthread_mutex_t mutex; /* of the thread that runs it now */
    ucontext_t context;
    ucontext_t *carrier;
    unsigned rounds;
} coroutines[COROUTINES];

/* Allocates on one thread and frees on whatever thread it runs next. */
static void be_coroutine(unsigned number)
{
    struct coroutine *self = &coroutines[number];
    struct stress_random random = stress_random_stream(number);
    struct stress_block block = {0};
    for (; self->rounds < ROUNDS; self->rounds++) {
        stress_block_free(&block);
        use_chain(stress_random_below(&random, 3000) + 8, 100);
        stress_block_allocate(&block, stress_random_size(&random, 500 * KIB), &random);
        (void)swapcontext(&self->context, self->carrier);
    }
    stress_block_free(&block);
    for (;;) {
        (void)swapcontext(&self->context, self->carrier);
    }
}

static void *carry(void *number)
{
    struct stress_random random = stress_random_stream(1000 + (unsigned)(uintptr_t)number);
    ucontext_t here;
    for (unsigned left = COROUTINES * ROUNDS; left > 0; left--) {
        struct coroutine *c = &coroutines[stress_random_below(&random, COROUTINES)];
        if (pthread_mutex_trylock(&c->mutex) == 0) {
            c->carrier = &here;
            STRESS_CHECK(swapcontext(&here, &c->context) == 0);
            (void)pthread_mutex_unlock(&c->mutex);
        }
    }
    return NULL;
}

static void make_coroutine(unsigned number)
{
    struct coroutine *c = &coroutines[number];
    char *bytes =
        mmap(NULL, COROUTINE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    STRESS_CHECK((void *)bytes != MAP_FAILED);
    (void)pthread_mutex_init(&c->mutex, NULL);
    STRESS_CHECK(getcontext(&c->context) == 0);
    c->context.uc_stack.ss_sp = bytes;
    c->context.uc_stack.ss_size = COROUTINE_BYTES;
    c->context.uc_link = NULL;
    makecontext(&c->context, (void (*)(void))be_coroutine, 1, number);
}

static void run_coroutines(void)
{
    pthread_t threads[CARRIERS];
    for (unsigned i = 0; i < COROUTINES; i++) {
        make_coroutine(i);
    }
    for (unsigned i = 0; i < CARRIERS; i++) {
        threads[i] = start(carry, (void *)(uintptr_t)i, 256 * KIB);
    }
    unsigned done = 0;
    for (unsigned i = 0; i < CARRIERS; i++) {
        join(threads[i]);
    }
    for (unsigned i = 0; i < COROUTINES; i++) {
        done += coroutines[i].rounds;
    }
    expect_consistent();
    (void)printf("%u rounds of coroutines on %d threads\n", done, CARRIERS);
    STRESS_CHECK(done > ROUNDS);
}

/* ------------------------------------------------------------ */

static const struct {
    const char *name;
    void (*run)(void);
} modes[] = {
    {"many", run_many},   {"alive", run_alive},           {"cancel", run_cancel},
    {"stack", run_stack}, {"coroutines", run_coroutines},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(argv[1], modes[i].name) == 0) {
            stress_begin(1, argv, argv[1]);
            watch_begin();
            modes[i].run();
            return 0;
        }
    }
    return 2;
}
