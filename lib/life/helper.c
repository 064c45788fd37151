/* SPDX-License-Identifier: MIT */
/*
 * helper.c: start, sleep, end.
 *
 * Start: on a slow path of a program's thread, once the process is threaded and has been through some
 * slow paths since: threads that come and go at start-up are not worth another one. pthread_create()
 * allocates, through us: the thread has its cache by then and holds none of our locks.
 *
 * End. A process whose main thread has left by pthread_exit() ends with its last thread, so the helper
 * must not be that: the last thread with a cache stops it and waits until it is gone. A helper that finds
 * nothing to do and one thread left ends by itself, so that the process has a single thread again; it is
 * joined by whoever needs to know that it has.
 *
 * Idea: jemalloc's background threads, which are one per processor and wake up now and then.
 */
#include "life/helper.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cache/thread.h"
#include "central/central_free_list.h"
#include "config/options.h"
#include "decay/decay.h"
#include "heap/heap_limits.h"
#include "heap/page_heap.h"
#include "life/soft_limit.h"
#include "os/bell.h"
#include "os/lock.h"
#include "os/os.h"
#include "os/yield.h"

enum {
    STACK_BYTES = 256 << 10, /* the program's function may run on it: see decay/pressure.h */
    THREADS_MIN = 2,
    EVENTS_BEFORE_START = 32, /* slow paths with two threads; doubled at each start, up to */
    EVENTS_BEFORE_START_MAX = 1 << 14,
    FOR_EVER = -1,
};

enum state {
    FORBIDDEN, /* the library is not ready, or the option says so */
    NONE,
    STARTING,
    RUNNING,
    STOPPING, /* the last thread waits for the helper's end */
    LEFT,     /* the helper ends by itself, and waits to be joined */
    EXITING,  /* the process ends, and the helper with it */
};
static _Atomic(int) state;

/* Slow paths to go before the next start; approximate: several threads count. */
static _Atomic(unsigned) events_left = EVENTS_BEFORE_START;
static unsigned events_before_start = EVENTS_BEFORE_START; /* of the state's owner */

static bool is_forked_child; /* libc may not have noticed that it is single-threaded */
static pid_t process;        /* whose thread the helper is */
static pthread_t helper;     /* of the state's owner */

/* ------------------------------------------------------------ the helper */

static bool is_stopping(void)
{
    /* seq_cst: after listen(); either this sees the state that stop() has set, or its ring is seen. */
    return atomic_load_explicit(&state, memory_order_seq_cst) == STOPPING;
}

/* Cut short by stop(), and by whoever meets the soft limit: a ring for that while nobody listened yet is made good by
 * the shorter sleep. */
static void sleep_at_most(int64_t ms)
{
    ap__bell_listen(&ap__decay_bell);
    AP__YIELD_POINT();
    if (!is_stopping()) {
        bool presses = ap__heap_limits_pressure() != AP__PRESSURE_NONE;
        ap__bell_sleep(&ap__decay_bell, presses && ms > AP__PRESSURE_MS ? AP__PRESSURE_MS : ms);
    }
}

/*
 * Whether the process has other threads than this, as far as can be told without asking the kernel: two
 * that allocate; or one, beside threads that never did (a server whose background threads only wait).
 */
static bool is_threaded(void)
{
    if (ap__central_is_shared()) {
        return ap__thread_count() >= THREADS_MIN;
    }
    return __libc_single_threaded == 0 && !is_forked_child;
}

/* `true`: the process has one thread again, which decays for itself from now on. */
static bool has_left(void)
{
    int running = RUNNING;
    if (is_threaded() || !atomic_compare_exchange_strong_explicit(
                             &state, &running, LEFT, memory_order_acq_rel, memory_order_relaxed)) {
        return false;
    }
    AP__YIELD_POINT();
    ap__decay_set_helped(false);
    return true;
}

/*
 * Steps until nothing is left to do, twice: once more after others have been told to ring, so that no
 * ring is missed. `false`: the helper shall end.
 */
static bool work(void)
{
    for (bool listens = false;;) {
        uint64_t now_ms = ap__os_now_ms();
        ap__soft_limit_update_now_and_then(now_ms);
        int64_t wait_ms = ap__decay_step(now_ms);
        ap__thread_leave(); /* the program's function may have allocated: see decay/pressure.h */
        if (is_stopping()) {
            return false;
        }
        if (wait_ms >= 0) {
            sleep_at_most(wait_ms);
        } else if (listens) {
            return true;
        } else {
            ap__bell_listen(&ap__heap_bell);
            ap__decay_expect_work();
            AP__YIELD_POINT();
            listens = true;
        }
    }
}

static void *run(void *unused)
{
    (void)prctl(PR_SET_NAME, "apmalloc");
    ap__thread_be_uncounted();
    while (work() && !has_left()) {
        ap__bell_sleep(&ap__heap_bell, FOR_EVER);
        ap__decay_expect_work();
    }
    return unused;
}

/* ------------------------------------------------------------ start and stop */

/* A thread with no signals and a small stack. */
static bool create(void)
{
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t saved;
    if (pthread_attr_init(&attributes) != 0) {
        return false;
    }
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &saved);
    /* Where thread-local data alone need more than that, the default has to do. */
    (void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
    bool done = pthread_create(&helper, &attributes, run, NULL) == 0 ||
                pthread_create(&helper, NULL, run, NULL) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &saved, NULL);
    (void)pthread_attr_destroy(&attributes);
    return done;
}

static void set_next_start(void)
{
    atomic_store_explicit(&events_left, events_before_start, memory_order_relaxed);
    if (events_before_start < EVENTS_BEFORE_START_MAX) {
        events_before_start *= 2;
    }
}

/* Becomes the owner of `helper`, if the state is `from`. Not in another process that shares our memory (vfork,
 * CLONE_VM): it can neither have our thread nor join it. */
static bool become_owner(int from, enum state to)
{
    AP__YIELD_POINT();
    return syscall(SYS_getpid) == process &&
           atomic_compare_exchange_strong_explicit(&state, &from, to, memory_order_seq_cst,
                                                   memory_order_relaxed);
}

/* A helper that has left is gone for good once it is joined. */
static void join_left(void)
{
    int saved_errno = errno;
    if (become_owner(LEFT, STARTING)) {
        (void)pthread_join(helper, NULL);
        atomic_store_explicit(&state, NONE, memory_order_release);
    }
    errno = saved_errno;
}

/* So that tools which count threads at the end find none unaccounted for. A helper at work goes down with
 * the process. */
__attribute__((destructor)) static void account_for_at_exit(void)
{
    join_left();
    if (become_owner(RUNNING, EXITING)) {
        (void)pthread_detach(helper);
    }
}

static void start(void)
{
    if (!become_owner(NONE, STARTING)) {
        return;
    }
    set_next_start();
    ap__decay_expect_work();
    bool created = create();
    AP__YIELD_POINT();
    ap__decay_set_helped(created);
    AP__YIELD_POINT();
    atomic_store_explicit(&state, created ? RUNNING : NONE, memory_order_release);
}

void ap__helper_consider(void)
{
    /* relaxed: start() looks again. */
    int now = atomic_load_explicit(&state, memory_order_relaxed);
    if (AP_UNLIKELY(now == LEFT) && !ap__lock_is_at_work()) {
        join_left();
    }
    if (AP_LIKELY(now != NONE) || !is_threaded() || ap__lock_is_at_work()) {
        return;
    }
    unsigned left = atomic_load_explicit(&events_left, memory_order_relaxed);
    if (left != 0) {
        atomic_store_explicit(&events_left, left - 1, memory_order_relaxed);
        return;
    }
    int saved_errno = errno;
    start();
    errno = saved_errno;
}

/* By the last thread with a cache, at its end. */
static void stop(void)
{
    /* A child that was made without our handlers may even have its parent's number, in a namespace of its own. */
    if (ap__decay_is_helped() && become_owner(RUNNING, STOPPING)) {
        AP__YIELD_POINT();
        ap__bell_wake(&ap__decay_bell);
        AP__YIELD_POINT();
        ap__bell_wake(&ap__heap_bell);
    } else if (!become_owner(LEFT, STOPPING)) {
        return;
    }
    (void)pthread_join(helper, NULL);
    ap__decay_set_helped(false);
    atomic_store_explicit(&state, NONE, memory_order_release);
}

bool ap__helper_is_wanted(void)
{
    return ap__options.helper != 0 && ap__options.decay_ms != 0 &&
           ap__options.decay_ms != AP__DECAY_NEVER;
}

void ap__helper_allow(bool allowed)
{
    process = (pid_t)syscall(SYS_getpid);
    ap__thread_on_last_exit(stop);
    atomic_store_explicit(&state, allowed ? NONE : FORBIDDEN, memory_order_release);
}

void ap__helper_after_fork_in_child(void)
{
    is_forked_child = true;
    process = (pid_t)syscall(SYS_getpid);
    ap__heap_bell = (struct ap__bell){0};
    ap__decay_bell = (struct ap__bell){0};
    if (atomic_load_explicit(&state, memory_order_relaxed) != FORBIDDEN) {
        atomic_store_explicit(&state, NONE, memory_order_relaxed);
    }
}
