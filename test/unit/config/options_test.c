/* SPDX-License-Identifier: MIT */
/*
 * options_test.c: the parser of APMALLOC_CONF.
 * Goal: every kind of value is read; what is wrong is one warning that says what and what holds
 * instead, and the rest still counts. Method: texts, parsed in a child whose standard error is kept.
 */
#include "config/options.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "support/child.h"

/* Parses, then tells on standard error what holds. */
static void parse_and_show(void *text)
{
    ap__options_parse(text);
    fprintf(stderr, "= %lu %lu %lu %lu %lu\n", ap__options.stats_at_exit,
            ap__options.ignore_foreign, ap__options.cache_thread, ap__options.transfer_class,
            ap__options.cpu_shards);
}

static struct child_result parse(const char *text)
{
    struct child_result result;
    child_run(&result, parse_and_show, (void *)text);
    cr_assert_eq(result.signal, 0);
    return result;
}

static unsigned lines_of(const char *text)
{
    unsigned lines = 0;
    for (; *text != '\0'; text++) {
        lines += *text == '\n';
    }
    return lines;
}

Test(options, every_type_is_read_without_a_word)
{
    struct child_result result =
        parse("stats_at_exit:true,ignore_foreign:1,cache_thread:3M,transfer_class:65536,"
              "cpu_shards:4");
    cr_assert_str_eq(result.text, "= 1 1 3145728 65536 4\n");
}

struct row {
    const char *name;
    const void *value;
    uint64_t least;
    uint64_t most;
    const char *type;
};

#define ROW(name, type, def, least, most, help) {#name, &ap__options.name, (least), (most), #type},
static const struct row rows[] = {AP_OPTIONS(ROW)};
#undef ROW

/* Parses "name:number" for the least and the most, then for numbers beyond them. */
static void parse_the_ends_of_a_range(void *argument)
{
    const struct row *row = argument;
    const uint64_t numbers[] = {row->most, row->least, row->most + 1, row->least - 1};
    for (size_t i = 0; i < 4; i++) {
        char text[128];
        snprintf(text, sizeof text, "%s:%lu", row->name, numbers[i]);
        ap__options_parse(text);
        fprintf(stderr, "(%lu)", *(const uint64_t *)row->value);
    }
}

Test(options, every_row_takes_the_ends_of_its_range_and_nothing_beyond)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct child_result result;
        if (strcmp(rows[i].type, "WHEN") == 0 || strcmp(rows[i].type, "TEXT") == 0) {
            continue; /* words, not numbers */
        }
        child_run(&result, parse_the_ends_of_a_range, (void *)&rows[i]);
        char value[64];
        snprintf(value, sizeof value, "(%lu)(%lu)", rows[i].most, rows[i].least);
        cr_assert_not_null(strstr(result.text, value), "%s: %s", rows[i].name, result.text);
        unsigned warnings = 0;
        for (const char *at = result.text; (at = strstr(at, "bad value '")) != NULL; at++) {
            warnings++;
        }
        cr_assert_eq(warnings, 2, "%s: %s", rows[i].name, result.text);
        snprintf(value, sizeof value, "\n(%lu)", rows[i].least);
        size_t length = strlen(value);
        cr_assert_str_eq(result.text + result.length - length, value, "it stays as it was");
    }
}

static void parse_the_words(void *unused)
{
    (void)unused;
    static const char *const texts[] = {"thp:always", "thp:never", "thp:auto", "thp:1",
                                        "thp:Never"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        ap__options_parse(texts[i]);
        fprintf(stderr, "(%lu)", ap__options.thp);
    }
    ap__options_parse("fine_classes:never");
    fprintf(stderr, "[%lu]", ap__options.fine_classes);
    ap__options_parse("fine_classes:always");
    fprintf(stderr, "[%lu]", ap__options.fine_classes);
}

Test(options, huge_pages_and_fine_classes_are_chosen_by_a_word)
{
    struct child_result result;
    child_run(&result, parse_the_words, NULL);
    cr_assert_not_null(strstr(result.text, "[1][2]"), "%s", result.text);
    cr_assert_not_null(strstr(result.text, "(2)(1)(0)"), "%s", result.text);
    cr_assert_not_null(strstr(result.text,
                              "bad value '1' for thp (auto, never or always); it stays "
                              "auto\n(0)"),
                       "%s", result.text);
    cr_assert_not_null(strstr(result.text, "bad value 'Never' for thp"), "%s", result.text);
}

/* Parses, then tells what a text option holds, and whether the rest counted. */
static void parse_and_show_text(void *text)
{
    ap__options_parse(text);
    fprintf(stderr, "= '%s' %lu\n", ap__options.cgroup_root, ap__options.cpu_shards);
}

static struct child_result parse_text(const char *text)
{
    struct child_result result;
    child_run(&result, parse_and_show_text, (void *)text);
    cr_assert_eq(result.signal, 0);
    return result;
}

Test(options, a_text_goes_from_the_first_colon_to_the_comma)
{
    cr_assert_str_eq(parse_text("cpu_shards:3").text, "= '' 3\n");
    cr_assert_str_eq(parse_text("cgroup_root:/a b/c,cpu_shards:3").text, "= '/a b/c' 3\n");
    cr_assert_str_eq(parse_text("cgroup_root:a:b::,cpu_shards:3").text, "= 'a:b::' 3\n");
    cr_assert_str_eq(parse_text("cgroup_root::,cpu_shards:3").text, "= ':' 3\n");
}

Test(options, a_text_may_become_shorter_and_empty)
{
    cr_assert_str_eq(parse_text("cgroup_root:long,cgroup_root:s,cpu_shards:3").text, "= 's' 3\n");
    cr_assert_str_eq(parse_text("cgroup_root:long,cgroup_root:,cpu_shards:3").text, "= '' 3\n");
    cr_assert_str_eq(parse_text("cgroup_root:long,cgroup_root").text, "= '' 0\n");
}

/* "cgroup_root:" and `length` times an x, then another option. */
static struct child_result parse_text_of_length(int length, const char *before)
{
    char xs[1024];
    char text[2048];
    memset(xs, 'x', sizeof xs);
    snprintf(text, sizeof text, "%scgroup_root:%.*s,cpu_shards:3", before, length, xs);
    return parse_text(text);
}

Test(options, the_longest_text_is_kept_whole)
{
    struct child_result result = parse_text_of_length(AP__TEXT_MAX, "");
    cr_assert_eq(strlen(result.text), strlen("= '' 3\n") + AP__TEXT_MAX, "%s", result.text);
    cr_assert_eq(strspn(result.text + 3, "x"), AP__TEXT_MAX);
}

Test(options, a_text_too_long_is_one_warning_and_the_rest_counts)
{
    struct child_result result = parse_text_of_length(AP__TEXT_MAX + 1, "cgroup_root:/old,");
    cr_assert_eq(lines_of(result.text), 2, "%s", result.text);
    cr_assert_not_null(strstr(result.text, "xx' for cgroup_root (text of at most 255 bytes); it "
                                           "stays /old\n= '/old' 3\n"),
                       "%s", result.text);
}

/* A text of 255 bytes, then what prints it on one line. */
static void show_the_longest_text(void *then)
{
    char text[512];
    memset(text, 'x', sizeof text);
    memcpy(text, "cgroup_root:", 12);
    text[12 + AP__TEXT_MAX] = '\0';
    ap__options_parse(text);
    ap__options_parse(then);
}

Test(options, lines_with_the_longest_text_are_whole)
{
    char too_long[1024] = "cgroup_root:";
    struct child_result result;
    memset(too_long + 12, 'y', sizeof too_long - 13);
    child_run(&result, show_the_longest_text, too_long);
    cr_assert_eq(lines_of(result.text), 1, "%s", result.text);
    cr_assert_str_eq(result.text + result.length - 2, "x\n");
    child_run(&result, show_the_longest_text, (void *)"help:true");
    cr_assert_not_null(strstr(result.text, "sys/fs/cgroup in, instead of /\n"), "%s", result.text);
}

static void change_the_text_after_parsing(void *unused)
{
    (void)unused;
    char text[] = "cgroup_root:/kept";
    ap__options_parse(text);
    memset(text, '#', sizeof text - 1);
    parse_and_show_text(NULL);
}

Test(options, a_text_is_a_copy)
{
    struct child_result result;
    child_run(&result, change_the_text_after_parsing, NULL);
    cr_assert_str_eq(result.text, "= '/kept' 0\n");
}

Test(options, help_shows_a_text_or_nothing)
{
    cr_assert_not_null(strstr(parse("help:true").text, "\n  cgroup_root:  (text of at most 255 "));
    cr_assert_not_null(strstr(parse("cgroup_root:/r:s,help:true").text,
                              "\n  cgroup_root:/r:s  (text of at most 255 bytes) "));
}

Test(options, of_two_values_for_one_key_the_last_counts)
{
    cr_assert_str_eq(parse("cpu_shards:2,cache_thread:1M,cpu_shards:7").text,
                     "= 0 0 1048576 262144 7\n");
}

Test(options, suffixes_are_powers_of_1024_in_either_case)
{
    cr_assert_str_eq(parse("cache_thread:2k,transfer_class:1K").text, "= 0 0 2048 1024 0\n");
    cr_assert_str_eq(parse("cache_thread:1g,transfer_class:1M").text,
                     "= 0 0 1073741824 1048576 0\n");
    cr_assert_str_eq(parse("cache_thread:1T").text, "= 0 0 1099511627776 262144 0\n");
}

Test(options, nothing_and_stray_commas_change_nothing)
{
    const char *const texts[] = {NULL, "", ",", ",,,"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cr_assert_str_eq(parse(texts[i]).text, "= 0 0 2097152 262144 0\n");
    }
}

Test(options, a_bad_value_is_one_warning_and_the_rest_counts)
{
    const char *const bad[] = {"5",   "x",    "",    "-1",  "2K",
                               "3 ",  "true", "9",   "0x1", "99999999999999999999",
                               "1:2", "K",    "1KK", "1k",  "18446744073709551616"};
    for (size_t i = 1; i < sizeof bad / sizeof *bad; i++) {
        char text[128];
        snprintf(text, sizeof text, "cpu_shards:%s,stats_at_exit:true", bad[i]);
        struct child_result result = parse(text);
        cr_assert_eq(lines_of(result.text), 2, "'%s': %s", bad[i], result.text);
        char expected[128];
        snprintf(expected, sizeof expected, "bad value '%s' for cpu_shards (0 to 8); it stays 0",
                 bad[i]);
        cr_assert_not_null(strstr(result.text, expected), "'%s': %s", bad[i], result.text);
        cr_assert_not_null(strstr(result.text, "= 1 0 2097152 262144 0\n"), "%s", result.text);
    }
    cr_assert_str_eq(parse("cpu_shards:5").text, "= 0 0 2097152 262144 5\n");
}

Test(options, values_out_of_range_are_refused)
{
    cr_assert_not_null(strstr(parse("reserve:1M").text, "(4M to 64T); it stays 1T"));
    cr_assert_not_null(strstr(parse("cache_thread:2T").text, "(0 to 1T); it stays 2M"));
    cr_assert_not_null(strstr(parse("stats_at_exit:2").text, "(true or false); it stays false"));
    cr_assert_not_null(strstr(parse("cache_thread:18014398509481984K").text, "bad value"));
}

Test(options, an_unknown_key_is_one_warning_and_the_rest_counts)
{
    const char *const keys[] = {"cpu_shard:1", "cpu_shardss:1", "nonsense",     ":3", ":",
                                "::",          "CPU_SHARDS:1",  " cpu_shards:1"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char text[128];
        snprintf(text, sizeof text, "%s,cpu_shards:2", keys[i]);
        struct child_result result = parse(text);
        cr_assert_eq(lines_of(result.text), 2, "%s", result.text);
        cr_assert_not_null(strstr(result.text, "unknown option '"), "%s", result.text);
        cr_assert_not_null(strstr(result.text, "= 0 0 2097152 262144 2\n"), "%s", result.text);
    }
}

Test(options, a_long_word_is_cut_in_the_warning)
{
    static char text[10000];
    memset(text, 'a', sizeof text - 1);
    struct child_result result = parse(text);
    cr_assert_eq(lines_of(result.text), 2);
    cr_assert_lt(result.length, 400);
}

Test(options, help_lists_every_row)
{
    struct child_result result = parse("help:true");
#define CHECK_ROW(name, type, def, least, most, help)                                              \
    cr_assert_not_null(strstr(result.text, "  " #name ":"));                                       \
    cr_assert_not_null(strstr(result.text, help));
    AP_OPTIONS(CHECK_ROW)
#undef CHECK_ROW
}

static void read_environment(void *text)
{
    char variable[256];
    snprintf(variable, sizeof variable, "APMALLOC_CONF=%s", (const char *)text);
    char other[] = "APMALLOC_CONFUSED=help:true";
    char *fake[] = {other, variable, NULL};
    environ = fake;
    fprintf(stderr, "%d", ap__options_read_environment());
    parse_and_show(NULL);
}

Test(options, the_environment_is_read_when_there_is_one)
{
    struct child_result result;
    child_run(&result, read_environment, (void *)"cpu_shards:3");
    cr_assert_str_eq(result.text, "1= 0 0 2097152 262144 3\n");
}

static void read_without_libc(void *unused)
{
    (void)unused;
    environ = NULL; /* as the dynamic loader's first allocation finds it */
    fprintf(stderr, "%d", ap__options_read_environment());
    parse_and_show(NULL);
}

Test(options, what_the_kernel_put_on_the_stack_counts_before_libc_has_an_environment)
{
    struct child_result result;
    child_run(&result, read_without_libc, NULL);
    cr_assert_str_eq(result.text, "1= 0 0 2097152 262144 0\n");
}
