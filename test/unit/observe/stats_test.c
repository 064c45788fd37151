/* SPDX-License-Identifier: MIT */
/*
 * stats_test.c: the snapshot and its two forms.
 * Goal: at rest the figures are exact; what is printed is what was counted. Method: known
 * allocations between two snapshots.
 */
#include "observe/stats.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "apmalloc.h"
#include "observe/stats_print.h"

enum { CLASS_64 = 4, CLASS_1024 = 32, BLOCKS = 1000 };

static struct ap__stats snapshot(void)
{
    static struct ap__stats stats;
    ap__stats_collect(&stats);
    return stats;
}

Test(stats, live_blocks_are_counted_exactly)
{
    static void *blocks[BLOCKS];
    cr_assert_eq(ap__size_class[CLASS_1024].size, 1024);
    struct ap__stats before = snapshot();
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = ap_malloc(i % 2 == 0 ? 64 : 1000);
    }
    struct ap__stats held = snapshot();
    cr_assert_eq(held.classes[CLASS_64].live - before.classes[CLASS_64].live, BLOCKS / 2);
    cr_assert_eq(held.classes[CLASS_1024].live - before.classes[CLASS_1024].live, BLOCKS / 2);
    cr_assert_eq(held.live_bytes - before.live_bytes, BLOCKS / 2 * (64 + 1024));
    cr_assert_gt(held.refills, before.refills);
    for (int i = 0; i < BLOCKS; i++) {
        ap_free(blocks[i]);
    }
    struct ap__stats after = snapshot();
    cr_assert_eq(after.live_bytes, before.live_bytes);
    cr_assert_gt(after.cached_bytes, before.cached_bytes);
    cr_assert_eq(after.threads, 1);
}

Test(stats, large_objects_count_with_their_granules)
{
    struct ap__stats before = snapshot();
    void *p = ap_malloc(1000000);
    struct ap__stats held = snapshot();
    cr_assert_eq(held.heap.large_spans - before.heap.large_spans, 1);
    cr_assert_eq(held.live_bytes - before.live_bytes, 16 * AP_GRANULE);
    cr_assert_eq(held.table.live, 1);
    ap_free(p);
    cr_assert_eq(snapshot().live_bytes, before.live_bytes);
    cr_assert_eq(snapshot().table.live, 0);
}

struct text {
    char bytes[32768];
    size_t length;
};

static void append(void *context, const char *bytes, size_t length)
{
    struct text *text = context;
    cr_assert_lt(text->length + length, sizeof text->bytes);
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
}

static void expect(const struct text *text, const char *format, size_t figure)
{
    char expected[128];
    snprintf(expected, sizeof expected, format, figure);
    cr_assert_not_null(strstr(text->bytes, expected), "'%s' is not in:\n%s", expected, text->bytes);
}

Test(stats_print, text_has_every_figure)
{
    static struct text text;
    void *p = ap_malloc(110000);
    struct ap__stats stats = snapshot();
    ap__stats_print_text(&stats, append, &text);
    cr_assert_eq(strncmp(text.bytes, "apmalloc statistics\n", 20), 0);
    expect(&text, "%zu bytes\n", stats.live_bytes);
    expect(&text, "%zu bytes\n", stats.heap.usable_bytes);
    expect(&text, "%zu\n", stats.threads);
    expect(&text, "\n    114688 %11zu", 1);
    ap_free(p);
}

static const char *line_before(const char *text, const char *line)
{
    cr_assert_gt(line, text);
    for (line--; line > text && line[-1] != '\n'; line--) {
    }
    return line;
}

/* "Of these" are parts of what the next line above says that is no such part itself. */
static void expect_part(const struct text *text, const char *part, const char *whole)
{
    const char *line = strstr(text->bytes, part);
    cr_assert_not_null(line);
    while (strncmp(line, "  of these", 10) == 0) {
        line = line_before(text->bytes, line);
    }
    cr_assert_eq(strncmp(line, whole, strlen(whole)), 0, "%s, in:\n%s", part, text->bytes);
}

Test(stats_print, parts_stand_below_what_they_are_parts_of)
{
    static struct text text;
    struct ap__stats stats = snapshot();
    ap__stats_print_text(&stats, append, &text);
    expect_part(&text, "  of these in large objects ", "  in live blocks ");
    expect_part(&text, "  of these not given back ", "  in free spans ");
    expect_part(&text, "  of these contended ", "  lock operations ");
}

Test(stats_print, xml_elements_are_closed)
{
    static struct text text;
    void *p = ap_malloc(100);
    struct ap__stats stats = snapshot();
    ap__stats_print_xml(&stats, append, &text);
    expect(&text, "<malloc version=\"%zu\">", 1);
    expect(&text, "<class size=\"112\" live=\"%zu\"", stats.classes[7].live);
    expect(&text, "<system type=\"current\" size=\"%zu\"/>", stats.heap.usable_bytes);
    cr_assert_str_eq(text.bytes + text.length - 18, "</heap>\n</malloc>\n");
    ap_free(p);
}
