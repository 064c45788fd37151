/* SPDX-License-Identifier: MIT */
/*
 * descriptors_program.c: a limit on address space in a process that cannot open any more files.
 * Goal: RLIMIT_AS set at run time counts also where /proc/self/statm cannot be read, so that malloc
 * ends with NULL and ENOMEM and not far beyond the limit. Method: set the limit, take all descriptors,
 * allocate until NULL or twice the limit.
 *
 * descriptors_program: status 0 if all is well, else a line on standard error and 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>

#include "entry_points.h"
#include "expect.h"

#define MIB ((size_t)1 << 20)
enum { LIMIT_MIB = 200, BLOCKS_MAX = 2 * LIMIT_MIB };

static void set_limits(void)
{
    const struct rlimit files = {64, 64}, space = {LIMIT_MIB * MIB, LIMIT_MIB * MIB};
    expect(setrlimit(RLIMIT_NOFILE, &files) == 0, "few descriptors");
    while (open("/dev/null", O_RDONLY) >= 0) {
    }
    expect(errno == EMFILE, "all descriptors are taken");
    expect(setrlimit(RLIMIT_AS, &space) == 0, "little address space");
}

static void expect_end_of_memory(const struct entry_points *e, size_t size)
{
    static void *blocks[BLOCKS_MAX * 16];
    size_t most = BLOCKS_MAX * MIB / size, had = 0;
    errno = 0;
    while (had < most && (blocks[had] = e->malloc(size)) != NULL) {
        memset(blocks[had++], 1, size);
    }
    if (had == most || errno != ENOMEM) {
        fail("%s: %zu bytes were had under a limit of %zu, errno %d", e->set, had * size,
             LIMIT_MIB * MIB, errno);
    }
    while (had > 0) {
        e->free(blocks[--had]);
    }
}

int main(void)
{
    ap_free(ap_malloc(100));
    set_limits();
    FOR_EACH_SET (e) {
        expect_end_of_memory(e, 64 << 10);
        expect_end_of_memory(e, 1 * MIB);
    }
    return 0;
}
