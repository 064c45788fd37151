/* SPDX-License-Identifier: MIT */
/*
 * check.c: how the process is stopped when the library finds itself wrong.
 */
#include "os/check.h"

#include <stdlib.h>
#include <string.h>

#include "base/format.h"
#include "os/os.h"

void ap__check_failed(const char *text, const char *file, int line)
{
    char buffer[256];
    struct ap__format f;
    ap__format_init(&f, buffer, sizeof buffer);
    ap__format_text(&f, "apmalloc: internal error: ");
    ap__format_text(&f, text);
    ap__format_text(&f, " (");
    ap__format_text(&f, file);
    ap__format_text(&f, ":");
    ap__format_decimal(&f, (uint64_t)line);
    ap__format_text(&f, ")\n");
    ap__os_write_stderr(f.buffer, f.length);
    abort();
}

AP_NORETURN static void say_and_abort(const char *text)
{
    ap__os_write_stderr(text, strlen(text));
    abort();
}

void ap__reentered(void)
{
    say_and_abort(
        "apmalloc: called by a signal handler that had interrupted the allocator: no malloc() "
        "is safe there\n");
}

void ap__cache_damaged(void)
{
    say_and_abort(
        "apmalloc: a thread cache is damaged: a signal handler called the allocator that it had "
        "interrupted, or something wrote over the cache\n");
}
