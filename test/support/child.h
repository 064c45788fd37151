/* SPDX-License-Identifier: MIT */
/*
 * child.h: runs a part of a test in a process of its own and reports how that ended.
 *
 * For calls that end the process: the caller sees the signal and the text on standard error.
 */
#ifndef TEST_SUPPORT_CHILD_H
#define TEST_SUPPORT_CHILD_H

#include <stddef.h>

struct child_result {
    int signal;      /* that ended it, 0 for none */
    int status;      /* of its exit, -1 if a signal ended it */
    size_t length;   /* bytes of text */
    char text[8192]; /* standard error of the child, with a NUL; cut if longer */
};

/* In a forked child: body(argument), then _exit(0). A child that hangs is ended by SIGALRM. */
void child_run(struct child_result *result, void (*body)(void *argument), void *argument);

/* A program with arguments (ended by NULL), in this process's environment. Standard output of the
 * program goes where its standard error goes. */
void child_exec(struct child_result *result, const char *const arguments[]);

#endif
