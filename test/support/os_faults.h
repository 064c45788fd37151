/* SPDX-License-Identifier: MIT */
/*
 * os_faults.h: makes the kernel, and the C library, refuse what a test wants them to.
 *
 * Does: counts the calls of lib/ that can be refused and lets chosen ones fail as the kernel would, without
 * reaching it. Does not: see calls from shared libraries. How: the linker's --wrap, so a program that uses this
 * is linked with the --wrap options of test/unit/meson.build. The plan may also come from the environment, for
 * calls that are made before main(): OS_FAULTS="CALL FIRST LAST", by number.
 * Threads: any; a call that several threads make at once is counted once for each.
 */
#ifndef TEST_SUPPORT_OS_FAULTS_H
#define TEST_SUPPORT_OS_FAULTS_H

enum os_faults_call {
    OS_FAULTS_MMAP,
    OS_FAULTS_MUNMAP,
    OS_FAULTS_MPROTECT,
    OS_FAULTS_MADVISE,
    OS_FAULTS_MREMAP,
    OS_FAULTS_MEMORY, /* the five above, counted together */
    OS_FAULTS_GETRANDOM,
    OS_FAULTS_FUTEX,
    OS_FAULTS_MEMBARRIER,
    OS_FAULTS_OPENAT,
    OS_FAULTS_READ,
    OS_FAULTS_PREAD,
    OS_FAULTS_FSTAT,
    OS_FAULTS_FCNTL,
    OS_FAULTS_CLOSE,
    OS_FAULTS_FACCESSAT,
    OS_FAULTS_WRITE,
    OS_FAULTS_CLOCK_GETTIME,
    OS_FAULTS_GETRLIMIT,
    OS_FAULTS_PRCTL,
    OS_FAULTS_SCHED_GETAFFINITY,
    OS_FAULTS_SCHED_GETCPU,
    OS_FAULTS_KEY_CREATE,
    OS_FAULTS_SETSPECIFIC,
    OS_FAULTS_THREAD_CREATE,
    OS_FAULTS_ATTR_INIT,
    OS_FAULTS_ATTR_SETSTACKSIZE,
    OS_FAULTS_ATFORK,
    OS_FAULTS_CALLS /* how many there are */
};

/* The n-th such call from now on fails, once; 1 is the next. Takes the place of what was set
 * before. */
void os_faults_fail_nth(enum os_faults_call call, unsigned long n);

/* The n-th such call from now on fails, and all after it. */
void os_faults_fail_from(enum os_faults_call call, unsigned long n);

/* Every such call from now on fails. */
void os_faults_fail_always(enum os_faults_call call);

/* From now on the kernel does not know this advice of madvise(): EINVAL. At most four. */
void os_faults_lack_advice(int advice);

/* `function` runs at the begin of every such call, on its thread: what is true at that moment? NULL: none. */
void os_faults_watch(enum os_faults_call call, void (*function)(void));

/* No call fails or is watched, all advice is known, and the counts are 0: the state at start. */
void os_faults_reset(void);

/* Calls since the last reset, those that failed included. */
unsigned long os_faults_count(enum os_faults_call call);

/* Calls that failed since the program started. */
unsigned long os_faults_injected(void);

const char *os_faults_name(enum os_faults_call call);

#endif
