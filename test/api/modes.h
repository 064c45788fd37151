/* SPDX-License-Identifier: MIT */
/*
 * modes.h: a plain program that does one of several things, which its first argument names.
 */
#ifndef TEST_API_MODES_H
#define TEST_API_MODES_H

#include <string.h>

#include "expect.h"

struct mode {
    const char *name;
    void (*run)(void);
};

/* Returns when the mode does, which means that all is well. */
static inline void run_mode(const struct mode *modes, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (name != NULL && strcmp(name, modes[i].name) == 0) {
            modes[i].run();
            return;
        }
    }
    fail("no such mode: %s", name != NULL ? name : "");
}

#endif
