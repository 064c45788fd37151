/* SPDX-License-Identifier: MIT */
/*
 * measure: runs one program and writes down what it cost.
 *
 *     measure OUTPUT PROGRAM [ARG...]
 *
 * OUTPUT gets one line of key=value pairs:
 *   wall_s, user_s, sys_s         times of the program and of the descendants it waited for
 *   peak_kib                      highest resident set of the biggest one of them
 *   minor_faults, major_faults    page faults of all of them
 *   status                        exit status, or the negated number of the signal that ended it
 *   preloaded                     1 if the library asked for was seen in the program's memory map
 *
 * The program's environment is the one given, except for APM_MEASURE_PRELOAD: if set, it names one
 * library and becomes LD_PRELOAD, of the program only.
 *
 * Why a program of its own: exec keeps the highest resident set of the process that forked, so a
 * big parent (an interpreter) would show up as the peak of everything it starts. This one has no
 * more than a megabyte or two.
 *
 * Exit status: that of the program, 128 and the signal if a signal ended it, 127 if it does not
 * exist, 126 if it cannot be executed, 125 if measuring itself failed.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    EXIT_MEASURE = 125,
    EXIT_NO_EXEC = 126,
    EXIT_NO_PROGRAM = 127,
    POLL_NS = 500 * 1000,
};

static const char PRELOAD_VARIABLE[] = "APM_MEASURE_PRELOAD";

__attribute__((noreturn)) static void die(const char *what)
{
    fprintf(stderr, "measure: %s: %s\n", what, strerror(errno));
    exit(EXIT_MEASURE);
}

static double now(void)
{
    struct timespec time;
    if (clock_gettime(CLOCK_MONOTONIC, &time) != 0)
        die("clock_gettime");
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static double seconds(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec * 1e-6;
}

/* --- the program --- */

__attribute__((noreturn)) static void become(char **arguments, const char *preload, pid_t parent)
{
    /* Whoever ends this process early must not leave the program running. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
        _exit(EXIT_MEASURE);
    if (preload != NULL && setenv("LD_PRELOAD", preload, 1) != 0)
        _exit(EXIT_MEASURE);
    execvp(arguments[0], arguments);
    int status = errno == ENOENT ? EXIT_NO_PROGRAM : EXIT_NO_EXEC;
    fprintf(stderr, "measure: cannot execute %s: %s\n", arguments[0], strerror(errno));
    _exit(status);
}

/* Whether the memory map of the process has the file; a process that is gone has nothing. */
static bool has_mapped(pid_t process, const char *file)
{
    char name[64];
    snprintf(name, sizeof name, "/proc/%ld/maps", (long)process);
    FILE *maps = fopen(name, "re");
    if (maps == NULL)
        return false;
    char *line = NULL;
    size_t room = 0;
    bool found = false;
    while (!found && getline(&line, &room, maps) > 0) {
        const char *path = strchr(line, '/');
        line[strcspn(line, "\n")] = '\0';
        found = path != NULL && strcmp(path, file) == 0;
    }
    free(line);
    fclose(maps);
    return found;
}

static bool wait_for(pid_t process, int options, int *status, struct rusage *usage)
{
    pid_t ended;
    do
        ended = wait4(process, status, options, usage);
    while (ended < 0 && errno == EINTR);
    if (ended < 0)
        die("wait4");
    return ended == process;
}

/* Looks every now and then until the library is there, which takes a millisecond, then no more. */
static bool wait_seeing(pid_t process, const char *library, int *status, struct rusage *usage)
{
    const struct timespec pause = {.tv_nsec = POLL_NS};
    bool seen = false;
    while (library != NULL && !seen) {
        if (wait_for(process, WNOHANG, status, usage))
            return false;
        seen = has_mapped(process, library);
        if (!seen)
            nanosleep(&pause, NULL);
    }
    wait_for(process, 0, status, usage);
    return seen;
}

/* --- the report --- */

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: measure OUTPUT PROGRAM [ARG...]\n");
        return EXIT_MEASURE;
    }
    /* Opened beforehand: a run that cannot be written down is not begun. */
    FILE *output = fopen(argv[1], "we");
    if (output == NULL)
        die(argv[1]);
    const char *preload = getenv(PRELOAD_VARIABLE);
    char library[PATH_MAX];
    if (preload != NULL) {
        /* A copy: unsetenv may free the original. Memory maps show names without links. */
        if (realpath(preload, library) == NULL)
            die(preload);
        preload = strdup(preload);
        if (preload == NULL || unsetenv(PRELOAD_VARIABLE) != 0)
            die(PRELOAD_VARIABLE);
    }

    pid_t self = getpid();
    double start = now();
    pid_t process = fork();
    if (process < 0)
        die("fork");
    if (process == 0)
        become(argv + 2, preload, self);
    int status = 0;
    struct rusage usage;
    bool seen = wait_seeing(process, preload != NULL ? library : NULL, &status, &usage);
    double wall = now() - start;

    bool killed = WIFSIGNALED(status);
    int result = killed ? -WTERMSIG(status) : WEXITSTATUS(status);
    fprintf(output,
            "wall_s=%.6f user_s=%.6f sys_s=%.6f peak_kib=%ld minor_faults=%ld major_faults=%ld "
            "status=%d preloaded=%d\n",
            wall, seconds(usage.ru_utime), seconds(usage.ru_stime), usage.ru_maxrss,
            usage.ru_minflt, usage.ru_majflt, result, seen);
    if (ferror(output) || fclose(output) != 0)
        die(argv[1]);
    return killed ? 128 - result : result;
}
