/* SPDX-License-Identifier: MIT */
/*
 * os_faults.c: stands between the library under test and the calls it makes.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support/os_faults.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>

#define NEVER ULONG_MAX

/* Of each call: its name, and how it fails. */
static const struct {
    const char *name;
    int error;
} calls[OS_FAULTS_CALLS] = {
    [OS_FAULTS_MMAP] = {"mmap", ENOMEM},
    [OS_FAULTS_MUNMAP] = {"munmap", ENOMEM},
    [OS_FAULTS_MPROTECT] = {"mprotect", ENOMEM},
    [OS_FAULTS_MADVISE] = {"madvise", EAGAIN},
    [OS_FAULTS_MREMAP] = {"mremap", ENOMEM},
    [OS_FAULTS_MEMORY] = {"all memory calls", ENOMEM},
    [OS_FAULTS_GETRANDOM] = {"getrandom", EAGAIN},
    [OS_FAULTS_FUTEX] = {"futex", EINTR},
    [OS_FAULTS_MEMBARRIER] = {"membarrier", ENOSYS},
    [OS_FAULTS_OPENAT] = {"openat", EMFILE},
    [OS_FAULTS_READ] = {"read", EIO},
    [OS_FAULTS_PREAD] = {"pread64", EIO},
    [OS_FAULTS_FSTAT] = {"fstat", EBADF},
    [OS_FAULTS_FCNTL] = {"fcntl", EMFILE},
    [OS_FAULTS_CLOSE] = {"close", EIO},
    [OS_FAULTS_FACCESSAT] = {"faccessat", EACCES},
    [OS_FAULTS_WRITE] = {"write", EIO},
    [OS_FAULTS_CLOCK_GETTIME] = {"clock_gettime", EPERM},
    [OS_FAULTS_GETRLIMIT] = {"getrlimit", EPERM},
    [OS_FAULTS_PRCTL] = {"prctl", EPERM},
    [OS_FAULTS_SCHED_GETAFFINITY] = {"sched_getaffinity", EPERM},
    [OS_FAULTS_SCHED_GETCPU] = {"sched_getcpu", ENOSYS},
    [OS_FAULTS_KEY_CREATE] = {"pthread_key_create", EAGAIN},
    [OS_FAULTS_SETSPECIFIC] = {"pthread_setspecific", ENOMEM},
    [OS_FAULTS_THREAD_CREATE] = {"pthread_create", EAGAIN},
    [OS_FAULTS_ATTR_INIT] = {"pthread_attr_init", ENOMEM},
    [OS_FAULTS_ATTR_SETSTACKSIZE] = {"pthread_attr_setstacksize", EINVAL},
    [OS_FAULTS_ATFORK] = {"pthread_atfork", ENOMEM},
};

/* For one call: numbers first to last, counted from 1, fail. Not by name: 0 is nothing planned. */
static struct plan {
    atomic_ulong count;
    atomic_ulong first; /* 0: never */
    atomic_ulong last;
    void (*_Atomic watch)(void);
} plans[OS_FAULTS_CALLS];

static atomic_ulong injected;

enum { LACKED_MAX = 4 };
static atomic_int lacked[LACKED_MAX]; /* advice that this kernel does not have; 0: none */

static void plan(enum os_faults_call call, unsigned long first, unsigned long last)
{
    plans[call].first = 0;
    plans[call].last = last;
    plans[call].first = first;
}

void os_faults_fail_nth(enum os_faults_call call, unsigned long n)
{
    unsigned long number = plans[call].count + n;
    plan(call, number, number);
}

void os_faults_fail_from(enum os_faults_call call, unsigned long n)
{
    plan(call, plans[call].count + n, NEVER);
}

void os_faults_fail_always(enum os_faults_call call)
{
    plan(call, 1, NEVER);
}

void os_faults_lack_advice(int advice)
{
    for (size_t i = 0; i < LACKED_MAX; i++) {
        int none = 0;
        if (atomic_compare_exchange_strong(&lacked[i], &none, advice)) {
            return;
        }
    }
    abort();
}

void os_faults_watch(enum os_faults_call call, void (*function)(void))
{
    plans[call].watch = function;
}

void os_faults_reset(void)
{
    for (size_t i = 0; i < OS_FAULTS_CALLS; i++) {
        plans[i].first = 0;
        plans[i].last = 0;
        plans[i].count = 0;
        plans[i].watch = NULL;
    }
    for (size_t i = 0; i < LACKED_MAX; i++) {
        lacked[i] = 0;
    }
}

unsigned long os_faults_count(enum os_faults_call call)
{
    return plans[call].count;
}

unsigned long os_faults_injected(void)
{
    return injected;
}

const char *os_faults_name(enum os_faults_call call)
{
    return calls[call].name;
}

/* Before the constructors of the program, which make calls that may have to fail; libc has no environment yet. */
static void read_environment(int argc, char **argv, char **environment)
{
    static const char key[] = "OS_FAULTS=";
    (void)argc;
    (void)argv;
    for (; *environment != NULL; environment++) {
        if (strncmp(*environment, key, strlen(key)) == 0) {
            char *rest = *environment + strlen(key);
            unsigned long call = strtoul(rest, &rest, 10);
            unsigned long first = strtoul(rest, &rest, 10);
            plan((enum os_faults_call)call, first, strtoul(rest, &rest, 10));
        }
    }
}
typedef void start_function(int argc, char **argv, char **environment);
__attribute__((section(".preinit_array"), used)) static start_function *const at_start =
    read_environment;

/* Counts a call. True: it is to fail. */
static bool is_chosen(enum os_faults_call call)
{
    struct plan *p = &plans[call];
    void (*watch)(void) = p->watch;
    if (watch != NULL) {
        watch();
    }
    unsigned long number = atomic_fetch_add(&p->count, 1) + 1;
    return p->first != 0 && number >= p->first && number <= p->last;
}

/* The same for both plans it may be in. */
static bool is_to_fail(enum os_faults_call call)
{
    bool chosen = is_chosen(call);
    chosen |= call < OS_FAULTS_MEMORY && is_chosen(OS_FAULTS_MEMORY);
    injected += chosen;
    return chosen;
}

/* For calls that set errno. */
static bool fails(enum os_faults_call call)
{
    bool failed = is_to_fail(call);
    if (failed) {
        errno = calls[call].error;
    }
    return failed;
}

/* For calls that return their error: that, or 0. */
static int error_of(enum os_faults_call call)
{
    return is_to_fail(call) ? calls[call].error : 0;
}

/* The names are the linker's: __real_X is the C library's X, and __wrap_X is what calls of X reach.
 */
#define WRAPPED(result, name, ...)                                                                 \
    result __real_##name(__VA_ARGS__);                                                             \
    result __wrap_##name(__VA_ARGS__);                                                             \
    result __wrap_##name(__VA_ARGS__)

/* ------------------------------------------------------------ memory */

WRAPPED(void *, mmap, void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    return fails(OS_FAULTS_MMAP) ? MAP_FAILED
                                 : __real_mmap(address, length, protection, flags, fd, offset);
}

WRAPPED(int, munmap, void *address, size_t length)
{
    return fails(OS_FAULTS_MUNMAP) ? -1 : __real_munmap(address, length);
}

WRAPPED(int, mprotect, void *address, size_t length, int protection)
{
    return fails(OS_FAULTS_MPROTECT) ? -1 : __real_mprotect(address, length, protection);
}

static bool is_lacked(int advice)
{
    for (size_t i = 0; i < LACKED_MAX; i++) {
        if (lacked[i] != 0 && lacked[i] == advice) {
            errno = EINVAL;
            return true;
        }
    }
    return false;
}

WRAPPED(int, madvise, void *address, size_t length, int advice)
{
    bool refused = fails(OS_FAULTS_MADVISE) || is_lacked(advice);
    return refused ? -1 : __real_madvise(address, length, advice);
}

WRAPPED(void *, mremap, void *address, size_t old_length, size_t new_length, int flags, ...)
{
    void *target = NULL;
    if ((flags & MREMAP_FIXED) != 0) {
        va_list arguments;
        va_start(arguments, flags);
        target = va_arg(arguments, void *);
        va_end(arguments);
    }
    return fails(OS_FAULTS_MREMAP) ? MAP_FAILED
                                   : __real_mremap(address, old_length, new_length, flags, target);
}

/* ------------------------------------------------------------ raw system calls */

/* The plan of a raw call, OS_FAULTS_CALLS for those that cannot be refused, or are not the library's. */
static enum os_faults_call call_of(long number)
{
    switch (number) {
    case SYS_getrandom:
        return OS_FAULTS_GETRANDOM;
    case SYS_futex:
        return OS_FAULTS_FUTEX;
    case SYS_membarrier:
        return OS_FAULTS_MEMBARRIER;
    case SYS_openat:
        return OS_FAULTS_OPENAT;
    case SYS_read:
        return OS_FAULTS_READ;
    case SYS_pread64:
        return OS_FAULTS_PREAD;
    case SYS_fstat:
        return OS_FAULTS_FSTAT;
    case SYS_fcntl:
        return OS_FAULTS_FCNTL;
    case SYS_close:
        return OS_FAULTS_CLOSE;
    case SYS_faccessat:
        return OS_FAULTS_FACCESSAT;
    case SYS_write:
        return OS_FAULTS_WRITE;
    default:
        return OS_FAULTS_CALLS;
    }
}

/* How many arguments the library passes: more must not be read. */
static size_t arguments_of(long number)
{
    switch (number) {
    case SYS_getpid:
    case SYS_gettid:
    case SYS_sched_yield:
        return 0;
    case SYS_close:
        return 1;
    case SYS_nanosleep:
    case SYS_fstat:
        return 2;
    case SYS_rt_sigtimedwait:
    case SYS_pread64:
        return 4;
    case SYS_futex:
        return 6;
    default: /* openat, read, write, fcntl, getrandom, faccessat, tgkill */
        return 3;
    }
}

WRAPPED(long, syscall, long number, ...)
{
    enum os_faults_call call = call_of(number);
    va_list list;
    long a[6] = {0};
    va_start(list, number);
    for (size_t i = 0; i < arguments_of(number); i++) {
        a[i] = va_arg(list, long);
    }
    va_end(list);
    bool failed = call != OS_FAULTS_CALLS && fails(call);
    if (failed && number != SYS_close) { /* which closes whatever it says */
        return -1;
    }
    long result = __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    return failed ? (errno = calls[call].error, -1) : result;
}

/* ------------------------------------------------------------ the rest of the system */

WRAPPED(int, clock_gettime, clockid_t clock, struct timespec *time)
{
    return fails(OS_FAULTS_CLOCK_GETTIME) ? -1 : __real_clock_gettime(clock, time);
}

WRAPPED(int, getrlimit, int resource, struct rlimit *limit)
{
    return fails(OS_FAULTS_GETRLIMIT) ? -1 : __real_getrlimit(resource, limit);
}

/* Name of the thread only: the first argument, and a text. */
WRAPPED(int, prctl, int option, ...)
{
    va_list list;
    va_start(list, option);
    unsigned long a[4];
    for (size_t i = 0; i < 4; i++) {
        a[i] = va_arg(list, unsigned long);
    }
    va_end(list);
    return fails(OS_FAULTS_PRCTL) ? -1 : __real_prctl(option, a[0], a[1], a[2], a[3]);
}

WRAPPED(int, sched_getaffinity, pid_t pid, size_t bytes, cpu_set_t *set)
{
    return fails(OS_FAULTS_SCHED_GETAFFINITY) ? -1 : __real_sched_getaffinity(pid, bytes, set);
}

WRAPPED(int, sched_getcpu, void)
{
    return fails(OS_FAULTS_SCHED_GETCPU) ? -1 : __real_sched_getcpu();
}

/* ------------------------------------------------------------ threads */

typedef void destructor(void *value);
typedef void *thread_body(void *argument);
typedef void fork_handler(void);

WRAPPED(int, pthread_key_create, pthread_key_t *key, destructor *function)
{
    int error = error_of(OS_FAULTS_KEY_CREATE);
    return error != 0 ? error : __real_pthread_key_create(key, function);
}

WRAPPED(int, pthread_setspecific, pthread_key_t key, const void *value)
{
    int error = error_of(OS_FAULTS_SETSPECIFIC);
    return error != 0 ? error : __real_pthread_setspecific(key, value);
}

WRAPPED(int, pthread_create, pthread_t *thread, const pthread_attr_t *attributes, thread_body *body,
        void *argument)
{
    int error = error_of(OS_FAULTS_THREAD_CREATE);
    return error != 0 ? error : __real_pthread_create(thread, attributes, body, argument);
}

WRAPPED(int, pthread_attr_init, pthread_attr_t *attributes)
{
    int error = error_of(OS_FAULTS_ATTR_INIT);
    return error != 0 ? error : __real_pthread_attr_init(attributes);
}

WRAPPED(int, pthread_attr_setstacksize, pthread_attr_t *attributes, size_t bytes)
{
    int error = error_of(OS_FAULTS_ATTR_SETSTACKSIZE);
    return error != 0 ? error : __real_pthread_attr_setstacksize(attributes, bytes);
}

WRAPPED(int, pthread_atfork, fork_handler *before, fork_handler *in_parent, fork_handler *in_child)
{
    int error = error_of(OS_FAULTS_ATFORK);
    return error != 0 ? error : __real_pthread_atfork(before, in_parent, in_child);
}
