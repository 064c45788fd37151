/* SPDX-License-Identifier: MIT */
/*
 * thread_storage_program.c: a program with STORAGE_BYTES of thread-local data, which libc puts on every
 * thread's stack.
 * Goal: the helper's small stack is no trap for such programs. Method: two threads allocate and free until
 * there is a helper, and for a while after it; a stack too small ends the process.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "entry_points.h"
#include "expect.h"
#include "support/process_view.h"

enum { WAIT_MS = 10000, HELPED_MS = 300 };

static _Thread_local char storage[STORAGE_BYTES];
static atomic_bool may_end;

static void work(void)
{
    enum { BLOCKS = 300 };
    void *blocks[BLOCKS];
    for (unsigned i = 0; i < BLOCKS; i++) {
        size_t size = i % 50 == 0 ? 1000000 : i * 31;
        blocks[i] = ap_malloc(size);
        expect(blocks[i] != NULL, "a block is had");
        memset(blocks[i], 1, size);
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        ap_free(blocks[i]);
    }
}

static void *run(void *unused)
{
    memset(opaque(storage), 1, sizeof storage);
    while (!atomic_load(&may_end)) {
        work();
    }
    return unused;
}

static bool has_helper(void)
{
    work();
    return view_helper() != 0;
}

int main(void)
{
    pthread_t thread;
    expect(pthread_create(&thread, NULL, run, NULL) == 0, "a thread");
    expect(view_wait(has_helper, WAIT_MS) >= 0, "there is a helper");
    view_sleep_ms(HELPED_MS);
    atomic_store(&may_end, true);
    expect(pthread_join(thread, NULL) == 0, "the thread ends");
    return 0;
}
