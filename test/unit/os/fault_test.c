/* SPDX-License-Identifier: MIT */
/*
 * fault_test.c: the look at faults.
 * Goal: the observer learns address and kind of an access, and then everything goes on as without it: the
 * earlier handler is called, or the process ends by the signal; signals that were sent are no faults. Who
 * called a function of libc that made the access is told, too.
 * Method: children that fault.
 */
#include "os/fault.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/compiler.h"
#include "support/child.h"

TestSuite(fault, .timeout = 60);

static char *page;

static void observe(uintptr_t address, enum ap__access access, const void *caller)
{
    (void)caller;
    char text[64];
    int length = snprintf(text, sizeof text, "%s %zd\n", ap__access_name(access),
                          (ssize_t)(address - (uintptr_t)page));
    (void)!write(STDERR_FILENO, text, (size_t)length);
}

static void set_up_with(ap__fault_observer *observer)
{
    page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(ap__fault_watch(observer));
}

static void set_up(void)
{
    set_up_with(observe);
}

static void write_there(void *unused)
{
    (void)unused;
    set_up();
    *(volatile char *)(page + 100) = 1;
}

static void read_there(void *unused)
{
    (void)unused;
    set_up();
    (void)*(volatile char *)(page + 7);
}

Test(fault, is_seen_and_ends_the_process)
{
    struct child_result result;
    child_run(&result, write_there, NULL);
    cr_assert_eq(result.signal, SIGSEGV);
    cr_assert_str_eq(result.text, "write 100\n");
    child_run(&result, read_there, NULL);
    cr_assert_eq(result.signal, SIGSEGV);
    cr_assert_str_eq(result.text, "read 7\n");
}

static size_t (*volatile length_of)(const char *) = strlen;

AP_NOINLINE static void measure_there(void *unused)
{
    (void)unused;
    cr_assert_neq(length_of(page), 1); /* no tail call */
}

static void say_caller(uintptr_t address, enum ap__access access, const void *caller)
{
    bool is_here = (uintptr_t)caller - (uintptr_t)measure_there < 100;
    (void)address;
    (void)access;
    (void)!write(STDERR_FILENO, is_here ? "here\n" : "there\n", is_here ? 5 : 6);
}

static void measure_and_say(void *unused)
{
    set_up_with(say_caller);
    measure_there(unused);
}

Test(fault, in_a_function_of_libc_is_its_callers)
{
#if (defined(__x86_64__) || defined(__aarch64__)) && !defined(__SANITIZE_ADDRESS__)
    struct child_result result;
    child_run(&result, measure_and_say, NULL);
    cr_assert_eq(strncmp(result.text, "here\n", 5), 0, "%s", result.text);
#else
    (void)measure_and_say;
#endif
}

static void earlier(int number)
{
    (void)number;
    (void)!write(STDERR_FILENO, "earlier\n", 8);
    _exit(3);
}

static void earlier_with_info(int number, siginfo_t *info, void *context)
{
    (void)context;
    dprintf(STDERR_FILENO, "earlier %zd\n", (ssize_t)((char *)info->si_addr - page));
    earlier(number);
}

static void with_earlier_handler(void *with_info)
{
    struct sigaction action = {.sa_handler = earlier};
    if (*(bool *)with_info) {
        action.sa_flags = SA_SIGINFO;
        action.sa_sigaction = earlier_with_info;
    }
    sigaction(SIGSEGV, &action, NULL);
    write_there(NULL);
}

Test(fault, goes_on_to_the_handler_that_was_there)
{
    struct child_result result;
    bool with_info = false;
    child_run(&result, with_earlier_handler, &with_info);
    cr_assert_eq(result.status, 3);
    cr_assert_str_eq(result.text, "write 100\nearlier\n");
    with_info = true;
    child_run(&result, with_earlier_handler, &with_info);
    cr_assert_eq(result.status, 3);
    cr_assert_str_eq(result.text, "write 100\nearlier 100\nearlier\n");
}

static void be_sent_a_signal(void *unused)
{
    (void)unused;
    set_up();
    raise(SIGSEGV);
    _exit(4);
}

Test(fault, that_was_sent_is_none)
{
    struct child_result result;
    child_run(&result, be_sent_a_signal, NULL);
    cr_assert_eq(result.signal, SIGSEGV);
    cr_assert_str_eq(result.text, "");
}

/* As a program may inherit it. */
static void ignore_what_is_sent(void *unused)
{
    (void)unused;
    signal(SIGSEGV, SIG_IGN);
    set_up();
    raise(SIGSEGV);
    kill(getpid(), SIGSEGV);
    dprintf(STDERR_FILENO, "goes on\n");
    *(volatile char *)(page + 100) = 1;
}

Test(fault, that_was_sent_stays_ignored_and_a_real_one_does_not)
{
    struct child_result result;
    child_run(&result, ignore_what_is_sent, NULL);
    cr_assert_eq(result.signal, SIGSEGV, "%s", result.text);
    cr_assert_str_eq(result.text, "goes on\nwrite 100\n");
}
