/* SPDX-License-Identifier: MIT */
/*
 * process_view.h: what a process can see of itself from outside: resident memory, threads, time.
 *
 * Does: reads /proc/self. Does not: use the heap, so that looking changes nothing.
 * Any thread may call.
 */
#ifndef TEST_SUPPORT_PROCESS_VIEW_H
#define TEST_SUPPORT_PROCESS_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Counted page by page; statm may be late by some MiB. */
size_t view_resident_bytes(void);

/* Threads that this process has now. */
unsigned view_threads(void);

/* The thread that gives memory back; 0: there is none. */
pid_t view_helper(void);

/* A figure of /proc/self/task/TID/status, read with `base`; 0 if there is none. */
uint64_t view_status(pid_t tid, const char *name, int base);

int64_t view_now_ms(void);
int64_t view_cpu_ms(void); /* of all threads */
void view_sleep_ms(int64_t ms);

/* Looks every few milliseconds. Returns how long it took until the condition held, -1 if it did not. */
int64_t view_wait(bool (*condition)(void), int64_t most_ms);

#endif
