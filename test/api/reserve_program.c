/* SPDX-License-Identifier: MIT */
/*
 * reserve_program.c: a program that limits its own address space at run time, with option `reserve` well below that.
 * Goal: all that the library reserves, heap and records, is about what the option says; so the kernel still gives the
 * program threads, mappings and libraries, and the heap goes on beyond the reservation. Method: look at the size the
 * kernel counts, then do it.
 *
 * reserve_program MEBIBYTES: what `reserve` says. Status 0 if all is well.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "entry_points.h"
#include "expect.h"

#define MIB ((size_t)1 << 20)

enum {
    PROGRAM_MIB = 32, /* the program, its libraries and what the heap has in use by then */
    ROOM_MIB = 256,   /* what the limit leaves to the program */
    BLOCKS = 512,     /* of a quarter of a MiB each: half of that room */
};

static size_t virtual_bytes(void)
{
    size_t pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    expect(statm != NULL && fscanf(statm, "%zu", &pages) == 1, "statm is read");
    (void)fclose(statm);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void *allocate_in_thread(void *unused)
{
    (void)unused;
    void *p = malloc(100);
    free(p);
    return p;
}

static void limit_address_space(size_t bytes)
{
    const struct rlimit limit = {.rlim_cur = bytes, .rlim_max = RLIM_INFINITY};
    expect(setrlimit(RLIMIT_AS, &limit) == 0, "the limit is set");
}

static void expect_threads_and_mappings(void)
{
    pthread_t thread;
    void *block = NULL;
    expect(pthread_create(&thread, NULL, allocate_in_thread, NULL) == 0, "threads get a stack");
    expect(pthread_join(thread, &block) == 0 && block != NULL, "and memory");
    void *pages = mmap(NULL, 16 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    expect(pages != MAP_FAILED, "the program gets mappings of its own");
    expect(munmap(pages, 16 * MIB) == 0, "and can give them back");
    void *library = dlopen("libm.so.6", RTLD_NOW);
    expect(library != NULL, "libraries can be loaded");
    expect(dlclose(library) == 0, "and unloaded");
}

static void expect_memory_beyond_the_reservation(void)
{
    static void *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(MIB / 4);
        expect(blocks[i] != NULL, "memory beyond what is reserved");
        memset(blocks[i], (int)i, MIB / 4);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        free(blocks[i]);
    }
}

int main(int argc, char **argv)
{
    expect(argc == 2, "usage: reserve_program MEBIBYTES");
    free(malloc(1));
    size_t before = virtual_bytes();
    size_t reserved = strtoul(argv[1], NULL, 10) * MIB;
    expect(before < reserved + PROGRAM_MIB * MIB, "no more is reserved than the option says");
    limit_address_space(before + ROOM_MIB * MIB);
    expect_threads_and_mappings();
    expect_memory_beyond_the_reservation();
    expect_threads_and_mappings();
    return 0;
}
