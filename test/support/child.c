/* SPDX-License-Identifier: MIT */
/*
 * child.c: fork, a pipe for standard error, waitpid.
 *
 * No heap memory is used, so that the heap of the caller stays as the test made it.
 */
#include "support/child.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HANG_SECONDS = 60 };

static void prepare_child(int write_end)
{
    static const struct rlimit no_core = {.rlim_cur = 0, .rlim_max = 0};
    (void)setrlimit(RLIMIT_CORE, &no_core);
    (void)dup2(write_end, STDERR_FILENO);
    (void)close(write_end);
    (void)alarm(HANG_SECONDS);
}

/* Everything the child writes; what does not fit is read and dropped, so that it never blocks. */
static void read_text(int read_end, struct child_result *result)
{
    char dropped[512];
    for (;;) {
        size_t room = sizeof result->text - 1 - result->length;
        char *to = room != 0 ? result->text + result->length : dropped;
        ssize_t n = read(read_end, to, room != 0 ? room : sizeof dropped);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            break;
        }
        if (n > 0 && room != 0) {
            result->length += (size_t)n;
        }
    }
    result->text[result->length] = '\0';
}

static void collect(pid_t child, int read_end, struct child_result *result)
{
    int status = 0;
    read_text(read_end, result);
    (void)close(read_end);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    result->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    result->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static pid_t fork_with_pipe(struct child_result *result, int ends[2])
{
    memset(result, 0, sizeof *result);
    if (pipe(ends) != 0) {
        abort();
    }
    pid_t child = fork();
    if (child < 0) {
        abort();
    }
    (void)close(child == 0 ? ends[0] : ends[1]);
    return child;
}

void child_run(struct child_result *result, void (*body)(void *argument), void *argument)
{
    int ends[2];
    pid_t child = fork_with_pipe(result, ends);
    if (child == 0) {
        prepare_child(ends[1]);
        body(argument);
        _exit(0);
    }
    collect(child, ends[0], result);
}

void child_exec(struct child_result *result, const char *const arguments[])
{
    int ends[2];
    pid_t child = fork_with_pipe(result, ends);
    if (child == 0) {
        prepare_child(ends[1]);
        (void)dup2(STDERR_FILENO, STDOUT_FILENO);
        execv(arguments[0], (char *const *)arguments);
        _exit(127);
    }
    collect(child, ends[0], result);
}
