/* SPDX-License-Identifier: MIT */
/*
 * step_torture.c: a fork at every instruction of the slow paths.
 * Goal: wherever a thread is inside of the allocator, another thread of the process can fork; the child can
 * allocate, free, have threads and exit; and the thread goes on as if nothing had happened. Method: the
 * thread runs with the processor's trap flag set. Its handler of SIGTRAP stops at instructions of this program
 * where it has not stopped before and lets the other thread fork. Where the stopped thread holds a lock, the
 * fork rightly waits: then it goes on after a moment, and the fork must come to its end.
 *
 *     step_torture [SECONDS [SEED]]     SECONDS: those of AP_TORTURE_SECONDS, if set; 0: every instruction
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/size_class.h"
#include "cache/thread.h"
#include "decay/decay.h"
#include "os/os.h"
#include "stress.h"
#include "support/consistency.h"
#include "watch.h"

enum {
    TRAP_FLAG = 0x100,
    STOP_MS = 1,      /* for a fork to complete while the thread is stopped */
    SKIP_SAMPLED = 2, /* of so many new places, one is taken */
    INHERITED = 64,
    STEPS_MOST_SAMPLED = 10000, /* of one operation */
    STEPS_MOST = 100000,
    STOPS_MOST = 1000, /* of one process: it shall end in good time */
};

extern char __executable_start[], etext[];

/* What the subjects, one process after another, tell the first process. */
static struct results {
    _Atomic(uint64_t) steps, stops,
        waits; /* waits: stops at which the fork had to wait for a lock */
    _Atomic(uintptr_t) stopped_at;
    _Atomic(unsigned char) visited[]; /* by instruction of this program */
} * results;

static bool all_places;
static struct stress_random choices;

/* ------------------------------------------------------------ the forking thread */

enum order { NOTHING, FORKED, FORK, END };
static _Atomic(int) order;

static void pause_ns(long ns)
{
    (void)nanosleep(&(struct timespec){0, ns}, NULL);
}

static void expect_consistent(const char *fault)
{
    if (fault != NULL) {
        (void)fprintf(stderr, "stopped at program + 0x%lx: %s\n",
                      (unsigned long)atomic_load(&results->stopped_at), fault);
        STRESS_CHECK(!"the heap is consistent");
    }
}

static struct stress_block inherited[INHERITED];

static void use_every_class(struct stress_random *random)
{
    for (unsigned c = 1; c < AP_CLASS_COUNT; c += 1 + (unsigned)stress_random_below(random, 12)) {
        struct stress_block a, b;
        stress_block_allocate(&a, ap__size_class[c].size, random);
        stress_block_allocate(&b, ap__size_class[c].size, random);
        STRESS_CHECK(a.p != NULL && b.p != NULL);
        stress_block_free(&a);
        stress_block_free(&b);
    }
    for (size_t size = 300 << 10; size < 4 << 20; size *= 3) {
        struct stress_block block;
        stress_block_allocate(&block, size, random);
        STRESS_CHECK(block.p != NULL);
        stress_block_realloc(&block, size * 2);
        stress_block_free(&block);
    }
}

static void *thread_of_child(void *unused)
{
    struct stress_random random = stress_random_stream(3);
    use_every_class(&random);
    return unused;
}

static _Noreturn void live_as_child(uint64_t number)
{
    struct stress_random random = stress_random_stream((unsigned)number);
    if (number % 2 == 0) {
        watch_note(1, "child: check its heap");
        expect_consistent(consistency_find_fault_in_child());
    }
    watch_note(1, "child: free and allocate");
    for (unsigned i = 0; i < INHERITED; i++) {
        stress_block_free(&inherited[i]);
    }
    use_every_class(&random);
    if (number % 8 == 0) {
        pthread_t thread;
        watch_note(1, "child: a thread");
        STRESS_CHECK(pthread_create(&thread, NULL, thread_of_child, NULL) == 0);
        STRESS_CHECK(pthread_join(thread, NULL) == 0);
    }
    if (number % 8 == 1) {
        watch_note(1, "child: check the heap it leaves");
        expect_consistent(consistency_find_fault_in_child());
    }
    watch_note(1, "child: exit");
    exit(0);
}

static void *fork_on_order(void *unused)
{
    struct stress_random random = stress_random_stream(2);
    for (unsigned i = 0; i < INHERITED; i++) {
        size_t size = i % 8 == 0 ? 300 << 10 : stress_random_size(&random, 100000);
        stress_block_allocate(&inherited[i], size, &random);
    }
    atomic_store(&order, NOTHING);
    for (uint64_t number = 0; atomic_load(&order) != END;) {
        if (atomic_load(&order) != FORK) {
            pause_ns(10000);
            continue;
        }
        watch_note(1, "fork");
        pid_t child = fork();
        if (child == 0) {
            live_as_child(number);
        }
        STRESS_CHECK(child > 0);
        watch_wait(child, 1);
        atomic_store(&order, FORKED);
        number++;
    }
    for (unsigned i = 0; i < INHERITED; i++) {
        stress_block_free(&inherited[i]);
    }
    return unused;
}

/* ------------------------------------------------------------ the stepped thread */

static _Thread_local volatile bool is_stepped;
static _Thread_local unsigned steps;

static unsigned stops; /* of this process */

static bool shall_stop_at(size_t place)
{
    return stops < STOPS_MOST &&
           atomic_load_explicit(&results->visited[place], memory_order_relaxed) == 0 &&
           (all_places || (stress_random_below(&choices, SKIP_SAMPLED) == 0 && !stress_is_over()));
}

/* The child ends while this thread stands still, or the fork waits for what this thread holds. */
static void stop_at(size_t place)
{
    atomic_store_explicit(&results->visited[place], 1, memory_order_relaxed);
    atomic_store(&results->stopped_at, place);
    atomic_fetch_add(&results->stops, 1);
    stops++;
    atomic_store(&order, FORK);
    for (unsigned i = 0; i < STOP_MS * 50 && atomic_load(&order) == FORK; i++) {
        pause_ns(20000);
    }
    if (atomic_load(&order) == FORK) {
        atomic_fetch_add(&results->waits, 1);
    }
}

static void on_step(int signal_number, siginfo_t *info, void *context)
{
    (void)signal_number, (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (!is_stepped || ++steps > (all_places ? STEPS_MOST : STEPS_MOST_SAMPLED)) {
        registers[REG_EFL] &= ~(greg_t)TRAP_FLAG;
        return;
    }
    registers[REG_EFL] |= TRAP_FLAG;
    size_t place = (size_t)registers[REG_RIP] - (size_t)__executable_start;
    if (place < (size_t)(etext - __executable_start) && atomic_load(&order) < FORK &&
        shall_stop_at(place)) {
        stop_at(place);
    }
}

static void begin_steps(void)
{
    steps = 0;
    is_stepped = true;
    __asm__ volatile("int3" ::: "memory");
}

static void end_steps(void)
{
    is_stepped = false;
    atomic_fetch_add(&results->steps, steps);
    while (atomic_load(&order) == FORK) {
        pause_ns(20000);
    }
}

/* ------------------------------------------------------------ operations */

enum { MANY = 300, SMALL_MOST = 40000, LARGE = 300 << 10 };
static void *many[MANY];

static size_t any_small_size(void)
{
    return stress_random_below(&choices, stress_random_below(&choices, SMALL_MOST) + 1);
}

static void refill(void)
{
    enum { CALLS = 6 };
    size_t sizes[CALLS];
    for (unsigned i = 0; i < CALLS; i++) {
        sizes[i] = any_small_size();
    }
    ap_thread_idle();
    begin_steps();
    for (unsigned i = 0; i < CALLS; i++) {
        many[i] = ap_malloc(sizes[i]);
    }
    end_steps();
    for (unsigned i = 0; i < CALLS; i++) {
        ap_free(many[i]);
    }
}

static void overflow(void)
{
    size_t size = any_small_size() / 8;
    for (unsigned i = 0; i < MANY; i++) {
        many[i] = ap_malloc(size);
    }
    begin_steps();
    for (unsigned i = 0; i < MANY; i++) {
        ap_free(many[(i * 7) % MANY]);
    }
    end_steps();
}

static void idle(void)
{
    for (unsigned i = 0; i < MANY; i++) {
        many[i] = ap_malloc(any_small_size() / 8);
    }
    for (unsigned i = 0; i < MANY; i++) {
        ap_free(many[i]);
    }
    begin_steps();
    ap_thread_idle();
    end_steps();
}

static void large(void)
{
    size_t size = LARGE + stress_random_below(&choices, 8 << 20);
    begin_steps();
    many[0] = ap_malloc(size);
    many[1] = ap_aligned_alloc(2 << 20, size);
    many[0] = ap_realloc(many[0], size + (3 << 20));
    many[2] = ap_malloc(LARGE);
    many[0] = ap_realloc(many[0], 2 * size + (6 << 20)); /* moves the pages */
    many[0] = ap_realloc(many[0], LARGE);
    for (unsigned i = 0; i < 3; i++) {
        ap_free(many[i]);
    }
    end_steps();
}

/* In a process that has not had so many: the table grows and moves. */
static void table(void)
{
    enum { BEFORE = 245 - INHERITED / 8 };
    for (unsigned i = 0; i < BEFORE; i++) {
        many[i] = ap_malloc(LARGE);
    }
    begin_steps();
    for (unsigned i = BEFORE; i < BEFORE + 40; i++) {
        many[i] = ap_malloc(LARGE);
    }
    end_steps();
    for (unsigned i = 0; i < BEFORE + 40; i++) {
        ap_free(many[i]);
    }
}

static void trim(void)
{
    for (unsigned i = 0; i < MANY; i++) {
        many[i] = ap_malloc(any_small_size() / 8);
    }
    for (unsigned i = 0; i < MANY; i++) {
        if (i % 32 != 0) {
            ap_free(many[i]);
        }
    }
    begin_steps();
    (void)ap_trim();
    end_steps();
    for (unsigned i = 0; i < MANY; i += 32) {
        ap_free(many[i]);
    }
}

static void decay(void)
{
    for (unsigned i = 0; i < MANY; i++) {
        many[i] = ap_malloc(i % 100 == 0 ? LARGE : any_small_size() / 8);
    }
    for (unsigned i = 0; i < MANY; i++) {
        ap_free(many[i]);
    }
    ap_thread_idle();
    uint64_t now_ms = ap__os_now_ms();
    begin_steps();
    for (unsigned i = 1; i <= 2; i++) {
        ap__decay_expect_work();
        (void)ap__decay_step(now_ms + 2000 * i);
    }
    end_steps();
}

static void *first_and_last_use(void *unused)
{
    void *volatile p;
    begin_steps();
    p = ap_malloc(100);
    ap_free(p);
    ap__thread_leave();
    end_steps();
    return unused;
}

static void thread(void)
{
    pthread_t thread;
    STRESS_CHECK(pthread_create(&thread, NULL, first_and_last_use, NULL) == 0);
    STRESS_CHECK(pthread_join(thread, NULL) == 0);
}

static const struct operation {
    const char *name;
    void (*run)(void);
} operations[] = {{"refill", refill}, {"overflow", overflow}, {"idle", idle},   {"large", large},
                  {"table", table},   {"trim", trim},         {"decay", decay}, {"thread", thread}};
enum { OPERATIONS = sizeof operations / sizeof operations[0] };

/* ------------------------------------------------------------ subjects */

/* A process for one operation, which is done a few times. */
static _Noreturn void live_as_subject(const struct operation *operation)
{
    enum { TIMES = 1 };
    pthread_t forker;
    atomic_store(&order, FORK);
    STRESS_CHECK(pthread_create(&forker, NULL, fork_on_order, NULL) == 0);
    while (atomic_load(&order) == FORK) {
        pause_ns(10000);
    }
    for (unsigned i = 0; i < TIMES; i++) {
        operation->run();
        expect_consistent(consistency_find_fault());
    }
    atomic_store(&order, END);
    STRESS_CHECK(pthread_join(forker, NULL) == 0);
    exit(0);
}

static void run_subject(unsigned number)
{
    const struct operation *operation = &operations[number % OPERATIONS];
    choices = stress_random_stream(1000 + number);
    watch_note(0, operation->name);
    atomic_store(&order, NOTHING);
    pid_t subject = fork();
    STRESS_CHECK(subject >= 0);
    if (subject == 0) {
        live_as_subject(operation);
    }
    watch_wait(subject, 0);
}

static void prepare(void)
{
    size_t bytes = sizeof *results + (size_t)(etext - __executable_start);
    results = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    STRESS_CHECK((void *)results != MAP_FAILED);
    struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    STRESS_CHECK(sigaction(SIGTRAP, &action, NULL) == 0);
    watch_begin();
}

static bool is_stepping_possible(void)
{
    atomic_store(&order, END); /* nobody forks */
    begin_steps();
    __asm__ volatile("nop; nop; nop; nop" ::: "memory");
    end_steps();
    return steps >= 4;
}

int main(int argc, char **argv)
{
    char *seconds = getenv("AP_TORTURE_SECONDS");
    seconds = seconds != NULL ? seconds : argc > 1 ? argv[1] : NULL;
    char *arguments[] = {argv[0], seconds, argc > 2 ? argv[2] : NULL, NULL};
    stress_begin(argc > 2 ? 3 : seconds != NULL ? 2 : 1, arguments, "step_torture");
    prepare();
    if (!is_stepping_possible()) {
        (void)printf("SKIP: single steps are not reported here\n");
        return 77;
    }
    all_places = seconds != NULL && strcmp(seconds, "0") == 0;
    uint64_t stops_before = UINT64_MAX;
    for (unsigned number = 0; all_places ? stops_before != results->stops : !stress_is_over();) {
        stops_before = results->stops;
        for (unsigned i = 0; i < OPERATIONS && (all_places || !stress_is_over()); i++) {
            run_subject(number++);
        }
        if (all_places) {
            (void)printf("%llu places so far\n", (unsigned long long)results->stops);
            (void)fflush(stdout);
        }
    }
    (void)printf("%llu places, at %llu of them the fork waited for a lock; %llu steps\n",
                 (unsigned long long)results->stops, (unsigned long long)results->waits,
                 (unsigned long long)results->steps);
    STRESS_CHECK(results->stops != 0);
    return 0;
}
