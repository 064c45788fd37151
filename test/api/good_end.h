/* SPDX-License-Identifier: MIT */
/*
 * good_end.h: a plain program waits for a child of its own, which says by status 0 that all is well.
 */
#ifndef TEST_API_GOOD_END_H
#define TEST_API_GOOD_END_H

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "expect.h"

static inline void expect_good_end(pid_t child)
{
    int status = 0;
    expect(child > 0, "a child");
    while (waitpid(child, &status, 0) < 0) {
        expect(errno == EINTR, "waitpid");
    }
    if (WIFSIGNALED(status)) {
        fail("the child %s by signal %d", WTERMSIG(status) == SIGALRM ? "hung, ended" : "was ended",
             WTERMSIG(status));
    }
    expect(WEXITSTATUS(status) == 0, "the child found no error");
}

#endif
