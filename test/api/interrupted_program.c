/* SPDX-License-Identifier: MIT */
/*
 * interrupted_program.c: a program whose signal handler allocates, wherever it interrupted the heap.
 * Helper of interrupted_test.c. No malloc allows that; the program ends all the same, well or by a report.
 * With an argument it has a handler for SIGABRT, too, which also allocates.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>

enum { CALLS = 200, HELD = 16, BLOCKS = 500 };

static volatile sig_atomic_t calls;
static void *held[HELD];

static void replace_a_block(int signal_number)
{
    (void)signal_number;
    int number = calls++;
    free(held[number % HELD]);
    held[number % HELD] = malloc((size_t)number * 977 % 70000);
}

static void allocate_when_aborted(int signal_number)
{
    (void)signal_number;
    for (size_t size = 1; size < 2000000; size *= 3) {
        free(malloc(size));
    }
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        (void)signal(SIGABRT, allocate_when_aborted);
    }
    static void *blocks[BLOCKS];
    const struct itimerval often = {{0, 1000}, {0, 1000}};
    const struct sigaction action = {.sa_handler = replace_a_block, .sa_flags = SA_RESTART};
    unsigned state = 1;
    if (sigaction(SIGPROF, &action, NULL) != 0 || setitimer(ITIMER_PROF, &often, NULL) != 0) {
        return 1;
    }
    while (calls < CALLS) {
        for (int i = 0; i < BLOCKS; i++) {
            state = state * 1103515245 + 12345;
            free(blocks[i]);
            blocks[i] = malloc((state >> 8) % (i % 4 == 0 ? 300000 : 3000));
        }
    }
    return 0;
}
