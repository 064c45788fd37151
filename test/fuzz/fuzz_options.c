/* SPDX-License-Identifier: MIT */
/*
 * fuzz_options.c: any text as APMALLOC_CONF.
 * Goal: the parser ends, stays within its buffers, leaves every option within its range and every text
 * ended, sets no errno, and the same text leads to the same options. Method: the values are looked at
 * through the table that the parser itself was made from; warnings go to a memory file and are looked
 * at, too.
 */
#include "config/options.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

enum { TEXT_MAX = 4096, WARNINGS_MAX = 1 << 16, STALE_ERRNO = 1789 };

#define BOOL 0
#define BYTES 0
#define NUMBER 0
#define WHEN 0
#define DELAY 1
#define TEXT 2

static void check_text(const char *value, size_t most)
{
    FUZZ_CHECK(memchr(value, '\0', most + 1) != NULL);
    FUZZ_CHECK(strchr(value, ',') == NULL);
}

static void check_number(const uint64_t *value, uint64_t least, uint64_t most, bool may_be_never)
{
    FUZZ_CHECK((*value >= least && *value <= most) || (may_be_never && *value == UINT64_MAX));
}

static void check_values(void)
{
#define CHECK_VALUE(name, type, def, least, most, help)                                            \
    if ((type) == TEXT) {                                                                          \
        check_text((const char *)&ap__options.name, (size_t)(most));                               \
    } else {                                                                                       \
        check_number((const uint64_t *)(const void *)&ap__options.name, (least), (most),           \
                     (type) == DELAY);                                                             \
    }
    AP_OPTIONS(CHECK_VALUE)
#undef CHECK_VALUE
}

/* --- standard error goes here meanwhile --- */

static int warnings, real_stderr;

static void catch_warnings(void)
{
    FUZZ_CHECK(ftruncate(warnings, 0) == 0 && lseek(warnings, 0, SEEK_SET) == 0);
    FUZZ_CHECK(dup2(warnings, 2) == 2);
}

/* Whole lines that say whose they are. Returns their bytes. */
static size_t check_warnings(void)
{
    static char text[WARNINGS_MAX];
    FUZZ_CHECK(dup2(real_stderr, 2) == 2);
    off_t end = lseek(warnings, 0, SEEK_END);
    ssize_t length = pread(warnings, text, sizeof text, 0);
    FUZZ_CHECK(end >= 0 && length >= 0);
    if (length != 0) {
        FUZZ_CHECK(length < 10 || memcmp(text, "apmalloc: ", 10) == 0);
        FUZZ_CHECK(end > WARNINGS_MAX || text[length - 1] == '\n');
    }
    return (size_t)end;
}

static size_t parse(const char *text)
{
    catch_warnings();
    errno = STALE_ERRNO;
    ap__options_parse(text);
    FUZZ_CHECK(errno == STALE_ERRNO);
    return check_warnings();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    warnings = memfd_create("warnings", MFD_CLOEXEC);
    real_stderr = dup(2);
    FUZZ_CHECK(warnings >= 0 && real_stderr >= 0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ap__options defaults, first;
    static bool has_defaults;
    if (!has_defaults) {
        defaults = ap__options;
        has_defaults = true;
    }
    /* Exactly as long as it is, for sanitizers to see who reads on. */
    size_t length = size < TEXT_MAX ? size : TEXT_MAX;
    char *text = malloc(length + 1);
    FUZZ_CHECK(text != NULL);
    memcpy(text, data, length);
    text[length] = '\0';

    size_t said = parse(text);
    check_values();
    first = ap__options;
    ap__options = defaults;
    FUZZ_CHECK(parse(text) == said);
    FUZZ_CHECK(memcmp(&first, &ap__options, sizeof first) == 0);
    (void)parse(text); /* on top of itself: a warning may name another value, but nothing changes */
    check_values();
    ap__options = defaults;
    free(text);
    return 0;
}
