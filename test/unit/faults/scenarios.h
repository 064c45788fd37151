/* SPDX-License-Identifier: MIT */
/*
 * scenarios.h: what is done while calls fail, and what must be so during and after.
 *
 * Errors end the process with a line on standard error and abort(). For children of a test.
 */
#ifndef TEST_UNIT_FAULTS_SCENARIOS_H
#define TEST_UNIT_FAULTS_SCENARIOS_H

#include <stddef.h>

struct scenario {
    const char *name;
    void (*prepare)(void); /* before calls fail; NULL: nothing */
    void (*run)(void);
};

extern const struct scenario scenarios[];
extern const size_t scenario_count;

/* What the heap holds before, to be compared at the end. */
void service_begin(void);

/* While calls may still fail: every function succeeds or says ENOMEM; no lock is held; the heap is consistent. */
void service_continues(void);

/* Memory is back: everything succeeds again, and no block is lost. */
void service_is_back(void);

#endif
