/* SPDX-License-Identifier: MIT */
/*
 * fuzz_cgroup.c: any bytes in the kernel's text files.
 *
 * Goal: the readers of os/file.c and os/cgroup.c end, stay within their buffers, leave errno and
 * descriptors alone, and give what their headers promise. Method: the input is cut at bytes 0xff into
 * the texts of the files. The first one is also read through a memory file, line by line, and compared
 * with the lines that a plain splitter of the same text finds.
 */
#include "os/cgroup.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "os/file.h"

enum { STALE_ERRNO = 1789, PART_MAX = AP__LINES_MAX + 4096 };

/* The first decides which group the process is in. */
static const char *const files[] = {
    "proc/self/cgroup",
    "sys/fs/cgroup/memory.max",
    "sys/fs/cgroup/a/memory.max",
    "sys/fs/cgroup/a/memory.high",
    "sys/fs/cgroup/a/memory.current",
    "sys/fs/cgroup/a/memory.stat",
    "sys/fs/cgroup/a/b/memory.max",
    "sys/fs/cgroup/a/b/memory.current",
    "sys/fs/cgroup/a/b/memory.stat",
    "sys/fs/cgroup/memory/memory.limit_in_bytes",
    "sys/fs/cgroup/memory/a/memory.limit_in_bytes",
    "sys/fs/cgroup/memory/a/memory.usage_in_bytes",
    "sys/fs/cgroup/memory/a/memory.stat",
    "sys/fs/cgroup/unified/a/memory.max",
    "sys/fs/cgroup/unified/a/memory.current",
};
enum { FILES = sizeof files / sizeof *files };

static const char *const folders[] = {
    "proc",
    "proc/self",
    "sys",
    "sys/fs",
    "sys/fs/cgroup",
    "sys/fs/cgroup/a",
    "sys/fs/cgroup/a/b",
    "sys/fs/cgroup/memory",
    "sys/fs/cgroup/memory/a",
    "sys/fs/cgroup/unified",
    "sys/fs/cgroup/unified/a",
};
enum { FOLDERS = sizeof folders / sizeof *folders };

static char tree[] = "/tmp/apmalloc_fuzz_XXXXXX"; /* stands for the root of the system */

struct part {
    const uint8_t *bytes;
    size_t length;
};

static struct part cut(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *separator = *at == end ? NULL : memchr(*at, 0xff, (size_t)(end - *at));
    struct part part = {*at, (size_t)((separator == NULL ? end : separator) - *at)};
    *at = separator == NULL ? end : separator + 1;
    return part;
}

/* ------------------------------------------------------------ lines */

static int memory_file;
static char memory_path[64];

static void put_in_memory(struct part part)
{
    FUZZ_CHECK(ftruncate(memory_file, 0) == 0);
    FUZZ_CHECK(pwrite(memory_file, part.bytes, part.length, 0) == (ssize_t)part.length);
}

/* The plain splitter: the next line that a reader has to give out, in *line. False: none is left. */
static bool next_expected(struct part *rest, struct part *line)
{
    while (rest->length != 0) {
        const uint8_t *newline = memchr(rest->bytes, '\n', rest->length);
        bool is_whole = newline != NULL;
        *line =
            (struct part){rest->bytes, is_whole ? (size_t)(newline - rest->bytes) : rest->length};
        size_t used = line->length + is_whole;
        *rest = (struct part){rest->bytes + used, rest->length - used};
        if (used <= AP__LINE_MAX && (is_whole || line->length < AP__LINE_MAX)) {
            return true;
        }
    }
    return false;
}

static void check_lines(struct part part)
{
    struct ap__lines lines;
    struct part rest = part, expected;
    const char *line;
    put_in_memory(part);
    errno = STALE_ERRNO;
    ap__lines_open(&lines, memory_path);
    while ((line = ap__lines_next(&lines)) != NULL) {
        FUZZ_CHECK(next_expected(&rest, &expected));
        FUZZ_CHECK(memcmp(line, expected.bytes, expected.length) == 0);
        FUZZ_CHECK(line[expected.length] == '\0');
    }
    FUZZ_CHECK(part.length >= AP__LINES_MAX || !next_expected(&rest, &expected));
    FUZZ_CHECK(ap__lines_next(&lines) == NULL);
    ap__lines_close(&lines);
    FUZZ_CHECK(errno == STALE_ERRNO);
}

static void check_whole(struct part part, size_t room)
{
    char *text = malloc(room);
    FUZZ_CHECK(text != NULL);
    errno = STALE_ERRNO;
    size_t length = ap__os_read_file(memory_path, text, room);
    FUZZ_CHECK(errno == STALE_ERRNO);
    FUZZ_CHECK(length == (part.length < room - 1 ? part.length : room - 1));
    FUZZ_CHECK(memcmp(text, part.bytes, length) == 0 && text[length] == '\0');
    free(text);
}

/* ------------------------------------------------------------ groups */

static const char *in_tree(const char *path)
{
    static char name[512];
    (void)snprintf(name, sizeof name, "%s/%s", tree, path);
    return name;
}

static void put(const char *path, struct part part)
{
    FILE *file = fopen(in_tree(path), "wb");
    FUZZ_CHECK(file != NULL && fwrite(part.bytes, 1, part.length, file) == part.length);
    FUZZ_CHECK(fclose(file) == 0);
}

static void make_tree(void)
{
    FUZZ_CHECK(mkdtemp(tree) != NULL);
    for (size_t i = 0; i < FOLDERS; i++) {
        FUZZ_CHECK(mkdir(in_tree(folders[i]), 0700) == 0);
    }
}

static void remove_tree(void)
{
    for (size_t i = 0; i < FILES; i++) {
        (void)unlink(in_tree(files[i]));
    }
    for (size_t i = FOLDERS; i > 0; i--) {
        (void)rmdir(in_tree(folders[i - 1]));
    }
    (void)rmdir(tree);
}

static bool is_bytes(size_t bytes)
{
    return bytes == SIZE_MAX || bytes < (size_t)1 << 62;
}

static bool is_same(const struct ap__cgroup_memory *a, const struct ap__cgroup_memory *b)
{
    return a->limit_bytes == b->limit_bytes && a->high_bytes == b->high_bytes &&
           a->used_bytes == b->used_bytes && a->room_bytes == b->room_bytes;
}

static void check_memory(const struct ap__cgroup_memory *memory)
{
    size_t bound =
        memory->limit_bytes < memory->high_bytes ? memory->limit_bytes : memory->high_bytes;
    FUZZ_CHECK(is_bytes(memory->limit_bytes) && is_bytes(memory->high_bytes));
    FUZZ_CHECK((memory->room_bytes == SIZE_MAX) == (bound == SIZE_MAX));
    FUZZ_CHECK(memory->room_bytes <= bound || bound == SIZE_MAX);
    FUZZ_CHECK(memory->used_bytes < (size_t)1 << 62);
}

/* Files that stay open say the same as those that are opened. */
static void check_kept(const struct ap__cgroup *cgroup, const struct ap__cgroup_memory *memory)
{
    struct ap__cgroup_kept kept;
    struct ap__cgroup_memory of_kept;
    FUZZ_CHECK(memory->folder_length >= cgroup->mount_length);
    FUZZ_CHECK(memory->folder_length <= strlen(cgroup->folder));
    FUZZ_CHECK(memory->other_room_bytes >= memory->room_bytes);
    FUZZ_CHECK(ap__cgroup_keep(&kept, cgroup, memory));
    FUZZ_CHECK(ap__cgroup_read_kept(&kept, &of_kept));
    check_memory(&of_kept);
    FUZZ_CHECK(of_kept.used_bytes == memory->used_bytes);
    FUZZ_CHECK(of_kept.room_bytes == memory->room_bytes);
    ap__cgroup_forget(&kept);
}

static void check_groups(void)
{
    struct ap__cgroup cgroup, again;
    struct ap__cgroup_memory memory, memory_again;
    errno = STALE_ERRNO;
    bool found = ap__cgroup_find_and_read(&cgroup, tree, &memory);
    FUZZ_CHECK(ap__cgroup_find(&again, tree) == found);
    if (found) {
        FUZZ_CHECK(cgroup.version == 1 || cgroup.version == 2);
        FUZZ_CHECK(memchr(cgroup.folder, '\0', sizeof cgroup.folder) != NULL);
        FUZZ_CHECK(cgroup.mount_length <= strlen(cgroup.folder));
        FUZZ_CHECK(strncmp(cgroup.folder, tree, strlen(tree)) == 0);
        FUZZ_CHECK(strcmp(cgroup.folder, again.folder) == 0);
        check_memory(&memory);
        FUZZ_CHECK(ap__cgroup_read(&cgroup, &memory_again));
        FUZZ_CHECK(is_same(&memory, &memory_again));
        check_kept(&cgroup, &memory);
    }
    FUZZ_CHECK(errno == STALE_ERRNO);
}

/* ------------------------------------------------------------ */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    memory_file = memfd_create("fuzz", MFD_CLOEXEC);
    FUZZ_CHECK(memory_file >= 0);
    (void)snprintf(memory_path, sizeof memory_path, "/proc/self/fd/%d", memory_file);
    make_tree();
    (void)atexit(remove_tree);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *at = data, *end = data + (size < PART_MAX ? size : PART_MAX);
    int next_descriptor = dup(0);
    for (size_t i = 0; i < FILES; i++) {
        bool is_there = at != end;
        struct part part = cut(&at, end);
        if (i == 0) {
            check_lines(part);
            check_whole(part, 1 + part.length / 2);
            check_whole(part, part.length + 2);
        }
        if (is_there) {
            put(files[i], part);
        } else {
            (void)unlink(in_tree(files[i]));
        }
    }
    check_groups();
    (void)close(next_descriptor);
    int now = dup(0);
    FUZZ_CHECK(now == next_descriptor); /* none is left open */
    (void)close(now);
    return 0;
}
