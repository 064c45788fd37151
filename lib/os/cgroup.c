/* SPDX-License-Identifier: MIT */
/*
 * cgroup.c: how much memory the control group of this process allows.
 *
 * A group's folder is kept as a text; its ancestors are that text, cut at each '/' in turn.
 */
#include "os/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/format.h"
#include "os/file.h"

/* Where a hierarchy with memory limits is mounted, in the order of preference. The last is where
 * hybrid systems have version 2; it matters only if they keep the memory controller there. */
static const struct mount {
    const char *folder;
    unsigned version;
} mounts[] = {
    {"/sys/fs/cgroup/memory", 1},
    {"/sys/fs/cgroup", 2},
    {"/sys/fs/cgroup/unified", 2},
};

enum { DROPPABLE = 3 };

enum { LIMIT, HIGH, USED, STAT }; /* of AP__CGROUP_FILES */

/* How a version calls its files, and what in memory.stat can be dropped in a group and all below. Shared memory
 * is not on the lists of files, and version 1 counts what the kernel itself has elsewhere. */
static const struct names {
    const char *file[AP__CGROUP_FILES];
    const char *droppable[DROPPABLE];
} names_of[] = {
    /* Version 1 has no `high`, only a wish (soft_limit), which slows nobody down. */
    [1] = {{[LIMIT] = "/memory.limit_in_bytes",
            [USED] = "/memory.usage_in_bytes",
            [STAT] = "/memory.stat"},
           {"total_inactive_file ", "total_active_file "}},
    [2] = {{[LIMIT] = "/memory.max",
            [HIGH] = "/memory.high",
            [USED] = "/memory.current",
            [STAT] = "/memory.stat"},
           {"inactive_file ", "active_file ", "slab_reclaimable "}},
};

/* A folder and the name of a file in it. */
struct path {
    size_t length; /* of the folder */
    char text[AP__CGROUP_FOLDER_MAX + 32];
};

/* Where the files of one group are. */
struct source {
    const struct names *names;
    struct path *folder; /* NULL: kept */
    struct ap__cgroup_kept *kept;
};

static const char *file_in(struct path *path, const char *name)
{
    struct ap__format f;
    ap__format_init(&f, path->text + path->length, sizeof path->text - path->length);
    ap__format_text(&f, name);
    return path->text;
}

/* A number that is a whole line; everything else, and more than any machine has, is "none". */
static size_t parse_bytes(const char *text)
{
    const size_t too_much = (size_t)1 << 62; /* version 1 says "none" by about 2^63 */
    const char *at = text;
    size_t bytes = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(bytes, 10, &bytes) ||
            __builtin_add_overflow(bytes, (size_t)(*at - '0'), &bytes)) {
            return SIZE_MAX;
        }
    }
    bool whole = at != text && (*at == '\n' || *at == '\0');
    return whole && bytes < too_much ? bytes : SIZE_MAX;
}

/* The number in a file. `false`: there is no such file; *bytes is then "none". */
static bool read_bytes(const struct source *source, unsigned which, size_t *bytes)
{
    char text[64];
    const char *name = source->names->file[which];
    size_t length = name == NULL ? 0
                    : source->folder != NULL
                        ? ap__os_read_file(file_in(source->folder, name), text, sizeof text)
                        : ap__kept_file_read(&source->kept->files[which], text, sizeof text);
    *bytes = length == 0 ? SIZE_MAX : parse_bytes(text);
    return length != 0;
}

/* The bytes that a line of memory.stat gives, if it is of those that can be dropped. */
static size_t droppable_in(const char *line, const struct names *names)
{
    for (unsigned i = 0; i < DROPPABLE && names->droppable[i] != NULL; i++) {
        size_t length = strlen(names->droppable[i]);
        if (strncmp(line, names->droppable[i], length) == 0) {
            size_t bytes = parse_bytes(line + length);
            return bytes == SIZE_MAX ? 0 : bytes;
        }
    }
    return 0;
}

/* Bytes of page cache, and of the kernel's other caches, that it would drop before it refuses memory. */
static size_t droppable_bytes(const struct source *source)
{
    struct ap__lines lines;
    const char *line;
    size_t bytes = 0;
    if (source->folder != NULL) {
        ap__lines_open(&lines, file_in(source->folder, source->names->file[STAT]));
    } else {
        ap__kept_file_lines(&source->kept->files[STAT], &lines);
    }
    while ((line = ap__lines_next(&lines)) != NULL) {
        bytes += droppable_in(line, source->names);
    }
    ap__lines_close(&lines);
    return bytes;
}

static size_t used_bytes(const struct source *source)
{
    size_t used;
    if (!read_bytes(source, USED, &used) || used == SIZE_MAX) {
        return 0;
    }
    size_t droppable = droppable_bytes(source);
    return used > droppable ? used - droppable : 0;
}

static size_t lower(size_t a, size_t b)
{
    return a < b ? a : b;
}

static const struct ap__cgroup_memory no_limits = {.limit_bytes = SIZE_MAX,
                                                   .high_bytes = SIZE_MAX,
                                                   .room_bytes = SIZE_MAX,
                                                   .other_room_bytes = SIZE_MAX};

/* Adds the limits of one group to those of the groups below it. `false`: it has no such files. */
static bool add_group(const struct source *source, struct ap__cgroup_memory *memory)
{
    size_t limit, high;
    bool has_limit = read_bytes(source, LIMIT, &limit);
    bool has_high = read_bytes(source, HIGH, &high);
    size_t bound = lower(limit, high);
    memory->limit_bytes = lower(memory->limit_bytes, limit);
    memory->high_bytes = lower(memory->high_bytes, high);
    if (bound != SIZE_MAX) {
        size_t used = used_bytes(source);
        size_t room = used < bound ? bound - used : 0;
        size_t second = room < memory->room_bytes ? memory->room_bytes : room;
        memory->other_room_bytes = lower(memory->other_room_bytes, second);
        if (room < memory->room_bytes) {
            memory->room_bytes = room;
            memory->used_bytes = used;
        }
    }
    return has_limit || has_high;
}

/* The length of a path without its last name; not below the root of the mount. */
static size_t parent_length(const struct path *path, size_t mount_length)
{
    size_t length = path->length;
    do {
        length--;
    } while (length > mount_length && path->text[length] != '/');
    return length;
}

bool ap__cgroup_read(const struct ap__cgroup *cgroup, struct ap__cgroup_memory *memory)
{
    struct path path;
    const struct source source = {.names = &names_of[cgroup->version], .folder = &path};
    bool found = false;
    path.length = strlen(cgroup->folder);
    memcpy(path.text, cgroup->folder, path.length);
    *memory = no_limits;
    for (;;) {
        size_t room_below = memory->room_bytes;
        if (add_group(&source, memory) && (!found || memory->room_bytes < room_below)) {
            memory->folder_length = path.length;
            found = true;
        }
        if (path.length <= cgroup->mount_length) {
            return found;
        }
        path.length = parent_length(&path, cgroup->mount_length);
    }
}

/* Whether a list with commas has a word. */
static bool has_word(const char *list, size_t list_length, const char *word)
{
    size_t length = strlen(word);
    for (size_t at = 0; at + length <= list_length; at++) {
        bool begins = at == 0 || list[at - 1] == ',';
        bool ends = at + length == list_length || list[at + length] == ',';
        if (begins && ends && memcmp(list + at, word, length) == 0) {
            return true;
        }
    }
    return false;
}

/* A line is "number:controllers:/path"; version 2 is "0::/path". The path, or NULL for the line of a
 * hierarchy without memory limits of this version. */
static const char *memory_group(const char *line, unsigned version)
{
    const char *controllers = strchr(line, ':');
    const char *end = controllers == NULL ? NULL : strchr(controllers + 1, ':');
    if (end == NULL || end[1] != '/') {
        return NULL;
    }
    controllers++;
    bool wanted = version == 2 ? strncmp(line, "0::", 3) == 0
                               : has_word(controllers, (size_t)(end - controllers), "memory");
    return wanted ? end + 1 : NULL;
}

static bool exists(const char *path)
{
    int saved_errno = errno;
    long failed = syscall(SYS_faccessat, AT_FDCWD, path, F_OK);
    errno = saved_errno;
    return failed == 0;
}

/* Begins the folder with root and mount. `false`: too long. */
static bool set_mount(struct ap__cgroup *cgroup, const char *root, const struct mount *mount)
{
    if (strlen(root) + strlen(mount->folder) >= sizeof cgroup->folder) {
        return false;
    }
    struct ap__format f;
    ap__format_init(&f, cgroup->folder, sizeof cgroup->folder);
    ap__format_text(&f, root);
    ap__format_text(&f, mount->folder);
    cgroup->version = mount->version;
    cgroup->mount_length = f.length;
    return true;
}

/* Puts the group's path behind the mount, if it leads to a folder there: in a container it may be
 * the path outside of it, and "/.." leads out of a namespace. */
static void set_group(struct ap__cgroup *cgroup, const char *group)
{
    char *end = cgroup->folder + cgroup->mount_length;
    size_t length = strlen(group);
    if (length < sizeof cgroup->folder - cgroup->mount_length && strstr(group, "/..") == NULL &&
        strcmp(group, "/") != 0) {
        memcpy(end, group, length + 1);
        if (exists(cgroup->folder)) {
            return;
        }
    }
    *end = '\0';
}

/* Sets the folder of the group, if the process is in one of this hierarchy. Not inlined: its buffer
 * is to be gone from the stack when the limits are read. */
static AP_NOINLINE bool find_group(struct ap__cgroup *cgroup, const char *file)
{
    struct ap__lines lines;
    const char *line;
    const char *group = NULL;
    ap__lines_open(&lines, file);
    while (group == NULL && (line = ap__lines_next(&lines)) != NULL) {
        group = memory_group(line, cgroup->version);
    }
    if (group != NULL) {
        set_group(cgroup, group);
    }
    ap__lines_close(&lines);
    return group != NULL;
}

bool ap__cgroup_find(struct ap__cgroup *cgroup, const char *root)
{
    struct ap__cgroup_memory unused;
    return ap__cgroup_find_and_read(cgroup, root, &unused);
}

bool ap__cgroup_find_and_read(struct ap__cgroup *cgroup, const char *root,
                              struct ap__cgroup_memory *memory)
{
    static const char name[] = "/proc/self/cgroup";
    struct path file = {.length = strlen(root)};
    if (file.length >= AP__CGROUP_FOLDER_MAX) {
        return false;
    }
    memcpy(file.text, root, file.length);
    (void)file_in(&file, name);
    for (size_t i = 0; i < AP_ARRAY_LENGTH(mounts); i++) {
        if (set_mount(cgroup, root, &mounts[i]) && find_group(cgroup, file.text) &&
            ap__cgroup_read(cgroup, memory)) {
            return true;
        }
    }
    return false;
}

bool ap__cgroup_keep(struct ap__cgroup_kept *kept, const struct ap__cgroup *cgroup,
                     const struct ap__cgroup_memory *memory)
{
    struct path path;
    const struct names *names = &names_of[cgroup->version];
    path.length = memory->folder_length;
    memcpy(path.text, cgroup->folder, path.length);
    *kept = (struct ap__cgroup_kept){.version = cgroup->version};
    bool done = true;
    for (unsigned i = 0; i < AP__CGROUP_FILES && done; i++) {
        done = names->file[i] == NULL ||
               ap__kept_file_open(&kept->files[i], file_in(&path, names->file[i]));
    }
    if (!done) {
        ap__cgroup_forget(kept);
    }
    return done;
}

static bool has_lost_any(const struct ap__cgroup_kept *kept)
{
    bool lost = false;
    for (unsigned i = 0; i < AP__CGROUP_FILES; i++) {
        lost = lost || ap__kept_file_is_lost(&kept->files[i]);
    }
    return lost;
}

bool ap__cgroup_read_kept(struct ap__cgroup_kept *kept, struct ap__cgroup_memory *memory)
{
    if (kept->version == 0 || has_lost_any(kept)) {
        return false;
    }
    const struct source source = {.names = &names_of[kept->version], .kept = kept};
    *memory = no_limits;
    return add_group(&source, memory) && !has_lost_any(kept);
}

void ap__cgroup_forget(struct ap__cgroup_kept *kept)
{
    for (unsigned i = 0; i < AP__CGROUP_FILES; i++) {
        ap__kept_file_close(&kept->files[i]);
    }
    *kept = (struct ap__cgroup_kept){0};
}
