/* SPDX-License-Identifier: MIT */
/*
 * processor.c: see processor.h.
 */
#include "support/processor.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

static cpu_set_t allowed; /* at first: a thread that has moved may use one only */

static void learn_allowed(void)
{
    if (CPU_COUNT(&allowed) == 0 && sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        perror("sched_getaffinity");
        abort();
    }
}

int processor_run_on_shard(unsigned number, unsigned shards)
{
    learn_allowed();
    for (unsigned cpu = number; cpu < CPU_SETSIZE; cpu += shards) {
        if (CPU_ISSET(cpu, &allowed)) {
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            return sched_setaffinity(0, sizeof one, &one) == 0 ? (int)cpu : -1;
        }
    }
    return -1;
}
