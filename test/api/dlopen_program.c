/* SPDX-License-Identifier: MIT */
/*
 * dlopen_program.c: a program on libc's malloc that loads apmalloc while it runs. Helper of
 * life_test.c.
 * Goal: the library can be loaded late, when threads exist that have no room for it reserved, and
 * used by all of them through its ap_ names. Method: threads start, the library is loaded, the
 * threads use it; its blocks are not libc's.
 *
 * dlopen_program PATH-OF-LIBRARY
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 8 };

static pthread_barrier_t loaded;
static void *(*ap_malloc_)(size_t size);
static void (*ap_free_)(void *p);
static size_t (*ap_usable_size_)(void *p);

static void *use_library(void *unused)
{
    (void)unused;
    (void)pthread_barrier_wait(&loaded);
    for (size_t i = 0; i < 2000; i++) {
        size_t size = i * 331 % 400000;
        char *p = ap_malloc_(size);
        if (p == NULL || ap_usable_size_(p) < size) {
            return (void *)(uintptr_t) "no block";
        }
        memset(p, 1, size);
        ap_free_(p);
    }
    return NULL;
}

static void *symbol(void *library, const char *name)
{
    void *address = dlsym(library, name);
    if (address == NULL) {
        (void)fprintf(stderr, "no %s\n", name);
        exit(1);
    }
    return address;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    char *of_libc = malloc(100);
    (void)pthread_barrier_init(&loaded, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, use_library, NULL) != 0) {
            return 1;
        }
    }
    void *library = dlopen(argc == 2 ? argv[1] : "", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        (void)fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    *(void **)&ap_malloc_ = symbol(library, "ap_malloc");
    *(void **)&ap_free_ = symbol(library, "ap_free");
    *(void **)&ap_usable_size_ = symbol(library, "ap_usable_size");
    (void)pthread_barrier_wait(&loaded);
    for (int i = 0; i < THREADS; i++) {
        void *error;
        if (pthread_join(threads[i], &error) != 0 || error != NULL) {
            (void)fprintf(stderr, "a thread: %s\n", error == NULL ? "" : (char *)error);
            return 1;
        }
    }
    char *of_ap = ap_malloc_(100);
    free(of_libc);
    ap_free_(of_ap);
    (void)dlclose(library);
    return 0;
}
