/* SPDX-License-Identifier: MIT */
/*
 * life_test.c: from before the first constructor to after the last destructor.
 * Goal: the heap works at every moment of a process, and with libraries that come and go. Method:
 * helper programs whose one interesting moment is named by an argument; libraries loaded in place.
 */
#include "entry_points.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "run_beside.h"

TestSuite(life, .timeout = 120);

Test(life, the_program_is_served_by_this_library)
{
    Dl_info of_libc_name, of_ap_name;
    cr_assert(dladdr(dlsym(RTLD_DEFAULT, "malloc"), &of_libc_name));
    cr_assert(dladdr(dlsym(RTLD_DEFAULT, "ap_malloc"), &of_ap_name));
    cr_assert_str_eq(of_libc_name.dli_fname, of_ap_name.dli_fname);
}

/* --- beginnings --- */

Test(life, the_first_use_may_be_before_all_constructors)
{
    expect_good_run("preinit_program", "malloc", NULL);
}

Test(life, the_first_use_may_be_inside_of_atexit)
{
    expect_good_run("preinit_program", "atexit", NULL);
}

Test(life, the_first_use_may_be_inside_of_pthread_atfork)
{
    expect_good_run("preinit_program", "atfork", NULL);
}

Test(life, the_first_use_may_be_inside_of_pthread_setspecific)
{
    expect_good_run("preinit_program", "key", NULL);
}

Test(life, a_bad_free_as_the_very_first_use_is_reported)
{
    struct child_result result = run_beside("preinit_program", "free", NULL);
    cr_assert_eq(result.signal, SIGABRT);
    cr_assert_not_null(strstr(result.text, "free(0x1): misaligned pointer"), "%s", result.text);
}

/* --- ends --- */

Test(life, the_heap_works_in_exit_handlers_and_destructors)
{
    expect_good_run_saying("from an exit handler\n", "exit_program", "exit", NULL);
}

Test(life, the_heap_works_in_quick_exit_handlers)
{
    expect_good_run("exit_program", "quick_exit", NULL);
}

Test(life, a_thread_may_end_the_process_after_the_main_thread_left)
{
    expect_good_run("exit_program", "thread_exit", NULL);
}

/* --- libraries --- */

typedef char *plugin_function(int mark);

static plugin_function *load(const char *path, void **library)
{
    plugin_function *use;
    *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    cr_assert_not_null(*library, "%s", dlerror());
    *(void **)&use = dlsym(*library, "plugin_use");
    cr_assert_not_null(use);
    return use;
}

Test(life, blocks_outlive_the_library_that_allocated_them)
{
    enum { ROUNDS = 1000 };
    char *blocks[ROUNDS];
    size_t before = 0;
    for (int i = 0; i < ROUNDS; i++) {
        void *library;
        blocks[i] = load(beside_test("libplugin.so"), &library)(i % 100);
        cr_assert_not_null(blocks[i]);
        cr_assert_eq(dlclose(library), 0);
        if (i == 100) {
            before = ap_mallinfo2().uordblks;
        }
    }
    size_t held = (ROUNDS - 101) * ap_good_size(3000);
    cr_assert_leq(ap_mallinfo2().uordblks, before + held + ROUNDS, "unloading leaves nothing");
    for (int i = 0; i < ROUNDS; i++) {
        cr_assert(blocks[i][0] == i % 100 && blocks[i][2999] == i % 100);
        free(blocks[i]);
    }
}

static void copy_file(const char *from, const char *to)
{
    static char bytes[1 << 20];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    cr_assert(in != NULL && out != NULL);
    size_t n = fread(bytes, 1, sizeof bytes, in);
    cr_assert_eq(fwrite(bytes, 1, n, out), n);
    (void)fclose(in);
    (void)fclose(out);
}

enum { COPIES = 40 };
static plugin_function *uses[COPIES];
static pthread_barrier_t all_loaded;

static void *use_all(void *failed)
{
    (void)pthread_barrier_wait(&all_loaded);
    for (int i = 0; i < COPIES; i++) {
        char *block = uses[i](i + 1); /* its thread-local storage is made here, by our malloc */
        if (block == NULL || block[0] != i + 1) {
            *(bool *)failed = true;
        }
        free(block);
    }
    return NULL;
}

Test(life, thread_local_storage_of_many_late_libraries_is_ours)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    bool failed[THREADS] = {false};
    char folder[] = "/tmp/apmalloc-life-XXXXXX", path[sizeof folder + 32];
    cr_assert_not_null(mkdtemp(folder));
    (void)pthread_barrier_init(&all_loaded, NULL, THREADS);
    for (int i = 0; i < COPIES; i++) {
        void *library;
        (void)snprintf(path, sizeof path, "%s/copy%d.so", folder, i);
        copy_file(beside_test("libplugin.so"), path);
        uses[i] = load(path, &library);
        (void)unlink(path);
    }
    (void)rmdir(folder);
    for (int i = 0; i < THREADS; i++) {
        cr_assert_eq(pthread_create(&threads[i], NULL, use_all, &failed[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
        cr_assert_not(failed[i]);
    }
}

Test(life, the_library_itself_may_be_loaded_late)
{
    Dl_info ours;
    cr_assert(dladdr(dlsym(RTLD_DEFAULT, "ap_malloc"), &ours));
    expect_good_run("dlopen_program", ours.dli_fname, NULL);
}
