/* SPDX-License-Identifier: MIT */
/*
 * watch.h: children that must end, in good time and well.
 *
 * Does: keeps for each child a note of what it is doing, where its parent sees it; waits for it with a deadline;
 * says of one that hangs where it is. Does not: use the heap. Any thread may call.
 */
#ifndef TEST_TORTURE_WATCH_H
#define TEST_TORTURE_WATCH_H

#include <stdbool.h>
#include <sys/types.h>

enum { WATCH_NOTES = 64, WATCH_SECONDS = 60 };

/* Once, before the first child. */
void watch_begin(void);

/* What the caller is doing now: a literal. `number` is that of a note, one for each thread that forks. */
void watch_note(unsigned number, const char *doing);

/*
 * Waits for the end of a child whose note has this number. A child that is not gone in time, was ended by
 * a signal or has a status other than 0 ends this process by a report and abort().
 */
void watch_wait(pid_t child, unsigned number);

#endif
