/* SPDX-License-Identifier: MIT */
/*
 * fuzz.h: what the fuzz targets have in common.
 *
 * A target has a file with LLVMFuzzerTestOneInput(), which libFuzzer and AFL++ know how to call; with
 * any other compiler fuzz_main.c calls it, with files or with programs of its own from a printed seed.
 * Targets use the ap_ names only, so malloc stays the system's, or a sanitizer's.
 */
#ifndef TEST_FUZZ_FUZZ_H
#define TEST_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "%s:%d: %s is false\n", __FILE__, __LINE__, #condition);         \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* --- an input, read from its start; behind its end are zeroes --- */

struct fuzz_reader {
    const uint8_t *at;
    const uint8_t *end;
};

static inline bool fuzz_is_over(const struct fuzz_reader *reader)
{
    return reader->at == reader->end;
}

static inline uint8_t fuzz_byte(struct fuzz_reader *reader)
{
    return fuzz_is_over(reader) ? 0 : *reader->at++;
}

static inline uint64_t fuzz_number(struct fuzz_reader *reader, unsigned bytes)
{
    uint64_t number = 0;
    for (unsigned i = 0; i < bytes; i++) {
        number = number << 8 | fuzz_byte(reader);
    }
    return number;
}

/* splitmix64: Steele, Lea, Flood, OOPSLA 2014. */
static inline uint64_t fuzz_mix(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return x ^ x >> 31;
}

#endif
