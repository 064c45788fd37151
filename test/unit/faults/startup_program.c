/* SPDX-License-Identifier: MIT */
/*
 * startup_program.c: a program in which calls failed before main(). Helper of faults_test.c.
 *
 * Status 77: fewer calls were made than the plan's first; 0: all is well, as far as it can be; standard error
 * says how many calls failed.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "scenarios.h"
#include "support/os_faults.h"

int main(void)
{
    enum { FEWER_CALLS = 77 };
    const char *plan = getenv("OS_FAULTS");
    char *rest = NULL;
    unsigned long call = plan != NULL ? strtoul(plan, &rest, 10) : 0;
    unsigned long first = plan != NULL ? strtoul(rest, NULL, 10) : 0;
    bool fewer = os_faults_count((enum os_faults_call)call) < first;
    service_continues();
    os_faults_reset();
    service_begin();
    service_is_back();
    fprintf(stderr, "faults %lu\n", os_faults_injected());
    return fewer ? FEWER_CALLS : 0;
}
