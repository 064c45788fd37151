/* SPDX-License-Identifier: MIT */
/*
 * misuse.c: the one reporter of misuse.
 */
#include "guard/misuse.h"

#include "base/format.h"
#include "os/check.h"
#include "os/os.h"

static const char *const texts[] = {
#define AP_MISUSE_TEXT(cause, text) [AP__MISUSE_##cause] = (text),
    AP_MISUSE_CAUSES(AP_MISUSE_TEXT)
#undef AP_MISUSE_TEXT
};

void ap__misuse_write(const char *function, const void *pointer, enum ap__misuse_cause cause)
{
    char buffer[192];
    struct ap__format f;
    ap__format_init(&f, buffer, sizeof buffer);
    ap__format_text(&f, "apmalloc: ");
    ap__format_text(&f, function);
    ap__format_text(&f, "(");
    ap__format_pointer(&f, pointer);
    ap__format_text(&f, "): ");
    ap__format_text(&f, texts[cause]);
    ap__format_text(&f, "\n");
    ap__os_write_stderr(f.buffer, f.length);
}

void ap__misuse(const char *function, const void *pointer, enum ap__misuse_cause cause)
{
    ap__misuse_write(function, pointer, cause);
    ap__abort();
}
