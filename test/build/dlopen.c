/* SPDX-License-Identifier: MIT */
/*
 * A plain program on the system malloc loads the library at run time: its functions work from
 * threads older and younger than the load, and after dlclose, for the library stays. Argument: the
 * library.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, ROUNDS = 20000, LOADS = 3 };

static void *(*ours_malloc)(size_t);
static void (*ours_free)(void *);
static size_t (*ours_usable_size)(void *);

static pthread_barrier_t loaded, used, closed;

static void require(bool condition, const char *what)
{
    if (condition)
        return;
    printf("not so: %s\n", what);
    exit(1);
}

static void churn(void)
{
    for (size_t i = 0; i < ROUNDS; i++) {
        size_t size = i * 37 % 5000 + 1;
        char *mine = ours_malloc(size), *of_the_system = malloc(size);
        require(mine != NULL && ours_usable_size(mine) >= size, "ap_malloc works");
        memset(mine, 1, size);
        require(of_the_system != NULL, "malloc works");
        memset(of_the_system, 2, size);
        ours_free(mine);
        free(of_the_system);
    }
}

/* Uses the library before and after dlclose, and ends with a cache of it. */
static void *older_thread(void *argument)
{
    (void)argument;
    pthread_barrier_wait(&loaded);
    churn();
    pthread_barrier_wait(&used);
    pthread_barrier_wait(&closed);
    churn();
    return NULL;
}

static void *younger_thread(void *argument)
{
    (void)argument;
    churn();
    return NULL;
}

static void *symbol(void *library, const char *name)
{
    void *address = dlsym(library, name);
    require(address != NULL, name);
    return address;
}

static void *load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        printf("%s\n", dlerror());
    require(library != NULL, "dlopen");
    *(void **)&ours_malloc = symbol(library, "ap_malloc");
    *(void **)&ours_free = symbol(library, "ap_free");
    *(void **)&ours_usable_size = symbol(library, "ap_usable_size");
    return library;
}

int main(int argc, char **argv)
{
    pthread_t older[THREADS], younger[THREADS];

    require(argc == 2, "usage: dlopen LIBRARY");
    pthread_barrier_init(&loaded, NULL, THREADS + 1);
    pthread_barrier_init(&used, NULL, THREADS + 1);
    pthread_barrier_init(&closed, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++)
        require(pthread_create(&older[i], NULL, older_thread, NULL) == 0, "pthread_create");

    void *library = load(argv[1]);
    pthread_barrier_wait(&loaded);
    for (int i = 0; i < THREADS; i++)
        require(pthread_create(&younger[i], NULL, younger_thread, NULL) == 0, "pthread_create");
    for (int i = 0; i < THREADS; i++)
        pthread_join(younger[i], NULL);
    char *kept = ours_malloc(100000);
    memset(kept, 3, 100000);
    pthread_barrier_wait(&used);
    require(dlclose(library) == 0, "dlclose");
    pthread_barrier_wait(&closed);
    for (int i = 0; i < THREADS; i++)
        pthread_join(older[i], NULL);

    for (int i = 0; i < LOADS; i++) {
        library = load(argv[1]);
        churn();
        require(dlclose(library) == 0, "dlclose again");
    }
    require(kept[99999] == 3, "a block outlives dlclose");
    ours_free(kept);
    puts("ok");
    return 0;
}
