/* SPDX-License-Identifier: MIT */
/*
 * kept_files_program.c: files of a control group that stay open, as a program meets them.
 * Goal: a limit that is lowered while the program runs is seen, also where opening a file would be its end, and in
 * forked children; a program's descriptors have the numbers they would have without, and what it
 * makes of numbers that it has closed is its own. Method: limit_group.sh makes up a group with 300 MiB of room, and
 * sets the options; one mode a run.
 *
 * kept_files_program MODE FOLDER: status 0 if all is well, 77 where there is nothing to test, else 1 and a line.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "beside_helper.h"
#include "entry_points.h"
#include "expect.h"
#include "good_end.h"
#include "modes.h"
#include "support/process_view.h"
#include "support/seccomp.h"

#define MIB ((size_t)1 << 20)
enum { NUMBERS_MAX = 1024, WAIT_MS = 30000, CHILD_SECONDS = 50, READINGS_MS = 300 };

static const char *root;

/* ------------------------------------------------------------ numbers */

static bool is_open(int number)
{
    return fcntl(number, F_GETFD) != -1;
}

/* Open numbers above those of the standard streams. */
static unsigned open_numbers(void)
{
    unsigned count = 0;
    for (int number = STDERR_FILENO + 1; number < NUMBERS_MAX; number++) {
        count += is_open(number);
    }
    return count;
}

static int first_kept(void)
{
    int number = STDERR_FILENO + 1;
    while (number < NUMBERS_MAX && !is_open(number)) {
        number++;
    }
    return number;
}

static void expect_first_open_is_3(void)
{
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    expect(file == STDERR_FILENO + 1, "the program's first descriptor is 3");
    (void)close(file);
}

static void expect_kept_from(int first)
{
    expect(open_numbers() == 4, "four files stay open");
    expect(first_kept() == first, "out of the way");
    expect(fcntl(first, F_GETFD) == FD_CLOEXEC, "not for other programs");
    expect_first_open_is_3();
    ap_update_limits();
    expect(open_numbers() == 4 && first_kept() == first, "an update keeps as many");
    expect_first_open_is_3();
}

static void numbers(void)
{
    expect_kept_from(240);
}

/* ulimit -n 64 */
static void few_numbers(void)
{
    expect_kept_from(32);
}

static void none_open(void)
{
    expect(open_numbers() == 0, "no file is open");
    expect_first_open_is_3();
    ap_update_limits();
    expect(open_numbers() == 0, "nor after an update");
}

static void executes(void)
{
    expect(open_numbers() == 4, "four files stay open");
    (void)setenv("APMALLOC_CONF", "cgroup:false", 1);
    (void)execl("/proc/self/exe", "kept_files_program", "none_open", root, (char *)NULL);
    fail("the program cannot be executed");
}

/* ------------------------------------------------------------ the limit */

static atomic_int times_told;

static void tell(void *unused, size_t used_bytes, size_t limit_bytes)
{
    (void)unused;
    expect(used_bytes > limit_bytes, "used and limit");
    times_told++;
}

static bool is_told(void)
{
    ap_free(ap_malloc(300000));
    return times_told != 0;
}

/* Keeps the helper at work, whatever is told. */
static void expect_room_for(int64_t ms)
{
    for (int64_t end = view_now_ms() + ms; view_now_ms() < end;) {
        expect(!is_told(), "there is room");
    }
}

static void *blocks[60];

static void use_60_mib_beside_helper(void)
{
    be_beside_helper();
    ap_set_pressure_callback(tell, NULL);
    for (int i = 0; i < 60; i++) {
        blocks[i] = memset(ap_malloc(MIB), 1, MIB);
    }
}

/* Descriptors to write to, for later. */
static struct group {
    int limit, used;
} group;

static int open_of_group(const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/sys/fs/cgroup/%s", root, name);
    int file = open(path, O_WRONLY | O_CLOEXEC);
    expect(file >= 0, path);
    return file;
}

static void open_group(void)
{
    group = (struct group){open_of_group("memory.max"), open_of_group("memory.current")};
}

/* In one piece, as the kernel changes them. */
static void put_number(int file, size_t bytes)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%020zu\n", bytes);
    expect(pwrite(file, text, strlen(text), 0) == (ssize_t)strlen(text), "a number");
}

static void expect_lowered(void)
{
    put_number(group.limit, 10 * MIB);
    expect(view_wait(is_told, WAIT_MS) >= 0, "the lower limit is seen");
}

static void lowered(void)
{
    open_group();
    use_60_mib_beside_helper();
    expect_room_for(READINGS_MS);
    expect_lowered();
}

/* Another program of the group takes all there is. */
static void filled(void)
{
    open_group();
    use_60_mib_beside_helper();
    expect_room_for(READINGS_MS);
    put_number(group.used, 350 * MIB);
    expect(view_wait(is_told, WAIT_MS) >= 0, "the lack of room is seen");
}

static void forked(void)
{
    open_group();
    pid_t child = fork();
    if (child == 0) {
        (void)alarm(CHILD_SECONDS);
        use_60_mib_beside_helper();
        expect_room_for(READINGS_MS);
        expect_lowered();
        _exit(0);
    }
    expect_good_end(child);
}

/* A sandbox of the kind that browsers have: whoever opens a file ends the process. */
static void filter(void)
{
    static const int deadly[] = {SYS_openat, SYS_openat2,   SYS_prctl,
                                 SYS_close,  SYS_faccessat, SYS_statx,
#ifdef SYS_open
                                 SYS_open,
#endif
                                 SYS_read,   SYS_fcntl,     SYS_newfstatat};
    if (!seccomp_is_available()) {
        skip("this kernel does not let a process filter its calls");
    }
    open_group();
    use_60_mib_beside_helper();
    if (!seccomp_refuse_in_all_threads(deadly, sizeof deadly / sizeof *deadly, SECCOMP_KILL)) {
        skip("this kernel does not filter the calls of other threads");
    }
    expect_room_for(READINGS_MS);
    expect_lowered();
}

/* ------------------------------------------------------------ numbers that are the program's */

enum { COUNT = 5 };

/* A file that would say that there is no room at all. */
static int open_small_limit(void)
{
    int file = (int)syscall(SYS_memfd_create, "small", 0);
    expect(file >= 0 && write(file, "1\n", 2) == 2, "a file");
    return file;
}

static void close_all(void)
{
    for (int number = STDERR_FILENO + 1; number < NUMBERS_MAX; number++) {
        (void)close(number);
    }
}

/* As a daemon does that leaves nothing open. */
static void closes_all(void)
{
    use_60_mib_beside_helper();
    close_all();
    expect_room_for(READINGS_MS);
    expect(open_numbers() == 0, "no file is open");
    ap_update_limits();
    expect(open_numbers() == 4, "an update keeps anew");
    open_group();
    expect_lowered();
}

static void reuse_all_as(int file)
{
    for (int number = file + 1; number < NUMBERS_MAX; number++) {
        expect(dup2(file, number) == number, "a number");
    }
}

static void expect_all_open(void)
{
    for (int number = STDERR_FILENO + 1; number < NUMBERS_MAX; number++) {
        expect(is_open(number), "a descriptor of the program is still open");
    }
}

static void reuses_as_files(void)
{
    use_60_mib_beside_helper();
    close_all();
    reuse_all_as(open_small_limit());
    expect_room_for(READINGS_MS);
    ap_update_limits();
    expect_all_open();
}

static void reuses_as_counters(void)
{
    uint64_t value = 0;
    use_60_mib_beside_helper();
    close_all();
    int counter = eventfd(COUNT, EFD_NONBLOCK);
    reuse_all_as(counter);
    expect_room_for(READINGS_MS);
    ap_update_limits();
    expect_all_open();
    expect(read(counter, &value, sizeof value) == (ssize_t)sizeof value && value == COUNT,
           "the counter is as it was");
}

/* The one the library would look at first is its own, the others are not. */
static void reuses_some(void)
{
    int kept = first_kept();
    use_60_mib_beside_helper();
    int small = open_small_limit();
    expect(dup2(small, kept + 2) == kept + 2, "the file of what is used");
    open_group();
    put_number(group.limit, MIB);
    expect_room_for(READINGS_MS);
    ap_update_limits();
    expect(is_open(kept + 2), "a descriptor of the program is still open");
    expect(view_wait(is_told, WAIT_MS) >= 0, "the update sees the lower limit");
}

static const struct mode modes[] = {
    {"numbers", numbers},
    {"few_numbers", few_numbers},
    {"none_open", none_open},
    {"executes", executes},
    {"lowered", lowered},
    {"filled", filled},
    {"forked", forked},
    {"filter", filter},
    {"closes_all", closes_all},
    {"reuses_as_files", reuses_as_files},
    {"reuses_as_counters", reuses_as_counters},
    {"reuses_some", reuses_some},
};

int main(int argc, char **argv)
{
    expect(argc == 3, "a mode and a folder");
    root = argv[2];
    run_mode(modes, sizeof modes / sizeof *modes, argv[1]);
    return 0;
}
