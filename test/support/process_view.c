/* SPDX-License-Identifier: MIT */
/*
 * process_view.c: files of /proc, read into the stack.
 */
#include "support/process_view.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { TEXT_MAX = 4096, PATH_MAX_HERE = 64, LOOK_EVERY_MS = 5 };

/* The start of a file as text; empty if it cannot be read. */
static void read_text(const char *path, char text[TEXT_MAX])
{
    size_t length = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    for (ssize_t n = 1; file >= 0 && n > 0 && length < TEXT_MAX - 1; length += (size_t)n) {
        n = read(file, text + length, TEXT_MAX - 1 - length);
        n = n > 0 ? n : 0;
    }
    text[length] = '\0';
    if (file >= 0) {
        (void)close(file);
    }
}

/* What stands behind "name:" at the start of a line. NULL: no such line. */
static const char *find_value(const char *text, const char *name)
{
    size_t length = strlen(name);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, length) == 0 && line[length] == ':') {
            return line + length + 1;
        }
    }
    return NULL;
}

size_t view_resident_bytes(void)
{
    char text[TEXT_MAX];
    read_text("/proc/self/smaps_rollup", text);
    const char *kib = find_value(text, "Rss");
    if (kib != NULL) {
        return strtoull(kib, NULL, 10) << 10;
    }
    read_text("/proc/self/statm", text);
    const char *pages = strchr(text, ' ');
    return pages == NULL ? 0 : strtoull(pages, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

static void read_of_task(pid_t tid, const char *file, char text[TEXT_MAX])
{
    char path[PATH_MAX_HERE];
    (void)snprintf(path, sizeof path, "/proc/self/task/%d/%s", (int)tid, file);
    read_text(path, text);
}

uint64_t view_status(pid_t tid, const char *name, int base)
{
    char text[TEXT_MAX];
    read_of_task(tid, "status", text);
    const char *value = find_value(text, name);
    return value == NULL ? 0 : strtoull(value, NULL, base);
}

static bool is_helper(pid_t tid)
{
    char text[TEXT_MAX];
    read_of_task(tid, "comm", text);
    return strcmp(text, "apmalloc\n") == 0;
}

/* Counts the threads, and finds the helper among them. opendir() would use the heap. */
static unsigned look_at_tasks(pid_t *helper)
{
    _Alignas(struct dirent64) char entries[TEXT_MAX];
    unsigned count = 0;
    int folder = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    long length;
    while (folder >= 0 && (length = syscall(SYS_getdents64, folder, entries, sizeof entries)) > 0) {
        const struct dirent64 *entry;
        for (long at = 0; at < length; at += entry->d_reclen) {
            entry = (const void *)(entries + at);
            pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10); /* 0: . and .. */
            count += tid != 0;
            *helper = tid != 0 && is_helper(tid) ? tid : *helper;
        }
    }
    if (folder >= 0) {
        (void)close(folder);
    }
    return count;
}

unsigned view_threads(void)
{
    pid_t unused = 0;
    return look_at_tasks(&unused);
}

pid_t view_helper(void)
{
    pid_t helper = 0;
    (void)look_at_tasks(&helper);
    return helper;
}

static int64_t clock_ms(clockid_t clock)
{
    struct timespec t;
    (void)clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t view_now_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC);
}

int64_t view_cpu_ms(void)
{
    return clock_ms(CLOCK_PROCESS_CPUTIME_ID);
}

void view_sleep_ms(int64_t ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&t, &t) != 0) {
    }
}

int64_t view_wait(bool (*condition)(void), int64_t most_ms)
{
    int64_t start_ms = view_now_ms();
    for (;;) {
        int64_t took_ms = view_now_ms() - start_ms;
        if (condition()) {
            return took_ms;
        }
        if (took_ms > most_ms) {
            return -1;
        }
        view_sleep_ms(LOOK_EVERY_MS);
    }
}
