/* SPDX-License-Identifier: MIT */
/*
 * misuse.h: runs a wrong call in a child and compares how it ends.
 *
 * A misuse is found if the child ends by SIGABRT after exactly one line on standard error,
 *     apmalloc: FUNCTION(POINTER): CAUSE
 * with the function that was called, the pointer it was given, and one of the causes expected.
 */
#ifndef TEST_MISUSE_MISUSE_H
#define TEST_MISUSE_MISUSE_H

#include <criterion/criterion.h>

#include "entry_points.h"
#include "guard/misuse.h"

/* Sets of causes. */
#define MISALIGNED (1u << AP__MISUSE_MISALIGNED)
#define FOREIGN (1u << AP__MISUSE_FOREIGN)
#define NOT_LIVE (1u << AP__MISUSE_NOT_LIVE)
#define DOUBLE_FREE (1u << AP__MISUSE_DOUBLE_FREE)
#define INTERIOR (1u << AP__MISUSE_INTERIOR)
#define WRONG_SIZE (1u << AP__MISUSE_WRONG_SIZE)
#define WRONG_ALIGNMENT (1u << AP__MISUSE_WRONG_ALIGNMENT)
#define OVERFLOW (1u << AP__MISUSE_OVERFLOW)
#define USE_AFTER_FREE (1u << AP__MISUSE_USE_AFTER_FREE)
#define ANY_CAUSE (~0u)

/* What a child does; its parameters. */
struct misuse {
    const struct entry_points *e;
    void (*body)(const struct misuse *m);
    void *p;
    size_t size;
    size_t offset;
};

/*
 * `function` is the name on the line, with or without "ap_"; NULL for any, where the finding comes
 * from the return of a batch. The pointer on the line must be the one given to wrong().
 */
void expect_misuse(struct misuse m, const char *function, unsigned causes);

/* The body ends the child with exit(0) by returning. */
void expect_no_misuse(struct misuse m);

/* Either of the two, but nothing else: no crash, no hang. */
void expect_misuse_or_success(struct misuse m);

/*
 * The tests run with so small a reservation that large objects are mappings of their own. These are unmapped
 * when they are freed: from then on nothing is known of them, and a report may say FOREIGN for
 * NOT_LIVE; and a program that uses them after that faults, as it should.
 */
bool is_outside(void);

/* In the body: the pointer that the report will be about; returned as it is. */
void *wrong(const void *p);

/* In the body: everything that returns batches, for findings that need not come at once. */
void return_batches(void);

#endif
