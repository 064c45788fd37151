/* SPDX-License-Identifier: MIT */
/*
 * beside_helper.h: a plain program that has the library's helper thread, and is otherwise at rest.
 */
#ifndef TEST_API_BESIDE_HELPER_H
#define TEST_API_BESIDE_HELPER_H

#include <pthread.h>
#include <unistd.h>

#include "entry_points.h"
#include "expect.h"
#include "support/process_view.h"

static inline void *allocate_and_wait(void *unused)
{
    ap_free(ap_malloc(100));
    (void)pause();
    return unused;
}

/* It starts in a slow path: some of those. */
static inline bool has_helper(void)
{
    static void *small[1000];
    for (int i = 0; i < 1000; i++) {
        small[i] = ap_malloc(1000);
    }
    for (int i = 0; i < 1000; i++) {
        ap_free(small[i]);
    }
    return view_helper() != 0;
}

/* Brings it about by a second thread, which sleeps until the process ends. */
static inline void be_beside_helper(void)
{
    pthread_t other;
    expect(pthread_create(&other, NULL, allocate_and_wait, NULL) == 0, "a thread");
    expect(view_wait(has_helper, 30000) >= 0, "a helper");
}

#endif
