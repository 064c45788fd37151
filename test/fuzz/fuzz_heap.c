/* SPDX-License-Identifier: MIT */
/*
 * fuzz_heap.c: the input is a program of calls of the ap_ interface, checked against a shadow model.
 *
 * Goal: whatever is called in whatever order, every block is aligned, as large as asked for, nobody
 * else's, and keeps its contents; what fails fails as documented; the statistics add up.
 *
 * Method. The first byte says how the rest is run:
 *   bits 0, 1   3: four threads at once, each with a quarter of the program and blocks of its own, which they
 *               hand to each other through shared places; else up to four threads that take turns, so
 *               that an input does the same whenever it is run
 *   bits 4..7   15: in a process of its own, which starts with options made from the next bytes; 14: the same,
 *               behind hardened:true; 13: behind guard_sample:2
 * Each byte after that is a call, with its arguments behind it. The heap lives from input to input, as it
 * does in a program; the model begins afresh. At the end of an input all is freed and the heap must say so.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "apmalloc.h"
#include "base/bits.h"
#include "config/options.h"
#include "fuzz.h"
#include "heap/heap_limits.h"
#include "heap/region.h"
#include "heap_calls.h"
#include "large/large.h"

enum { THREADS = 4, OWN = 12, SHARED = 16, SLOTS = THREADS * OWN + SHARED };
_Static_assert(SLOTS + THREADS <= MODEL_BLOCKS_MAX, "and one in each thread's hands");

struct slot {
    pthread_mutex_t mutex; /* of those that threads share */
    struct block block;
};

static struct slot slots[SLOTS];

/* ------------------------------------------------------------ programs */

/* Takes what is in a shared place and leaves there what this thread has. */
static void hand_over(struct block *block, struct slot *shared)
{
    (void)pthread_mutex_lock(&shared->mutex);
    struct block other = shared->block;
    shared->block = *block;
    (void)pthread_mutex_unlock(&shared->mutex);
    *block = other;
}

/* One of four programs at once. */
static void *run_freely(void *argument)
{
    struct fuzz_reader *in = argument;
    static _Atomic(unsigned) next_thread;
    struct slot *own = slots + atomic_fetch_add(&next_thread, 1) % THREADS * OWN;
    while (!fuzz_is_over(in)) {
        uint8_t code = fuzz_byte(in), place = fuzz_byte(in);
        struct block *block = &own[place % OWN].block;
        if (place >= 176) {
            hand_over(block, &slots[THREADS * OWN + code % SHARED]);
        } else {
            heap_call(block, in, code);
        }
    }
    return NULL;
}

static void run_all_freely(struct fuzz_reader *in)
{
    struct fuzz_reader parts[THREADS];
    pthread_t threads[THREADS];
    size_t each = (size_t)(in->end - in->at) / THREADS;
    for (size_t i = 0; i < THREADS; i++) {
        const uint8_t *start = in->at + i * each;
        parts[i] = (struct fuzz_reader){start, i + 1 == THREADS ? in->end : start + each};
        FUZZ_CHECK(pthread_create(&threads[i], NULL, run_freely, &parts[i]) == 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        FUZZ_CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

/* --- taking turns --- */

static struct runner {
    pthread_t thread;
    sem_t turn;
    bool is_there; /* also while it ends */
    bool shall_end;
} runners[THREADS]; /* 0 is the main thread */

static sem_t turn_is_over;
static struct fuzz_reader *program;
static unsigned next_runner;

enum { SWITCH_FROM = 236 }; /* places from here on: somebody else's turn */

/* libFuzzer's timer interrupts. */
static void wait_for(sem_t *semaphore)
{
    while (sem_wait(semaphore) != 0) {
        FUZZ_CHECK(errno == EINTR);
    }
}

/* Until it is another's turn. */
static void run_turn(unsigned number)
{
    while (!fuzz_is_over(program)) {
        uint8_t code = fuzz_byte(program), place = fuzz_byte(program);
        if (place >= SWITCH_FROM) {
            next_runner = code % THREADS;
            if (code >= 192 && next_runner != 0) {
                runners[next_runner].shall_end = true; /* and comes back as a new one */
            }
            if (next_runner != number) {
                return;
            }
        } else {
            heap_call(&slots[place % SLOTS].block, program, code);
        }
    }
}

static void *be_runner(void *argument)
{
    struct runner *self = argument;
    for (;;) {
        wait_for(&self->turn);
        if (self->shall_end) {
            return NULL;
        }
        run_turn((unsigned)(self - runners));
        (void)sem_post(&turn_is_over);
    }
}

static void end_runner(struct runner *runner)
{
    if (runner->is_there) {
        runner->shall_end = true;
        (void)sem_post(&runner->turn);
        FUZZ_CHECK(pthread_join(runner->thread, NULL) == 0);
    }
    runner->is_there = false;
    runner->shall_end = false;
}

static void give_turn(struct runner *runner)
{
    if (runner->shall_end) {
        end_runner(runner);
    }
    if (!runner->is_there) {
        FUZZ_CHECK(pthread_create(&runner->thread, NULL, be_runner, runner) == 0);
        runner->is_there = true;
    }
    (void)sem_post(&runner->turn);
    wait_for(&turn_is_over);
}

static void run_in_turn(struct fuzz_reader *in)
{
    program = in;
    next_runner = 0;
    while (!fuzz_is_over(in)) {
        if (next_runner == 0) {
            run_turn(0);
        } else {
            give_turn(&runners[next_runner]);
        }
    }
    for (unsigned i = 1; i < THREADS; i++) {
        end_runner(&runners[i]);
    }
}

/* --- a whole input --- */

/* The helper thread may be moving blocks from one place to another while they are counted. */
static void expect_live_bytes(size_t bytes)
{
    size_t now = 0;
    for (unsigned tries = 0; tries < 200; tries++) {
        now = ap_mallinfo2().uordblks;
        if (now == bytes || (heap_run.is_watched && now > bytes)) {
            return;
        }
        (void)usleep(1000);
    }
    (void)fprintf(stderr, "live bytes: %zu, but the heap says %zu\n", bytes, now);
    abort();
}

/* As far as it can be told while the helper may be moving what the input before has left: the same twice. */
static size_t live_bytes_at_rest(void)
{
    size_t now = ap_mallinfo2().uordblks, before = now + 1;
    for (unsigned tries = 0; tries < 200 && now != before; tries++) {
        (void)usleep(1000);
        before = now;
        now = ap_mallinfo2().uordblks;
    }
    return now;
}

/* What the statistics should say: large objects count with all of their granules. */
static size_t kept_bytes(void)
{
    size_t bytes = 0;
    for (size_t i = 0; i < SLOTS; i++) {
        const struct block *block = &slots[i].block;
        bool is_large = block->p != NULL && ap__large_usable_size(block->p) != 0;
        bytes += is_large ? ap__align_up(block->usable, AP_GRANULE) : block->usable;
    }
    return bytes;
}

static void run_program(struct fuzz_reader *in, unsigned mode)
{
    size_t before = live_bytes_at_rest();
    heap_run.is_free_running = mode % 4 == 3;
    if (heap_run.is_free_running) {
        run_all_freely(in);
    } else {
        run_in_turn(in);
    }
    ap_set_pressure_callback(NULL, NULL);
    ap__heap_limits_set_soft(SIZE_MAX);
    expect_live_bytes(before + kept_bytes());
    for (size_t i = 0; i < SLOTS; i++) {
        if (slots[i].block.p != NULL) {
            heap_release(&slots[i].block, (unsigned)i);
        }
    }
    FUZZ_CHECK(model_live_bytes() == 0);
    heap_run.is_watched = false; /* whatever was counted, nothing is left */
    expect_live_bytes(before);
}

/* ------------------------------------------------------------ a process with options */

#define CHILD_VARIABLE "AP_FUZZ_PROGRAM"

static const char *const option_names[] = {
    "ignore_foreign", "hardened",       "reserve",      "cache_thread",
    "cache_total",    "transfer_class", "cpu_shards",   "thp",
    "limit",          "soft_limit",     "decay_ms",     "helper",
    "populate",       "cgroup",         "cgroup_root",  "help",
    "stats_at_exit",  "no_such_option", "guard_sample", "quarantine",
    "fine_classes",
};
static const char *const option_values[] = {
    "true",   "false",
    "0",      "1",
    "-1",     "8",
    "4K",     "64K",
    "1M",     "4M",
    "32M",    "5",
    "50",     "auto",
    "always", "never",
    "/no",    "",
    "1T",     "banana",
    "-2",     "99999999999999999999999T",
    "2",      "512M",
    "10",     "3K",
};
enum { CONF_MAX = 500, OPTIONS_MOST = 6 };

static void compose_conf(char *conf, const char *first, struct fuzz_reader *in)
{
    size_t options = fuzz_byte(in) % (OPTIONS_MOST + 1);
    size_t length = (size_t)snprintf(conf, CONF_MAX, "%s", first);
    for (size_t i = 0; i < options; i++) {
        const char *name =
            option_names[fuzz_byte(in) % (sizeof option_names / sizeof *option_names)];
        const char *value =
            option_values[fuzz_byte(in) % (sizeof option_values / sizeof *option_values)];
        length += (size_t)snprintf(conf + length, CONF_MAX - length, "%s:%s,", name, value);
    }
}

static int memory_file(const void *bytes, size_t size)
{
    int file = memfd_create("fuzz", 0);
    FUZZ_CHECK(file >= 0 && write(file, bytes, size) == (ssize_t)size);
    FUZZ_CHECK(lseek(file, 0, SEEK_SET) == 0);
    return file;
}

static void show(int file)
{
    char text[4096];
    ssize_t length;
    (void)lseek(file, 0, SEEK_SET);
    while ((length = read(file, text, sizeof text)) > 0) {
        (void)!write(2, text, (size_t)length);
    }
}

/* By posix_spawn(): a heap that has once been larger than the machine's memory cannot be copied. */
static pid_t start_child(const char *conf, int input, int output)
{
    char variable[64], conf_variable[CONF_MAX + 32];
    char *arguments[] = {(char *)"fuzz_heap", NULL};
    char *environment[] = {variable, conf_variable, NULL};
    posix_spawn_file_actions_t actions;
    pid_t child = 0;
    (void)snprintf(variable, sizeof variable, CHILD_VARIABLE "=%d", input);
    (void)snprintf(conf_variable, sizeof conf_variable, "APMALLOC_CONF=%s", conf);
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, output, 1);
    (void)posix_spawn_file_actions_adddup2(&actions, output, 2);
    FUZZ_CHECK(posix_spawn(&child, "/proc/self/exe", &actions, NULL, arguments, environment) == 0);
    (void)posix_spawn_file_actions_destroy(&actions);
    return child;
}

static void run_in_child(struct fuzz_reader *in, const char *first_option)
{
    char conf[CONF_MAX];
    int status = 0;
    compose_conf(conf, first_option, in);
    int input = memory_file(in->at, (size_t)(in->end - in->at)), output = memory_file("", 0);
    pid_t child = start_child(conf, input, output);
    /* The fuzzer's own timer interrupts. */
    FUZZ_CHECK(TEMP_FAILURE_RETRY(waitpid(child, &status, 0)) == child);
    if (status != 0) {
        (void)fprintf(stderr, "with APMALLOC_CONF='%s' status %#x:\n", conf, (unsigned)status);
        show(output);
        abort();
    }
    (void)close(input);
    (void)close(output);
}

/* The child's part, before libFuzzer or main() read any arguments. */
static void be_child(int file)
{
    static uint8_t bytes[1 << 16];
    ssize_t size = read(file, bytes, sizeof bytes);
    FUZZ_CHECK(size >= 0);
    struct fuzz_reader in = {bytes, bytes + size};
    heap_run.is_limited = ap__options.limit != 0;
    heap_run.is_watched = ap__options.hardened || ap__options.guard_sample != 0;
    run_program(&in, fuzz_byte(&in));
    ap_malloc_stats();
    exit(0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    (void)sem_init(&turn_is_over, 0, 0);
    for (size_t i = 0; i < THREADS; i++) {
        (void)sem_init(&runners[i].turn, 0, 0);
    }
    for (size_t i = 0; i < SLOTS; i++) {
        (void)pthread_mutex_init(&slots[i].mutex, NULL);
    }
    const char *file = getenv(CHILD_VARIABLE);
    if (file != NULL) {
        be_child(atoi(file));
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_reader in = {data, data + size};
    unsigned mode = fuzz_byte(&in);
    if (mode >> 4 >= 13) {
        static const char *const first[] = {"guard_sample:2,", "hardened:true,", ""};
        run_in_child(&in, first[(mode >> 4) - 13]);
    } else {
        run_program(&in, mode);
    }
    return 0;
}
