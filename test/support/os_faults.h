/* SPDX-License-Identifier: MIT */
/*
 * os_faults.h: makes the kernel refuse memory when a test wants it to.
 *
 * Does: counts the calls of five functions of the C library and lets chosen ones fail with ENOMEM
 * without reaching the kernel. Does not: see calls from shared libraries, or raw system calls. How:
 * the linker's --wrap, so a program that uses this is linked with -Wl,--wrap=mmap -Wl,--wrap=munmap
 * -Wl,--wrap=mprotect -Wl,--wrap=madvise -Wl,--wrap=mremap Threads: any; a call that several
 * threads make at once is counted once for each.
 */
#ifndef TEST_SUPPORT_OS_FAULTS_H
#define TEST_SUPPORT_OS_FAULTS_H

enum os_faults_call {
    OS_FAULTS_MMAP,
    OS_FAULTS_MUNMAP,
    OS_FAULTS_MPROTECT,
    OS_FAULTS_MADVISE,
    OS_FAULTS_MREMAP,
    OS_FAULTS_CALLS /* how many there are */
};

/* The n-th such call from now on fails, once; 1 is the next. Takes the place of what was set
 * before. */
void os_faults_fail_nth(enum os_faults_call call, unsigned long n);

/* Every such call from now on fails. */
void os_faults_fail_always(enum os_faults_call call);

/* No call fails, and the counts are 0: the state at start. */
void os_faults_reset(void);

/* Calls since the last reset, those that failed included. */
unsigned long os_faults_count(enum os_faults_call call);

#endif
