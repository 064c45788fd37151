/* SPDX-License-Identifier: MIT */
/*
 * threads_test.c: threads that come, go, and free one another's blocks.
 * Goal: every call works at every moment of a thread's life, on tiny stacks and in destructors, and
 * what a thread leaves behind can be used by the others. Method: each situation as it stands in the
 * name; growth is read from mallinfo2.
 */
#include "entry_points.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "support/child.h"

TestSuite(threads, .timeout = 120);

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* Criterion's assertions belong to the main thread; others count here. */
static atomic_uint failures;

#define EXPECT(condition) ((condition) ? (void)0 : (void)atomic_fetch_add(&failures, 1))

static pthread_t start(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, body, argument), 0);
    return thread;
}

static void finish(pthread_t thread)
{
    cr_assert_eq(pthread_join(thread, NULL), 0);
}

static size_t live_bytes(void)
{
    return ap_mallinfo2().uordblks;
}

/* A bit of everything; `seed` marks the contents. */
static void use_heap(const struct entry_points *e, unsigned seed)
{
    static const size_t sizes[] = {1, 24, 100, 1000, 5 * KIB, 40 * KIB, 300 * KIB};
    enum { N = sizeof sizes / sizeof sizes[0] };
    void *blocks[N];
    for (size_t i = 0; i < N; i++) {
        blocks[i] = allocate(e, (unsigned)(seed + i) % ALLOCATORS, sizes[i]);
        EXPECT(blocks[i] != NULL);
        fill(blocks[i], sizes[i], seed);
    }
    for (size_t i = 0; i < N; i++) {
        EXPECT(is_filled(blocks[i], sizes[i], seed));
        blocks[i] = e->realloc(blocks[i], sizes[i] + 50);
        EXPECT(blocks[i] != NULL && is_filled(blocks[i], sizes[i], seed));
        e->free(blocks[i]);
    }
}

/* --- beginnings --- */

static pthread_barrier_t gate;

static void *first_use_at_the_gate(void *number)
{
    (void)pthread_barrier_wait(&gate);
    use_heap(&entry_points[*(unsigned *)number % ENTRY_POINT_SETS], *(unsigned *)number);
    return NULL;
}

Test(threads, many_may_use_the_heap_for_the_first_time_at_once)
{
    enum { N = 80 };
    pthread_t threads[N];
    unsigned numbers[N];
    (void)pthread_barrier_init(&gate, NULL, N);
    for (unsigned i = 0; i < N; i++) {
        numbers[i] = i;
        threads[i] = start(first_use_at_the_gate, &numbers[i]);
    }
    for (unsigned i = 0; i < N; i++) {
        finish(threads[i]);
    }
    cr_assert_eq(failures, 0);
}

/* --- a thread's leftovers --- */

static void *do_nothing(void *unused)
{
    return unused;
}

static void *free_it(void *block)
{
    ap_free(block);
    return NULL;
}

static void *look_up_what_is_not_there(void *unused)
{
    /* libc keeps the text of the error per thread and frees it after all destructors. */
    EXPECT(dlsym(RTLD_DEFAULT, "no_such_symbol_anywhere") == NULL);
    EXPECT(dlerror() != NULL);
    EXPECT(dlsym(RTLD_DEFAULT, "no_such_symbol_anywhere") == NULL);
    return unused;
}

static void expect_no_leak(void *(*body)(void *), size_t argument_size)
{
    enum { ROUNDS = 3000 };
    size_t before = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        if (round == 10) {
            before = live_bytes(); /* libc's own stacks and tables are there */
        }
        finish(start(body, argument_size == 0 ? NULL : ap_malloc(argument_size)));
    }
    size_t growth = live_bytes() > before ? live_bytes() - before : 0;
    cr_assert_leq(growth, ROUNDS, "%zu bytes", growth);
    cr_assert_eq(failures, 0);
}

Test(threads, one_that_never_allocates_leaves_nothing)
{
    expect_no_leak(do_nothing, 0);
}

Test(threads, one_that_only_frees_leaves_nothing)
{
    expect_no_leak(free_it, 100);
    expect_no_leak(free_it, 300 * KIB);
}

Test(threads, what_libc_frees_after_all_destructors_is_freed)
{
    expect_no_leak(look_up_what_is_not_there, 0);
}

static void *leave_one_of_two(void *kept)
{
    void *a = ap_malloc(64), *b = ap_malloc(64);
    EXPECT(a != NULL && b != NULL);
    *(void **)kept = a;
    ap_free(b);
    return NULL;
}

Test(threads, a_hundred_thousand_leave_less_than_a_byte_each)
{
    enum { ROUNDS = 100000 };
    size_t before = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        if (round == 100) {
            before = live_bytes();
        }
        void *kept = NULL;
        finish(start(leave_one_of_two, &kept));
        ap_free(kept);
    }
    size_t growth = live_bytes() > before ? live_bytes() - before : 0;
    cr_assert_leq(growth, ROUNDS, "%zu bytes", growth);
    cr_assert_eq(failures, 0);
}

static void *fill_cache_and_go(void *unused)
{
    enum { N = 2000 };
    void *blocks[N];
    for (int i = 0; i < N; i++) {
        blocks[i] = ap_malloc(1000);
    }
    for (int i = 0; i < N; i++) {
        ap_free(blocks[i]);
    }
    return unused;
}

Test(threads, the_cache_of_one_that_ended_is_used_by_others)
{
    size_t arena = 0;
    for (int round = 0; round < 200; round++) {
        finish(start(fill_cache_and_go, NULL));
        if (round == 4) {
            arena = ap_mallinfo2().arena;
        }
    }
    cr_assert_leq(ap_mallinfo2().arena, arena + 4 * MIB);
}

enum { SHARED = 400 };

struct handover {
    void *blocks[SHARED];
    pthread_barrier_t barrier;
};

static void *allocate_and_end(void *argument)
{
    struct handover *h = argument;
    for (int i = 0; i < SHARED; i++) {
        h->blocks[i] = ap_malloc(200);
        fill(h->blocks[i], 200, (unsigned)i);
    }
    (void)pthread_barrier_wait(&h->barrier);
    return NULL; /* while the other frees */
}

static void *free_while_the_owner_ends(void *argument)
{
    struct handover *h = argument;
    (void)pthread_barrier_wait(&h->barrier);
    for (int i = 0; i < SHARED; i++) {
        EXPECT(is_filled(h->blocks[i], 200, (unsigned)i));
        ap_free(h->blocks[i]);
    }
    return NULL;
}

Test(threads, one_may_end_while_others_free_its_blocks)
{
    static struct handover h;
    (void)pthread_barrier_init(&h.barrier, NULL, 2);
    size_t before = 0;
    for (int round = 0; round < 500; round++) {
        pthread_t a = start(allocate_and_end, &h), b = start(free_while_the_owner_ends, &h);
        finish(a);
        finish(b);
        if (round == 10) {
            before = live_bytes();
        }
    }
    cr_assert_leq(live_bytes(), before + 500);
    cr_assert_eq(failures, 0);
}

/* --- destructors --- */

static pthread_key_t keys[3];
static atomic_uint destructor_calls;

static void destroy(void *value)
{
    unsigned round = *(unsigned *)value;
    ap_free(value);
    use_heap(&entry_points[round % ENTRY_POINT_SETS], round);
    atomic_fetch_add(&destructor_calls, 1);
    if (round + 1 < (unsigned)sysconf(_SC_THREAD_DESTRUCTOR_ITERATIONS)) {
        unsigned *next = ap_malloc(sizeof *next);
        *next = round + 1;
        for (int k = 0; k < 3; k++) {
            if (pthread_getspecific(keys[k]) == NULL) {
                (void)pthread_setspecific(keys[k], next);
                return;
            }
        }
        ap_free(next);
    }
}

static void *set_keys(void *unused)
{
    for (int k = 0; k < 3; k++) {
        unsigned *value = ap_malloc(sizeof *value);
        *value = 0;
        EXPECT(pthread_setspecific(keys[k], value) == 0);
    }
    return unused;
}

Test(threads, key_destructors_may_use_the_heap_in_every_round)
{
    enum { THREADS = 300 };
    for (int k = 0; k < 3; k++) {
        cr_assert_eq(pthread_key_create(&keys[k], destroy), 0);
    }
    size_t before = 0;
    for (int i = 0; i < THREADS; i++) {
        finish(start(set_keys, NULL));
        if (i == 10) {
            before = live_bytes();
        }
    }
    cr_assert_gt(destructor_calls, 3 * THREADS);
    cr_assert_eq(failures, 0);
    cr_assert_leq(live_bytes(), before + THREADS);
}

static void *use_many_keys(void *key)
{
    EXPECT(pthread_setspecific(*(pthread_key_t *)key, ap_malloc(10)) == 0);
    return NULL;
}

Test(threads, keys_beyond_those_libc_keeps_in_the_thread_work)
{
    /* pthread_setspecific allocates for keys from the 33rd on. */
    pthread_key_t many[200];
    for (int k = 0; k < 200; k++) {
        cr_assert_eq(pthread_key_create(&many[k], ap_free), 0);
    }
    size_t before = 0;
    for (int i = 0; i < 300; i++) {
        finish(start(use_many_keys, &many[199 - i % 60]));
        if (i == 10) {
            before = live_bytes();
        }
    }
    cr_assert_leq(live_bytes(), before + 300);
    cr_assert_eq(failures, 0);
}

/* --- churn --- */

static pthread_barrier_t inner_gate;

static void *inner(void *argument)
{
    (void)pthread_barrier_wait(&inner_gate);
    use_heap(&entry_points[0], *(unsigned *)argument);
    return NULL;
}

static void *outer(void *argument)
{
    enum { INNER = 4, ROUNDS = 60 };
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t threads[INNER];
        void *kept = ap_malloc(3000);
        for (int i = 0; i < INNER; i++) {
            EXPECT(pthread_create(&threads[i], NULL, inner, argument) == 0);
        }
        for (int i = 0; i < INNER; i++) {
            EXPECT(pthread_join(threads[i], NULL) == 0);
        }
        ap_free(kept);
    }
    return NULL;
}

Test(threads, threads_of_threads_come_and_go_together)
{
    enum { OUTER = 4 };
    pthread_t threads[OUTER];
    unsigned numbers[OUTER];
    (void)pthread_barrier_init(&inner_gate, NULL, OUTER * 4);
    for (unsigned i = 0; i < OUTER; i++) {
        numbers[i] = i;
        threads[i] = start(outer, &numbers[i]);
    }
    for (unsigned i = 0; i < OUTER; i++) {
        finish(threads[i]);
    }
    cr_assert_eq(failures, 0);
}

static atomic_bool canceller_ready;

static void *allocate_until_cancelled(void *unused)
{
    atomic_store(&canceller_ready, true);
    for (unsigned i = 0; i < UINT_MAX; i++) {
        use_heap(&entry_points[i % ENTRY_POINT_SETS], i);
        pthread_testcancel();
    }
    return unused;
}

Test(threads, deferred_cancellation_between_calls_harms_nothing)
{
    size_t before = 0;
    for (int round = 0; round < 100; round++) {
        void *result;
        atomic_store(&canceller_ready, false);
        pthread_t thread = start(allocate_until_cancelled, NULL);
        while (!atomic_load(&canceller_ready)) {
            sched_yield();
        }
        cr_assert_eq(pthread_cancel(thread), 0);
        cr_assert_eq(pthread_join(thread, &result), 0);
        cr_assert_eq(result, PTHREAD_CANCELED);
        if (round == 5) {
            before = live_bytes(); /* with what the unwinder keeps */
        }
    }
    cr_assert_leq(live_bytes(), before + 100);
    cr_assert_eq(failures, 0);
}

/* --- stacks --- */

static void *use_everything(void *unused)
{
    FOR_EACH_SET (e) {
        for (unsigned i = 0; i < ALLOCATORS; i++) {
            use_heap(e, i);
        }
        /* Far enough that caches overflow and are refilled, and new spans are needed. */
        void *chain = NULL;
        for (int i = 0; i < 20000; i++) {
            void **block = e->malloc(500);
            EXPECT(block != NULL);
            *block = chain;
            chain = block;
        }
        while (chain != NULL) {
            void *next = *(void **)chain;
            e->free(chain);
            chain = next;
        }
        (void)e->mallinfo2();
        (void)e->malloc_trim(0);
        ap_thread_idle();
    }
    return unused;
}

Test(threads, a_stack_of_16_kib_is_enough)
{
    pthread_attr_t attributes;
    pthread_t thread;
    (void)pthread_attr_init(&attributes);
    cr_assert_eq(pthread_attr_setstacksize(&attributes, 16 * KIB), 0);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(pthread_create(&thread, &attributes, use_everything, NULL), 0);
        finish(thread);
    }
    cr_assert_eq(failures, 0);
}

/* A stack with an inaccessible page below it. */
static void *guarded_stack(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *p = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(p, MAP_FAILED);
    cr_assert_eq(mprotect(p, page, PROT_NONE), 0);
    return p + page;
}

static ucontext_t main_context, coroutine_context;

static void coroutine(void)
{
    for (int i = 0; i < 3; i++) {
        (void)use_everything(NULL);
        (void)swapcontext(&coroutine_context, &main_context);
    }
}

Test(threads, a_coroutine_may_use_the_heap)
{
    cr_assert_eq(getcontext(&coroutine_context), 0);
    coroutine_context.uc_stack.ss_sp = guarded_stack(8 * KIB);
    coroutine_context.uc_stack.ss_size = 8 * KIB;
    coroutine_context.uc_link = &main_context;
    makecontext(&coroutine_context, coroutine, 0);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(swapcontext(&main_context, &coroutine_context), 0);
        use_heap(&entry_points[0], 1);
    }
    cr_assert_eq(failures, 0);
}

static atomic_int signals_handled;

static void allocate_in_handler(int signal_number)
{
    (void)signal_number;
    (void)use_everything(NULL);
    atomic_fetch_add(&signals_handled, 1);
}

Test(threads, a_handler_on_its_own_stack_may_use_the_heap_when_nothing_was_interrupted)
{
    const stack_t stack = {.ss_sp = guarded_stack(16 * KIB), .ss_size = 16 * KIB};
    struct sigaction action = {.sa_handler = allocate_in_handler, .sa_flags = SA_ONSTACK};
    cr_assert_eq(sigaltstack(&stack, NULL), 0);
    cr_assert_eq(sigaction(SIGUSR1, &action, NULL), 0);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(raise(SIGUSR1), 0); /* synchronous: not inside of malloc */
    }
    cr_assert_eq(signals_handled, 3);
    cr_assert_eq(failures, 0);
}

/* --- the end of the main thread --- */

static pthread_t main_thread;

static void *outlive_main(void *unused)
{
    (void)unused;
    (void)pthread_join(main_thread, NULL);
    for (unsigned i = 0; i < 200; i++) {
        use_heap(&entry_points[i % ENTRY_POINT_SETS], i);
    }
    _exit(atomic_load(&failures) == 0 ? 42 : 1);
}

static void exit_main_thread(void *unused)
{
    (void)unused;
    pthread_t thread;
    use_heap(&entry_points[0], 1);
    main_thread = pthread_self();
    if (pthread_create(&thread, NULL, outlive_main, NULL) != 0) {
        _exit(2);
    }
    pthread_exit(NULL);
}

Test(threads, others_go_on_when_the_main_thread_has_ended)
{
    struct child_result result;
    child_run(&result, exit_main_thread, NULL);
    cr_assert_eq(result.status, 42, "signal %d: %s", result.signal, result.text);
}
