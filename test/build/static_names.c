/* SPDX-License-Identifier: MIT */
/*
 * Names every function of malloc's family, and functions of libc that allocate for their caller:
 * linked statically, all of them must be on one heap. Each block is looked up by this library, which
 * ends the process at any other's. Prints "one heap".
 */
#include <apmalloc.h>

#include <locale.h>
#include <malloc.h>
#include <pthread.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern void cfree(void *p);
extern void free_sized(void *p, size_t size);
extern void free_aligned_sized(void *p, size_t alignment, size_t size);
extern void *__libc_malloc(size_t size);
extern void __libc_free(void *p);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void *__libc_valloc(size_t size);
extern void *__libc_pvalloc(size_t size);

static void require(int condition, const char *what)
{
    if (condition)
        return;
    printf("not so: %s\n", what);
    exit(1);
}

/* Ours, or the process ends here. */
static void *known(void *p, size_t size, const char *what)
{
    require(p != NULL && ap_usable_size(p) >= size && malloc_usable_size(p) >= size, what);
    return p;
}

static void names_of_the_family(void)
{
    void *p = NULL;
    free(known(malloc(100), 100, "malloc"));
    cfree(known(calloc(10, 10), 100, "calloc"));
    free(known(realloc(malloc(10), 100), 100, "realloc"));
    free(known(reallocarray(NULL, 10, 10), 100, "reallocarray"));
    free_aligned_sized(known(aligned_alloc(64, 100), 100, "aligned_alloc"), 64, 100);
    require(posix_memalign(&p, 64, 100) == 0, "posix_memalign");
    free(known(p, 100, "posix_memalign's block"));
    free(known(memalign(64, 100), 100, "memalign"));
    free(known(valloc(100), 100, "valloc"));
    free(known(pvalloc(100), 4096, "pvalloc"));
    free_sized(known(malloc(100), 100, "malloc"), 100);
}

static void second_names(void)
{
    free(known(__libc_malloc(100), 100, "__libc_malloc"));
    __libc_free(known(__libc_calloc(10, 10), 100, "__libc_calloc"));
    free(known(__libc_realloc(malloc(10), 100), 100, "__libc_realloc"));
    free(known(__libc_memalign(64, 100), 100, "__libc_memalign"));
    free(known(__libc_valloc(100), 100, "__libc_valloc"));
    __libc_free(known(__libc_pvalloc(100), 4096, "__libc_pvalloc"));
}

static void questions(void)
{
    FILE *nowhere = fopen("/dev/null", "w");
    require(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1, "mallopt");
    require(mallinfo2().uordblks == ap_mallinfo2().uordblks, "mallinfo2 is ap_mallinfo2");
    require(nowhere != NULL && malloc_info(0, nowhere) == 0, "malloc_info");
    (void)malloc_trim(0);
    (void)fclose(nowhere);
}

static void libc_allocates(void)
{
    char *text = NULL, *line = NULL, *stream_text = NULL;
    size_t size = 0;
    free(known(strdup("text"), 5, "strdup"));
    require(asprintf(&text, "%1000d", 1) == 1000, "asprintf");
    free(known(text, 1001, "asprintf's text"));
    FILE *file = fopen("/proc/self/maps", "r");
    if (file != NULL) {
        require(getline(&line, &size, file) > 0, "getline");
        free(known(line, 1, "getline's line"));
        (void)fclose(file);
    }
    FILE *stream = open_memstream(&stream_text, &size);
    require(stream != NULL && fprintf(stream, "%5000d", 1) == 5000, "open_memstream");
    (void)fclose(stream);
    free(known(stream_text, 5000, "open_memstream's text"));
    free(known(realpath("/", NULL), 2, "realpath"));
}

static void *in_a_thread(void *unused)
{
    names_of_the_family();
    second_names();
    libc_allocates();
    return unused;
}

int main(void)
{
    pthread_t thread;
    names_of_the_family();
    second_names();
    questions();
    libc_allocates();
    require(pthread_create(&thread, NULL, in_a_thread, NULL) == 0, "pthread_create");
    require(pthread_join(thread, NULL) == 0, "pthread_join");
    puts("one heap");
    return 0;
}
