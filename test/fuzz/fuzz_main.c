/* SPDX-License-Identifier: MIT */
/*
 * fuzz_main.c: runs a fuzz target where there is no libFuzzer.
 *
 *   TARGET [-seconds=N] [-seed=N] [FILE | FOLDER]...
 *
 * Runs the inputs in the files given and in all files of the folders, then inputs made at random from the
 * seed for N seconds (none without the option). The input at which the target fails is left in the file
 * crash-input of the working directory.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

enum { INPUT_MAX = 1 << 16, RANDOM_INPUT_MAX = 3000 };

/* What is being run, for the handler of its end. */
static uint8_t input[INPUT_MAX];
static volatile size_t input_size;

static unsigned long long inputs_run;

static void keep_input(int number)
{
    int file = open("crash-input", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file >= 0 && write(file, input, input_size) == (ssize_t)input_size) {
        static const char text[] = "the input is in crash-input\n";
        (void)!write(2, text, sizeof text - 1);
    }
    (void)raise(number); /* SA_RESETHAND: ends the process */
}

static void watch_for_the_end(void)
{
    static const int numbers[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    struct sigaction action = {.sa_handler = keep_input, .sa_flags = (int)SA_RESETHAND};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        (void)sigaction(numbers[i], &action, NULL);
    }
}

static void run_input(size_t size)
{
    input_size = size;
    (void)LLVMFuzzerTestOneInput(input, size);
    inputs_run++;
}

static bool run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return false;
    }
    size_t size = fread(input, 1, sizeof input, file);
    (void)fclose(file);
    run_input(size);
    return true;
}

static bool run_folder(const char *path, DIR *folder)
{
    struct dirent *entry;
    bool all = true;
    while ((entry = readdir(folder)) != NULL) {
        char name[4096];
        if (entry->d_name[0] != '.') {
            (void)snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
            all = run_file(name) && all;
        }
    }
    (void)closedir(folder);
    return all;
}

static bool run_path(const char *path)
{
    DIR *folder = opendir(path);
    return folder != NULL ? run_folder(path, folder) : run_file(path);
}

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Bytes of all values; most inputs are short, one in eight is long. */
static size_t make_input(uint64_t seed, uint64_t number)
{
    uint64_t state = fuzz_mix(seed ^ fuzz_mix(number));
    size_t size = 1 + fuzz_mix(state + 1) % (number % 8 == 0 ? RANDOM_INPUT_MAX : 200);
    for (size_t i = 0; i < size; i++) {
        input[i] = (uint8_t)fuzz_mix(state + 2 + i);
    }
    return size;
}

static void run_at_random(double seconds, uint64_t seed)
{
    double end = now() + seconds;
    (void)printf("seed %llu\n", (unsigned long long)seed);
    (void)fflush(stdout);
    for (uint64_t number = 0; now() < end; number++) {
        run_input(make_input(seed, number));
    }
}

int main(int argc, char **argv)
{
    double seconds = 0;
    uint64_t seed = (uint64_t)time(NULL) * 1000003 ^ (uint64_t)getpid();
    bool all = true;
    (void)LLVMFuzzerInitialize(&argc, &argv);
    watch_for_the_end();
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "-seconds=", 9) == 0) {
            seconds = strtod(argv[i] + 9, NULL);
        } else if (strncmp(argv[i], "-seed=", 6) == 0) {
            seed = strtoull(argv[i] + 6, NULL, 0);
        } else {
            all = run_path(argv[i]) && all;
        }
    }
    if (seconds > 0) {
        run_at_random(seconds, seed);
    }
    (void)printf("%llu inputs\n", inputs_run);
    return all && inputs_run != 0 ? 0 : 1;
}
