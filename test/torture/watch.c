/* SPDX-License-Identifier: MIT */
/*
 * watch.c: notes in shared memory, waitpid with a deadline, a look into /proc.
 */
#include "watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stress.h"

enum { POLL_NS = 100000, POLLS_AWAKE = 20 };

/* Addresses of literals mean the same in a child. */
static _Atomic(const char *) *notes;

void watch_begin(void)
{
    notes = mmap(NULL, WATCH_NOTES * sizeof *notes, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    STRESS_CHECK((void *)notes != MAP_FAILED);
}

void watch_note(unsigned number, const char *doing)
{
    atomic_store_explicit(&notes[number], doing, memory_order_relaxed);
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    (void)!write(STDERR_FILENO, text, strnlen(text, (size_t)length));
}

static void say_file(pid_t child, const char *task, const char *name)
{
    char path[128];
    char text[2048];
    (void)snprintf(path, sizeof path, "/proc/%d/task/%s/%s", (int)child, task, name);
    int file = open(path, O_RDONLY);
    ssize_t n = file >= 0 ? read(file, text, sizeof text - 1) : -1;
    text[n < 0 ? 0 : n] = '\0';
    say("  %s: %s\n", path, text);
    (void)close(file);
}

/* Where each of its threads is: the kernel's function, the system call with the program counter. */
static void say_where(pid_t child)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/task", (int)child);
    DIR *tasks = opendir(path);
    for (struct dirent *task; tasks != NULL && (task = readdir(tasks)) != NULL;) {
        if (task->d_name[0] != '.') {
            say_file(child, task->d_name, "comm");
            say_file(child, task->d_name, "wchan");
            say_file(child, task->d_name, "syscall");
            say_file(child, task->d_name, "stack");
        }
    }
    say_file(child, "..", "maps");
}

static pid_t wait_once(pid_t child, int *status, int flags)
{
    pid_t ended;
    do {
        ended = waitpid(child, status, flags);
    } while (ended < 0 && errno == EINTR);
    return ended;
}

/* 0: it has not ended in time. */
static pid_t wait_in_time(pid_t child, int *status)
{
    const struct timespec poll = {0, POLL_NS};
    time_t deadline = time(NULL) + WATCH_SECONDS;
    pid_t ended = 0;
    for (unsigned i = 0; ended == 0 && time(NULL) < deadline; i++) {
        ended = wait_once(child, status, WNOHANG);
        if (ended == 0 && i >= POLLS_AWAKE) {
            (void)nanosleep(&poll, NULL);
        } else if (ended == 0) {
            (void)sched_yield();
        }
    }
    return ended;
}

void watch_wait(pid_t child, unsigned number)
{
    int status = 0;
    pid_t ended = wait_in_time(child, &status);
    const char *doing = atomic_load_explicit(&notes[number], memory_order_relaxed);
    if (ended == 0) {
        say("child %d hangs: %s\n", (int)child, doing);
        say_where(child);
        (void)kill(child, SIGKILL);
        (void)wait_once(child, &status, 0);
        STRESS_CHECK(!"a child hangs");
    }
    STRESS_CHECK(ended == child);
    if (status != 0) {
        say("child %d ended with status %x: %s\n", (int)child, (unsigned)status, doing);
        STRESS_CHECK(!"a child did not end well");
    }
}
