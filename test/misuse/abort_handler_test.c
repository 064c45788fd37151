/* SPDX-License-Identifier: MIT */
/*
 * abort_handler_test.c: programs with a handler for SIGABRT, as crash reporters and test frameworks have one.
 * Goal: whatever a report has interrupted, the handler runs once and may use the heap; the process then ends by
 * SIGABRT; a handler that makes a mistake itself is not called again; one that jumps out may be called often. Method:
 * one mistake per child, found at once, with its batch, by another call, and in the middle of others.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "misuse.h"
#include "support/child.h"

TestSuite(abort_handler, .timeout = 120);

enum { SIZE = 100, BLOCKS = 4000 };

static const struct entry_points *e;

static void say(const char *line)
{
    (void)!write(STDERR_FILENO, line, strlen(line));
}

/* --- mistakes, each of which leads to one report --- */

static void at_once(void)
{
    void *p = e->malloc(SIZE);
    e->free(p);
    e->free(opaque(p));
}

static void free_twice_with_another_between(void)
{
    void *p = e->malloc(SIZE), *q = e->malloc(SIZE);
    e->free(p);
    e->free(q);
    e->free(opaque(p));
}

static void use_many(void)
{
    static void *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = e->malloc(SIZE);
    }
    for (int i = 0; i < BLOCKS; i++) {
        e->free(blocks[i]);
    }
}

/* The block's batch is returned by a list that overflows, */
static void found_by_overflow(void)
{
    free_twice_with_another_between();
    for (int i = 0; i < 50; i++) {
        use_many();
    }
}

static void interior_found_by_overflow(void)
{
    e->free((char *)opaque(e->malloc(SIZE)) + 16);
    for (int i = 0; i < 50; i++) {
        use_many();
    }
}

/* by a cache that is emptied, */
static void found_by_trim(void)
{
    free_twice_with_another_between();
    return_batches();
}

/* and by a refill, which now and then looks at all lists. */
static void found_by_visit(void)
{
    free_twice_with_another_between();
    for (int i = 0; i < 100000; i++) {
        (void)opaque(e->malloc(1000));
    }
    return_batches();
}

static void (*const mistakes[])(void) = {at_once, found_by_overflow, interior_found_by_overflow,
                                         found_by_trim, found_by_visit};
enum { MISTAKES = sizeof mistakes / sizeof mistakes[0] };

/* --- handlers --- */

static void use_heap(void)
{
    for (size_t i = 0; i < 2000; i++) {
        void *p = e->realloc(e->malloc(i * 37 % 3000), i * 91 % 5000 + 1);
        e->free(p);
    }
    e->free(e->malloc(1000000));
    use_many();
}

static void use_heap_and_fork(int number)
{
    (void)number;
    use_heap();
    pid_t child = fork();
    if (child == 0) {
        use_heap();
        _exit(0);
    }
    int status = -1;
    (void)waitpid(child, &status, 0);
    say(status == 0 ? "handled\n" : "the child failed\n");
}

static void make_another_mistake(int number)
{
    (void)number;
    say("handler\n");
    at_once();
}

static sigjmp_buf before_mistake;

static void jump_out(int number)
{
    (void)number;
    siglongjmp(before_mistake, 1);
}

/* --- children --- */

static void make_mistake_with(void (*handler)(int number), int flags, void (*mistake)(void))
{
    const struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    (void)sigaction(SIGABRT, &action, NULL);
    mistake();
}

static void *which; /* of `mistakes` */

static void with_handler(void *unused)
{
    (void)unused;
    make_mistake_with(use_heap_and_fork, 0, *(void (**)(void))which);
}

static void with_wrong_handler(void *flags)
{
    make_mistake_with(make_another_mistake, *(const int *)flags, found_by_overflow);
}

static void *make_mistake_in_thread(void *unused)
{
    with_handler(unused);
    return NULL;
}

static void with_handler_in_thread(void *unused)
{
    pthread_t thread;
    e->free(e->malloc(SIZE));
    (void)pthread_create(&thread, NULL, make_mistake_in_thread, unused);
    (void)pthread_join(thread, NULL);
}

static void with_jumps(void *unused)
{
    (void)unused;
    for (volatile int i = 0; i < 5; i++) {
        if (sigsetjmp(before_mistake, 1) == 0) {
            make_mistake_with(jump_out, 0, i == 2 ? found_by_overflow : at_once);
        }
    }
    use_heap();
    say("goes on\n");
}

static unsigned count(const char *text, const char *word)
{
    unsigned found = 0;
    for (; (text = strstr(text, word)) != NULL; text++) {
        found++;
    }
    return found;
}

static void expect_handled(void (*child)(void *))
{
    FOR_EACH_SET (set) {
        for (size_t i = 0; i < MISTAKES; i++) {
            struct child_result result;
            e = set;
            which = (void *)&mistakes[i];
            child_run(&result, child, NULL);
            cr_assert_eq(result.signal, SIGABRT, "mistake %zu: signal %d, status %d: %s", i,
                         result.signal, result.status, result.text);
            const char *end = strchr(result.text, '\n');
            cr_assert_not_null(end, "mistake %zu: %s", i, result.text);
            cr_assert_eq(strncmp(result.text, "apmalloc: ", 10), 0, "%s", result.text);
            cr_assert_str_eq(end + 1, "handled\n", "mistake %zu: %s", i, result.text);
        }
    }
}

Test(abort_handler, may_use_the_heap_whatever_the_report_interrupted)
{
    expect_handled(with_handler);
}

Test(abort_handler, may_use_the_heap_in_any_thread)
{
    expect_handled(with_handler_in_thread);
}

Test(abort_handler, that_is_wrong_itself_is_not_called_for_ever)
{
    static int flags[] = {0, SA_NODEFER};
    static const unsigned calls_most[] = {1, 20};
    e = &entry_points[0];
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        struct child_result result;
        child_run(&result, with_wrong_handler, &flags[i]);
        cr_assert_eq(result.signal, SIGABRT, "signal %d: %s", result.signal, result.text);
        unsigned calls = count(result.text, "handler\n");
        cr_assert(calls >= 1 && calls <= calls_most[i], "%s", result.text);
        cr_assert_eq(count(result.text, "apmalloc: "), calls + 1, "%s", result.text);
    }
}

Test(abort_handler, may_be_left_by_a_jump)
{
    struct child_result result;
    e = &entry_points[0];
    child_run(&result, with_jumps, NULL);
    cr_assert_eq(result.status, 0, "signal %d: %s", result.signal, result.text);
    cr_assert_eq(count(result.text, "apmalloc: "), 5, "%s", result.text);
    cr_assert_not_null(strstr(result.text, "goes on\n"), "%s", result.text);
}
