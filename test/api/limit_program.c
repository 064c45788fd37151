/* SPDX-License-Identifier: MIT */
/*
 * limit_program.c: the heap's limits, as a program meets them.
 * Goal: beyond `limit` every kind of allocation fails with ENOMEM, what there is goes on working and what
 * is freed can be had again; the resident size stays within it. Above `soft_limit`, from the option or
 * from a control group, the program is told and unused memory goes at once. Method: one mode a run.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "beside_helper.h"
#include "entry_points.h"
#include "expect.h"
#include "modes.h"
#include "support/process_view.h"

#define MIB ((size_t)1 << 20)
enum { BLOCKS_MAX = 1 << 20 };

static unsigned char *blocks[BLOCKS_MAX];

/* Fills blocks until there are no more. Returns how many there were. */
static size_t exhaust(size_t size)
{
    size_t count = 0;
    errno = 0;
    while (count < BLOCKS_MAX && (blocks[count] = ap_malloc(size)) != NULL) {
        memset(blocks[count], (int)count & 0xff, size);
        count++;
    }
    expect(count < BLOCKS_MAX && errno == ENOMEM, "there is an end, with ENOMEM");
    return count;
}

static void check_and_free(size_t size, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        expect(blocks[i][0] == (i & 0xff) && blocks[i][size - 1] == (i & 0xff), "contents");
        ap_free(blocks[i]);
    }
}

static void expect_refused(void)
{
    void *p = ap_malloc(16);
    errno = 0;
    expect(ap_malloc(10 * MIB) == NULL && errno == ENOMEM, "malloc");
    errno = 0;
    expect(ap_calloc(10, MIB) == NULL && errno == ENOMEM, "calloc");
    errno = 0;
    expect(ap_realloc(p, 10 * MIB) == NULL && errno == ENOMEM, "realloc");
    errno = 0;
    expect(ap_aligned_alloc(4096, 10 * MIB) == NULL && errno == ENOMEM, "aligned_alloc");
    ap_free(p);
}

/* limit:64M */
static void hard(void)
{
    static const size_t sizes[] = {1000, 40000, 300000, 5 * MIB};
    size_t before = view_resident_bytes();
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            size_t count = exhaust(sizes[i]);
            expect(count * sizes[i] >= 48 * MIB && count * sizes[i] <= 64 * MIB,
                   "nearly all of the limit can be used, each time anew");
            expect_refused();
            expect(view_resident_bytes() <= before + 72 * MIB, "resident: heap and its records");
            check_and_free(sizes[i], count);
        }
    }
}

/* limit:64M, and `hardened`, or blocks that are sampled. A shrink never fails; where there is no memory for the
 * smaller block, the larger one stays, and may be freed by the size that the program asked for. */
static void shrink(void)
{
    unsigned char *large = ap_malloc(20 * MIB);
    unsigned char *small = ap_malloc(3000);
    large[0] = 1;
    small[0] = 2;
    size_t count = exhaust(100);
    errno = 0;
    unsigned char *kept_large = ap_realloc(large, 100);
    unsigned char *kept_small = ap_realloc(small, 100);
    expect(kept_large != NULL && kept_small != NULL && errno == 0, "a shrink never fails");
    expect(kept_large[0] == 1 && kept_small[0] == 2, "contents are kept");
    ap_free_sized(kept_large, 100);
    ap_free_sized(kept_small, 100);
    check_and_free(100, count);
}

static atomic_int times_told;
static _Atomic(size_t) limit_told;

static void tell(void *context, size_t used_bytes, size_t limit_bytes)
{
    expect(context == &times_told, "the context");
    expect(used_bytes > limit_bytes, "used and limit");
    limit_told = limit_bytes;
    times_told++;
    ap_free(ap_malloc(100)); /* it may allocate */
    errno = EBADF;           /* it may fail at something */
}

static bool is_told(void)
{
    ap_free(ap_malloc(300000));
    return times_told != 0;
}

static bool is_back(void)
{
    for (int i = 0; i < 32; i++) {
        ap_free(ap_malloc(300000));
    }
    return view_resident_bytes() < limit_told + 12 * MIB; /* below it nothing is urgent */
}

static void expect_pressure(size_t limit)
{
    ap_set_pressure_callback(tell, &times_told);
    for (int i = 0; i < 60; i++) {
        blocks[i] = memset(ap_malloc(MIB), 1, MIB);
    }
    expect(view_wait(is_told, 30000) >= 0, "the program is told");
    expect(limit_told >= limit && limit_told <= limit + 8 * MIB, "which limit");
    for (int i = 0; i < 60; i++) {
        ap_free(blocks[i]);
    }
    expect(view_wait(is_back, 30000) >= 0, "unused memory goes, long before decay_ms is over");
    expect(times_told == 1, "once");
}

/* soft_limit:20M,decay_ms:600000, and -1: the limit counts where nothing goes back by time */
static void soft(void)
{
    expect_pressure(20 * MIB);
}

/* soft_limit:20M. A cache that only ever grows, of one thread: its calls are all there is to tell it. */
static void grows(void)
{
    ap_set_pressure_callback(tell, &times_told);
    errno = 0;
    for (int i = 0; i < 40; i++) {
        blocks[i] = ap_malloc(MIB);
        expect(times_told == (i >= 20), "told by the allocation that goes beyond, once");
    }
    expect(errno == 0, "telling leaves errno alone");
}

static void grows_in_place(void)
{
    unsigned char *vector = NULL;
    ap_set_pressure_callback(tell, &times_told);
    for (size_t i = 1; i <= 40; i++) {
        vector = ap_realloc(vector, i * MIB);
        expect(vector != NULL, "there is memory");
    }
    expect(times_told == 1, "told by a realloc");
    ap_free(vector);
}

static void take_many(size_t size, size_t bytes)
{
    for (size_t i = 0; i < bytes / size; i++) {
        blocks[i] = memset(ap_malloc(size), 1, size);
    }
}

static void free_many(size_t size, size_t bytes)
{
    for (size_t i = 0; i < bytes / size; i++) {
        ap_free(blocks[i]);
    }
}

/* soft_limit:20M. What one thread has freed is gone by then, not by its next calls: there may be none for long. */
static void comes_back(void)
{
    static const size_t sizes[] = {100, 3000, 200000, MIB};
    size_t before = view_resident_bytes();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        take_many(sizes[i], 100 * MIB);
        free_many(sizes[i], 100 * MIB);
        expect(view_resident_bytes() < before + 40 * MIB, "the rest of what was freed is gone");
    }
}

static const char *root; /* of the folder that stands for a control group's */

static void write_file(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    expect(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text), path);
    (void)close(file);
}

static bool was_told(void)
{
    return times_told != 0;
}

/* cgroup_root:FOLDER,cgroup_check_ms:20,decay_ms:1000; the folder's limit is far away, until it is lowered. */
static void lowered(void)
{
    char path[512];
    be_beside_helper();
    ap_set_pressure_callback(tell, &times_told);
    for (int i = 0; i < 60; i++) {
        blocks[i] = memset(ap_malloc(MIB), 1, MIB);
    }
    for (int i = 0; i < 1000; i++) {
        expect(!is_told(), "there is room");
    }
    (void)snprintf(path, sizeof path, "%s/sys/fs/cgroup/memory.max", root);
    write_file(path, "50000000\n");
    expect(view_wait(is_told, 30000) >= 0, "the lower limit is seen");
    expect(limit_told < 60 * MIB, "which limit");
}

/* soft_limit:20M. The same beside a helper, which sleeps when there is nothing to do. */
static void grows_beside_helper(void)
{
    be_beside_helper();
    view_sleep_ms(500); /* with `decay_ms:50` nothing is left to do by then */
    ap_set_pressure_callback(tell, &times_told);
    for (int i = 0; i < 40; i++) {
        blocks[i] = ap_malloc(MIB);
    }
    expect(view_wait(was_told, 30000) >= 0, "told by the helper");
}

static bool is_little_resident(void)
{
    return view_resident_bytes() < 48 * MIB;
}

/* soft_limit:20M,decay_ms:600000. The helper's next step by time is far ahead. */
static void beside_helper_asleep(void)
{
    be_beside_helper();
    view_sleep_ms(200);
    ap_set_pressure_callback(tell, &times_told);
    take_many(1000, 80 * MIB);
    expect(view_wait(was_told, 15000) >= 0, "told by the helper");
    free_many(1000, 80 * MIB);
    expect(view_wait(is_little_resident, 15000) >= 0,
           "memory is back, long before decay_ms is over");
}

/* cgroup_root:FOLDER,decay_ms:600000; the folder has files that allow 100 MiB, of which 50 are used. */
static void group(void)
{
    char path[512];
    expect_pressure(45 * MIB);
    (void)snprintf(path, sizeof path, "%s/sys/fs/cgroup/memory.max", root);
    write_file(path, "max\n");
    ap_update_limits();
    times_told = 0;
    for (int i = 0; i < 60; i++) {
        blocks[i] = memset(ap_malloc(MIB), 1, MIB);
    }
    view_sleep_ms(200);
    expect(!is_told(), "the limit is gone");
}

static const struct mode modes[] = {
    {"hard", hard},
    {"shrink", shrink},
    {"soft", soft},
    {"grows", grows},
    {"grows_in_place", grows_in_place},
    {"grows_beside_helper", grows_beside_helper},
    {"comes_back", comes_back},
    {"beside_helper_asleep", beside_helper_asleep},
    {"lowered", lowered},
    {"group", group},
};

int main(int argc, char **argv)
{
    root = argc == 3 ? argv[2] : NULL;
    run_mode(modes, sizeof modes / sizeof *modes, argv[1]);
    return 0;
}
