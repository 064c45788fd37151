/* SPDX-License-Identifier: MIT */
/*
 * misuse.c: the child, and the line it leaves.
 */
#include "misuse.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "support/child.h"

static const char *const texts[] = {
#define ROW(cause, text) [AP__MISUSE_##cause] = (text),
    AP_MISUSE_CAUSES(ROW)
#undef ROW
};
enum { CAUSES = sizeof texts / sizeof texts[0] };

/* Shared with the child: the pointer it was wrong about. */
static const void **noted(void)
{
    static const void **page;
    if (page == NULL) {
        page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        cr_assert_neq((void *)page, MAP_FAILED);
    }
    return page;
}

bool is_outside(void)
{
    const char *options = getenv("APMALLOC_CONF");
    return options != NULL && strstr(options, "reserve:4M") != NULL;
}

void *wrong(const void *p)
{
    *noted() = p;
    return opaque(p);
}

void return_batches(void)
{
    ap_thread_idle();
    (void)ap_trim();
}

static void run_body(void *misuse)
{
    const struct misuse *m = misuse;
    m->body(m);
}

static struct child_result run(struct misuse *m)
{
    struct child_result result;
    *noted() = NULL;
    child_run(&result, run_body, m);
    return result;
}

/* Whether the text is the one line for one of the causes; writes what would have been right. */
static bool is_report(const char *text, const char *function, unsigned causes, char *expected,
                      size_t size)
{
    const char *at = text;
    char pointer[32];
    (void)snprintf(pointer, sizeof pointer, "(0x%lx): ", (unsigned long)(uintptr_t)*noted());
    (void)snprintf(expected, size, "apmalloc: %s%s...", function == NULL ? "..." : function,
                   pointer);
    if (strncmp(at, "apmalloc: ", 10) != 0) {
        return false;
    }
    at += 10;
    at += strncmp(at, "ap_", 3) == 0 ? 3 : 0;
    const char *end = strstr(at, pointer);
    if (end == NULL || (function != NULL && (strlen(function) != (size_t)(end - at) ||
                                             strncmp(at, function, strlen(function)) != 0))) {
        return false;
    }
    at = end + strlen(pointer);
    for (unsigned cause = 0; cause < CAUSES; cause++) {
        size_t length = strlen(texts[cause]);
        if ((causes & 1u << cause) != 0 && strncmp(at, texts[cause], length) == 0 &&
            strcmp(at + length, "\n") == 0) {
            return true;
        }
    }
    return false;
}

void expect_misuse(struct misuse m, const char *function, unsigned causes)
{
    struct child_result result = run(&m);
    char expected[256];
    if (is_outside() && (causes & NOT_LIVE) != 0) {
        causes |= FOREIGN;
    }
    bool reported = is_report(result.text, function, causes, expected, sizeof expected);
    cr_assert_eq(result.signal, SIGABRT,
                 "%s, size %zu, offset %zu: signal %d, status %d, text: %s, not %s", m.e->set,
                 m.size, m.offset, result.signal, result.status, result.text, expected);
    cr_assert(reported, "%s, size %zu, offset %zu: %s, not %s (causes %#x)", m.e->set, m.size,
              m.offset, result.text, expected, causes);
}

void expect_no_misuse(struct misuse m)
{
    struct child_result result = run(&m);
    cr_assert_eq(result.signal, 0, "%s, size %zu: signal %d: %s", m.e->set, m.size, result.signal,
                 result.text);
    cr_assert_eq(result.status, 0, "%s, size %zu: status %d: %s", m.e->set, m.size, result.status,
                 result.text);
    cr_assert_eq(result.length, 0, "%s", result.text);
}

void expect_misuse_or_success(struct misuse m)
{
    struct child_result result = run(&m);
    bool success = result.signal == 0 && result.status == 0 && result.length == 0;
    bool reported = result.signal == SIGABRT && strncmp(result.text, "apmalloc: ", 10) == 0 &&
                    result.text[result.length - 1] == '\n';
    cr_assert(success || reported, "%s, size %zu: signal %d, status %d: %s", m.e->set, m.size,
              result.signal, result.status, result.text);
}
