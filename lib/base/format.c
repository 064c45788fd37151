/* SPDX-License-Identifier: MIT */
/*
 * format.c: numbers and text into a fixed buffer.
 */
#include "base/format.h"

enum { DECIMAL_DIGITS_MAX = 20, HEX_DIGITS_MAX = 16 };

void ap__format_init(struct ap__format *f, char *buffer, size_t capacity)
{
    f->buffer = buffer;
    f->capacity = capacity;
    f->length = 0;
    buffer[0] = '\0';
}

void ap__format_bytes(struct ap__format *f, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length && f->length + 1 < f->capacity; i++) {
        f->buffer[f->length++] = bytes[i];
    }
    f->buffer[f->length] = '\0';
}

void ap__format_text(struct ap__format *f, const char *text)
{
    size_t length = 0;
    while (text[length] != '\0') {
        length++;
    }
    ap__format_bytes(f, text, length);
}

void ap__format_decimal_padded(struct ap__format *f, uint64_t number, unsigned width)
{
    char digits[DECIMAL_DIGITS_MAX];
    unsigned at = DECIMAL_DIGITS_MAX;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    for (unsigned used = DECIMAL_DIGITS_MAX - at; used < width; used++) {
        ap__format_bytes(f, " ", 1);
    }
    ap__format_bytes(f, digits + at, DECIMAL_DIGITS_MAX - at);
}

void ap__format_decimal(struct ap__format *f, uint64_t number)
{
    ap__format_decimal_padded(f, number, 0);
}

void ap__format_pointer(struct ap__format *f, const void *p)
{
    char digits[HEX_DIGITS_MAX];
    unsigned at = HEX_DIGITS_MAX;
    uintptr_t number = (uintptr_t)p;
    do {
        digits[--at] = "0123456789abcdef"[number & 15];
        number >>= 4;
    } while (number != 0);
    ap__format_text(f, "0x");
    ap__format_bytes(f, digits + at, HEX_DIGITS_MAX - at);
}
