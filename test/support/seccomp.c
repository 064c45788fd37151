/* SPDX-License-Identifier: MIT */
/*
 * seccomp.c: three small filters in the kernel's packet-filter language.
 *
 * Programs are of one architecture, so its number is not compared.
 */
#include "support/seccomp.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offset))
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, (uint32_t)(value))
#define SKIP_UNLESS_EQUAL(value, skipped)                                                          \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), 0, (skipped))
#define SKIP_UNLESS_SET(bits, skipped)                                                             \
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (uint32_t)(bits), 0, (skipped))

/* `flags`: of seccomp(2). */
static bool install(struct sock_filter *program, size_t length, unsigned long flags)
{
    struct sock_fprog filter = {.len = (unsigned short)length, .filter = program};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter) == 0;
}

bool seccomp_is_available(void)
{
    /* A NULL filter is refused with EFAULT by a kernel that would take a good one. */
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL, 0, 0) != 0 && errno == EFAULT;
}

/* `listed` for the calls in the list, `other` for the rest. */
static bool filter_by_number(const int *calls, size_t count, uint32_t listed, uint32_t other,
                             unsigned long flags)
{
    struct sock_filter program[2 * SECCOMP_CALLS_MAX + 2];
    size_t n = 0;
    if (count > SECCOMP_CALLS_MAX) {
        return false;
    }
    program[n++] = (struct sock_filter)LOAD(offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < count; i++) {
        program[n++] = (struct sock_filter)SKIP_UNLESS_EQUAL(calls[i], 1);
        program[n++] = (struct sock_filter)RETURN(listed);
    }
    program[n++] = (struct sock_filter)RETURN(other);
    return install(program, n, flags);
}

static uint32_t action_for(int error)
{
    return error == SECCOMP_KILL ? SECCOMP_RET_KILL_PROCESS
                                 : SECCOMP_RET_ERRNO | ((uint32_t)error & SECCOMP_RET_DATA);
}

bool seccomp_refuse(const int *calls, size_t count, int error)
{
    return filter_by_number(calls, count, action_for(error), SECCOMP_RET_ALLOW, 0);
}

bool seccomp_refuse_in_all_threads(const int *calls, size_t count, int error)
{
    return filter_by_number(calls, count, action_for(error), SECCOMP_RET_ALLOW,
                            SECCOMP_FILTER_FLAG_TSYNC);
}

bool seccomp_allow_only(const int *calls, size_t count, int error)
{
    return filter_by_number(calls, count, SECCOMP_RET_ALLOW, action_for(error), 0);
}

bool seccomp_kill_without_flag(int call, unsigned argument, unsigned flags)
{
    size_t low_word = offsetof(struct seccomp_data, args) + argument * sizeof(uint64_t);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    low_word += sizeof(uint32_t);
#endif
    struct sock_filter program[] = {
        LOAD(offsetof(struct seccomp_data, nr)),
        SKIP_UNLESS_EQUAL(call, 2), /* other calls are allowed */
        LOAD(low_word),
        SKIP_UNLESS_SET(flags, 1),
        RETURN(SECCOMP_RET_ALLOW),
        RETURN(SECCOMP_RET_KILL_PROCESS),
    };
    return install(program, sizeof program / sizeof program[0], 0);
}
