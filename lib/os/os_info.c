/* SPDX-License-Identifier: MIT */
/*
 * os_info.c: what the allocator asks about the machine and the process.
 *
 * Messages go through raw system calls: libc's write() is a cancellation point, and malloc() must not
 * be one.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"
#include "os/file.h"
#include "os/os.h"

size_t ap__os_page_size(void)
{
    return (size_t)getauxval(AT_PAGESZ);
}

unsigned ap__os_cpu_count(void)
{
    int saved_errno = errno;
    cpu_set_t set;
    unsigned count = 0;
    CPU_ZERO(&set);
    /* Every program does this when it starts. libc's function for it lies on a page that nothing else here needs, and
     * the kernel maps sixteen when one is touched: 64 KiB more resident than by the bare call. */
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof set, &set);
    if (bytes > 0) {
        count = (unsigned)CPU_COUNT(&set);
    }
    errno = saved_errno;
    return count != 0 ? count : 1;
}

unsigned ap__os_current_cpu(void)
{
    int saved_errno = errno;
    int cpu = sched_getcpu();
    errno = saved_errno;
    return cpu < 0 ? 0 : (unsigned)cpu;
}

/* PR_SET_THP_DISABLE, of whoever has started the process, as a rule. */
static bool has_no_huge_pages(void)
{
    int saved_errno = errno;
    int disabled = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
    errno = saved_errno;
    return disabled == 1; /* other bits leave exceptions, of which advice is one */
}

enum ap__huge_pages ap__os_huge_pages(void)
{
    if (has_no_huge_pages()) {
        return AP__HUGE_PAGES_NEVER;
    }
    /* The setting in force is in brackets: "always [madvise] never". */
    char text[64];
    (void)ap__os_read_file("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text);
    return strstr(text, "[always]") != NULL    ? AP__HUGE_PAGES_ALWAYS
           : strstr(text, "[madvise]") != NULL ? AP__HUGE_PAGES_ADVISED
                                               : AP__HUGE_PAGES_NEVER;
}

static uint64_t now_us(clockid_t clock)
{
    int saved_errno = errno;
    struct timespec now = {0, 0};
    (void)clock_gettime(clock, &now);
    errno = saved_errno;
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t ap__os_now_us(void)
{
    return now_us(CLOCK_MONOTONIC);
}

uint64_t ap__os_now_ms(void)
{
    return now_us(CLOCK_MONOTONIC_COARSE) / 1000;
}

uint64_t ap__os_seed(void)
{
    int saved_errno = errno;
    uint64_t seed = 0;
    enum { NONBLOCK = 1 }; /* GRND_NONBLOCK: early in boot the pool may be empty */
    if (syscall(SYS_getrandom, &seed, sizeof seed, NONBLOCK) != (long)sizeof seed) {
        const void *at_random = (const void *)getauxval(AT_RANDOM); /* 16 bytes, unaligned */
        uint64_t words[2] = {0, 0};
        struct timespec now = {0, 0};
        if (at_random != NULL) {
            memcpy(words, at_random, sizeof words);
        }
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        seed = ap__hash_address((uint64_t)now.tv_nsec ^ (uintptr_t)&seed, words[0] ^ words[1]);
    }
    errno = saved_errno;
    return seed;
}

/* The start of the first thread's stack, from the dynamic loader or a static libc: argc, argv, NULL, environment. */
extern void *__libc_stack_end __attribute__((weak));

char **ap__os_environment(void)
{
    /* libc stores it when it is initialised; the loader allocates before that. */
    if (environ != NULL || &__libc_stack_end == NULL || __libc_stack_end == NULL) {
        return environ;
    }
    long arguments = *(const long *)__libc_stack_end;
    return (char **)__libc_stack_end + 1 + arguments + 1;
}

unsigned ap__os_thread_id(void)
{
    return (unsigned)syscall(SYS_gettid);
}

bool ap__os_is_secure_execution(void)
{
    return getauxval(AT_SECURE) != 0;
}

static size_t limit_of(int resource)
{
    struct rlimit limit;
    int saved_errno = errno;
    int failed = getrlimit(resource, &limit);
    errno = saved_errno;
    return failed != 0 || limit.rlim_cur >= SIZE_MAX ? SIZE_MAX : (size_t)limit.rlim_cur;
}

size_t ap__os_address_space_limit(void)
{
    return limit_of(RLIMIT_AS);
}

size_t ap__os_descriptor_limit(void)
{
    return limit_of(RLIMIT_NOFILE);
}

/* One number of /proc/self/statm and the text behind it. */
static const char *parse_pages(const char *text, size_t *pages)
{
    while (*text == ' ') {
        text++;
    }
    for (*pages = 0; *text >= '0' && *text <= '9'; text++) {
        *pages = *pages * 10 + (size_t)(*text - '0');
    }
    return text;
}

/* The process' address space and private writable memory, in pages. `false` without /proc. */
static bool process_pages(size_t *total, size_t *data)
{
    char text[256];
    if (ap__os_read_file("/proc/self/statm", text, sizeof text) == 0) {
        return false;
    }
    const char *rest = parse_pages(text, total); /* size resident shared text lib data dt */
    size_t skipped;
    for (int field = 1; field < 5; field++) {
        rest = parse_pages(rest, &skipped);
    }
    (void)parse_pages(rest, data);
    return true;
}

bool ap__os_limits_allow(size_t more_bytes, size_t reserved_unused_bytes, size_t own_bytes)
{
    size_t address_space = limit_of(RLIMIT_AS);
    size_t data_limit = limit_of(RLIMIT_DATA);
    if (address_space == SIZE_MAX && data_limit == SIZE_MAX) {
        return true;
    }
    size_t total = 0;
    size_t data = 0;
    if (!process_pages(&total, &data)) {
        /* No /proc, or no descriptor left: what is ours is at least in use. */
        size_t least = address_space < data_limit ? address_space : data_limit;
        return own_bytes <= least && more_bytes <= least - own_bytes;
    }
    size_t page = ap__os_page_size();
    size_t used = total * page > reserved_unused_bytes ? total * page - reserved_unused_bytes : 0;
    return used <= address_space && more_bytes <= address_space - used &&
           data * page <= data_limit && more_bytes <= data_limit - data * page;
}

/* ------------------------------------------------------------ messages */

/* A pipe that nobody reads any more is no reason to end the program, or to call its handler: SIGPIPE is kept from this
 * thread while it writes, and the one that the write has caused is taken away. */
struct pipe_signal {
    sigset_t only;
    sigset_t blocked_before;
    bool is_blocked;
    bool was_pending;
};

static void block_pipe_signal(struct pipe_signal *s)
{
    sigset_t pending;
    (void)sigemptyset(&s->only);
    (void)sigaddset(&s->only, SIGPIPE);
    s->is_blocked = pthread_sigmask(SIG_BLOCK, &s->only, &s->blocked_before) == 0;
    /* One that comes when another is pending is lost in it; and only what is blocked can be pending. */
    s->was_pending = s->is_blocked && sigismember(&s->blocked_before, SIGPIPE) == 1 &&
                     sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
}

static void unblock_pipe_signal(const struct pipe_signal *s, bool was_caused)
{
    static const struct timespec no_time = {0, 0};
    if (!s->is_blocked) {
        return;
    }
    if (was_caused && !s->was_pending) {
        /* Not libc's function, which is a cancellation point. The kernel knows of NSIG - 1 signals, a bit each. */
        (void)syscall(SYS_rt_sigtimedwait, &s->only, NULL, &no_time, (size_t)(NSIG / 8));
    }
    (void)pthread_sigmask(SIG_SETMASK, &s->blocked_before, NULL);
}

/* Returns whether a signal was the answer. */
static bool write_all(const char *text, size_t length)
{
    while (length > 0) {
        long written = syscall(SYS_write, STDERR_FILENO, text, length);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return written < 0 && errno == EPIPE; /* closed or full: there is nobody to tell */
        }
        text += written;
        length -= (size_t)written;
    }
    return false;
}

void ap__os_write_stderr(const char *text, size_t length)
{
    int saved_errno = errno;
    struct pipe_signal signal_of_pipe;
    block_pipe_signal(&signal_of_pipe);
    unblock_pipe_signal(&signal_of_pipe, write_all(text, length));
    errno = saved_errno;
}
