/* SPDX-License-Identifier: MIT */
/*
 * format_test.c: numbers and text into a fixed buffer.
 * Goal: the same text as snprintf, and never a byte outside the buffer. Method: compare over random
 * and extreme numbers, and over every capacity, with canaries on both sides.
 */
#include "base/format.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const uint64_t numbers[] = {
    0,
    1,
    9,
    10,
    99,
    100,
    4095,
    4096,
    UINT32_MAX,
    UINT64_C(1) << 32,
    INT64_MAX,
    UINT64_C(9999999999999999999),
    UINT64_C(10000000000000000000),
    UINT64_MAX,
};

Test(format, decimal_equals_printf)
{
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        char ours[32], theirs[32];
        struct ap__format f;
        ap__format_init(&f, ours, sizeof ours);
        ap__format_decimal(&f, numbers[i]);
        int length = snprintf(theirs, sizeof theirs, "%" PRIu64, numbers[i]);
        cr_assert_str_eq(ours, theirs);
        cr_assert_eq(f.length, (size_t)length);
    }
}

Test(format, padded_decimal_equals_printf)
{
    for (unsigned width = 0; width <= 25; width++) {
        for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
            char ours[40], theirs[40];
            struct ap__format f;
            ap__format_init(&f, ours, sizeof ours);
            ap__format_decimal_padded(&f, numbers[i], width);
            (void)snprintf(theirs, sizeof theirs, "%*" PRIu64, (int)width, numbers[i]);
            cr_assert_str_eq(ours, theirs);
        }
    }
}

Test(format, pointer_equals_printf)
{
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        char ours[32], theirs[32];
        struct ap__format f;
        ap__format_init(&f, ours, sizeof ours);
        ap__format_pointer(&f, (const void *)(uintptr_t)numbers[i]);
        (void)snprintf(theirs, sizeof theirs, "0x%" PRIx64, numbers[i]);
        cr_assert_str_eq(ours, theirs);
    }
}

Test(format, pieces_follow_one_another)
{
    char buffer[64];
    struct ap__format f;
    ap__format_init(&f, buffer, sizeof buffer);
    cr_assert_str_eq(buffer, "");
    ap__format_text(&f, "free(");
    ap__format_pointer(&f, (const void *)(uintptr_t)0xabc0);
    ap__format_bytes(&f, "): xyz", 3);
    ap__format_decimal(&f, 42);
    ap__format_text(&f, "");
    cr_assert_str_eq(buffer, "free(0xabc0): 42");
    cr_assert_eq(f.length, strlen(buffer));
}

Test(format, text_that_does_not_fit_is_cut_and_ends_in_a_nul)
{
    static const char all[] = "text 0xfedcba9876543210 18446744073709551615   7";
    for (size_t capacity = 1; capacity <= sizeof all + 4; capacity++) {
        char memory[sizeof all + 32];
        memset(memory, '#', sizeof memory);
        struct ap__format f;
        ap__format_init(&f, memory + 8, capacity);
        ap__format_text(&f, "text ");
        ap__format_pointer(&f, (const void *)(uintptr_t)0xfedcba9876543210);
        ap__format_bytes(&f, " ", 1);
        ap__format_decimal(&f, UINT64_MAX);
        ap__format_decimal_padded(&f, 7, 4);
        size_t fits = capacity - 1 < sizeof all - 1 ? capacity - 1 : sizeof all - 1;
        cr_assert_eq(f.length, fits);
        cr_assert_eq(memcmp(memory + 8, all, fits), 0);
        cr_assert_eq(memory[8 + fits], '\0');
        for (size_t i = 0; i < 8; i++) {
            cr_assert_eq(memory[i], '#', "before the buffer");
            cr_assert_eq(memory[8 + capacity + i], '#', "after the buffer of %zu", capacity);
        }
    }
}
