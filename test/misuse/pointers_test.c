/* SPDX-License-Identifier: MIT */
/*
 * pointers_test.c: pointers that are not the start of a live block.
 * Goal: each is reported, at once or when its batch is returned, and never dereferenced where it
 * does not belong to the heap. Method: one wrong call per child; the line it leaves is compared.
 */
#include <alloca.h>
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "misuse.h"

TestSuite(pointers, .timeout = 240);

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

/* Three small classes and a large object. */
static const size_t sizes[] = {16, 4 * KIB, 256 * KIB, 64 * MIB};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static void free_pointer(const struct misuse *m)
{
    m->e->free(wrong(m->p));
}

static void realloc_pointer(const struct misuse *m)
{
    (void)m->e->realloc(wrong(m->p), 100);
}

static void ask_usable_size(const struct misuse *m)
{
    (void)m->e->usable_size(wrong(m->p));
}

static void free_sized_pointer(const struct misuse *m)
{
    m->e->free_sized(wrong(m->p), 16);
}

static void free_aligned_sized_pointer(const struct misuse *m)
{
    m->e->free_aligned_sized(wrong(m->p), 1, 16);
}

static void cfree_pointer(const struct misuse *m)
{
    m->e->cfree(wrong(m->p));
}

static void reallocarray_pointer(const struct misuse *m)
{
    (void)m->e->reallocarray(wrong(m->p), 10, 10);
}

/* The operators delete by name: C++ is not needed to call them. */
extern void delete_1(void *p) __asm__("_ZdlPv");
extern void delete_2(void *p) __asm__("_ZdaPv");
extern void delete_3(void *p, size_t size) __asm__("_ZdlPvm");
extern void delete_4(void *p, size_t size) __asm__("_ZdaPvm");
extern void delete_5(void *p, const void *tag) __asm__("_ZdlPvRKSt9nothrow_t");
extern void delete_6(void *p, const void *tag) __asm__("_ZdaPvRKSt9nothrow_t");
extern void delete_7(void *p, size_t align) __asm__("_ZdlPvSt11align_val_t");
extern void delete_8(void *p, size_t align) __asm__("_ZdaPvSt11align_val_t");
extern void delete_9(void *p, size_t size, size_t align) __asm__("_ZdlPvmSt11align_val_t");
extern void delete_10(void *p, size_t size, size_t align) __asm__("_ZdaPvmSt11align_val_t");
extern void delete_11(void *p, size_t align,
                      const void *tag) __asm__("_ZdlPvSt11align_val_tRKSt9nothrow_t");
extern void delete_12(void *p, size_t align,
                      const void *tag) __asm__("_ZdaPvSt11align_val_tRKSt9nothrow_t");

enum { DELETES = 12 };

/* Even ones are for one object, odd ones for arrays. */
static void delete_in_way(void *p, size_t way)
{
    switch (way) {
    case 0:
        delete_1(p);
        break;
    case 1:
        delete_2(p);
        break;
    case 2:
        delete_3(p, 16);
        break;
    case 3:
        delete_4(p, 16);
        break;
    case 4:
        delete_5(p, NULL);
        break;
    case 5:
        delete_6(p, NULL);
        break;
    case 6:
        delete_7(p, 16);
        break;
    case 7:
        delete_8(p, 16);
        break;
    case 8:
        delete_9(p, 16, 16);
        break;
    case 9:
        delete_10(p, 16, 16);
        break;
    case 10:
        delete_11(p, 16, NULL);
        break;
    default:
        delete_12(p, 16, NULL);
        break;
    }
}

static void delete_pointer(const struct misuse *m)
{
    delete_in_way(wrong(m->p), m->offset);
}

static void expect_all_deletes_report(const struct entry_points *e, void *p, unsigned causes)
{
    for (size_t way = 0; way < DELETES; way++) {
        expect_misuse((struct misuse){.e = e, .body = delete_pointer, .p = p, .offset = way},
                      way % 2 == 0 ? "operator delete" : "operator delete[]", causes);
    }
}

/* Every function that takes a block finds out at once. */
static void expect_all_report(const struct entry_points *e, void *p, unsigned causes)
{
    const char *usable_size = e == &entry_points[0] ? "malloc_usable_size" : "usable_size";
    expect_misuse((struct misuse){.e = e, .body = free_pointer, .p = p}, "free", causes);
    expect_misuse((struct misuse){.e = e, .body = cfree_pointer, .p = p}, "cfree", causes);
    expect_misuse((struct misuse){.e = e, .body = realloc_pointer, .p = p}, "realloc", causes);
    expect_misuse((struct misuse){.e = e, .body = reallocarray_pointer, .p = p}, "reallocarray",
                  causes);
    expect_misuse((struct misuse){.e = e, .body = ask_usable_size, .p = p}, usable_size, causes);
    expect_misuse((struct misuse){.e = e, .body = free_sized_pointer, .p = p}, "free_sized",
                  causes);
    expect_misuse((struct misuse){.e = e, .body = free_aligned_sized_pointer, .p = p},
                  "free_aligned_sized", causes);
    if (e == &entry_points[0]) {
        expect_all_deletes_report(e, p, causes);
    }
}

/* --- misaligned --- */

Test(pointers, addresses_that_no_block_can_have_are_misaligned)
{
    FOR_EACH_SET (e) {
        expect_all_report(e, (void *)(uintptr_t)1, MISALIGNED);
        expect_all_report(e, (void *)UINTPTR_MAX, MISALIGNED);
    }
}

static void free_at_offset(const struct misuse *m)
{
    char *p = m->e->malloc(m->size);
    m->e->free(wrong(p + m->offset));
}

Test(pointers, offsets_1_to_15_are_misaligned_at_once)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            for (size_t offset = 1; offset < 16; offset++) {
                expect_misuse(
                    (struct misuse){
                        .e = e, .body = free_at_offset, .size = sizes[i], .offset = offset},
                    "free", MISALIGNED);
            }
        }
    }
}

Test(pointers, blocks_of_every_function_with_an_offset_are_misaligned_to_every_function)
{
    static const size_t offsets[] = {1, 8, 15};
    FOR_EACH_SET (e) {
        for (unsigned which = 0; which < ALLOCATORS; which++) {
            for (size_t i = 0; i < SIZES; i++) {
                char *p = allocate(e, which, sizes[i]);
                cr_assert_not_null(p);
                expect_all_report(e, p + offsets[(which + i) % 3], MISALIGNED);
                e->free(p);
            }
        }
    }
}

/* --- interior --- */

static void free_inside(const struct misuse *m)
{
    char *p = m->e->malloc(m->size);
    m->e->free(wrong(p + m->offset));
    return_batches();
}

static void free_inside_and_end_thread_body(const struct misuse *m)
{
    char *p = m->e->malloc(m->size);
    m->e->free(wrong(p + m->offset));
    for (int i = 0; i < 100000; i++) { /* lists overflow */
        void *blocks[64];
        for (int b = 0; b < 64; b++) {
            blocks[b] = m->e->malloc(m->size);
        }
        for (int b = 0; b < 64; b++) {
            m->e->free(blocks[b]);
        }
        if (i % 100 == 0) {
            return_batches();
        }
    }
}

Test(pointers, every_16_byte_step_inside_a_small_block_is_found)
{
    static const size_t small[] = {32, 48, 112, 640, 4 * KIB};
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < sizeof small / sizeof small[0]; i++) {
            for (size_t step = 1; step < small[i] / 16; step++) {
                expect_misuse(
                    (struct misuse){
                        .e = e, .body = free_inside, .size = small[i], .offset = step * 16},
                    NULL, INTERIOR);
            }
        }
    }
}

Test(pointers, steps_inside_the_largest_small_block_are_found)
{
    FOR_EACH_SET (e) {
        for (size_t offset = 16; offset < 256 * KIB; offset = offset * 2 + 48) {
            expect_misuse(
                (struct misuse){.e = e, .body = free_inside, .size = 256 * KIB, .offset = offset},
                NULL, INTERIOR);
        }
    }
}

Test(pointers, steps_inside_a_large_object_are_found_at_once)
{
    /* Only the first and the last granule of a span are known to be its own. */
    static const size_t offsets[] = {16,        32,      4 * KIB,  64 * KIB,
                                     128 * KIB, 1 * MIB, 32 * MIB, 64 * MIB - 16};
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
            expect_misuse(
                (struct misuse){
                    .e = e, .body = free_at_offset, .size = 64 * MIB, .offset = offsets[i]},
                "free", INTERIOR | NOT_LIVE);
        }
    }
}

Test(pointers, an_interior_pointer_is_found_when_the_program_just_goes_on)
{
    FOR_EACH_SET (e) {
        expect_misuse((struct misuse){.e = e,
                                      .body = free_inside_and_end_thread_body,
                                      .size = 4 * KIB,
                                      .offset = 2 * KIB},
                      NULL, INTERIOR);
    }
}

static void realloc_inside(const struct misuse *m)
{
    char *p = m->e->malloc(m->size);
    (void)m->e->realloc(wrong(p + m->offset), 2 * m->size);
}

static void ask_usable_size_inside(const struct misuse *m)
{
    char *p = m->e->malloc(m->size);
    (void)m->e->usable_size(wrong(p + m->offset));
}

Test(pointers, realloc_and_usable_size_of_an_interior_pointer_are_found_at_once)
{
    FOR_EACH_SET (e) {
        for (size_t i = 1; i < SIZES; i++) {
            struct misuse m = {.e = e, .body = realloc_inside, .size = sizes[i], .offset = 1 * KIB};
            expect_misuse(m, "realloc", INTERIOR);
            m.body = ask_usable_size_inside;
            expect_misuse(m, e == &entry_points[0] ? "malloc_usable_size" : "usable_size",
                          INTERIOR);
        }
    }
}

/* --- never allocated --- */

static void free_neighbour_slot(const struct misuse *m)
{
    char *p = m->e->malloc(m->size);
    m->e->free(wrong(p + m->offset));
    return_batches();
}

Test(pointers, a_slot_that_was_never_handed_out_is_found)
{
    FOR_EACH_SET (e) {
        /* Classes of which nobody else has a live block beside ours. */
        static const size_t small[] = {2500, 7000, 20000, 50000};
        for (size_t i = 0; i < sizeof small / sizeof small[0]; i++) {
            size_t slot = ap_good_size(small[i]);
            expect_misuse(
                (struct misuse){
                    .e = e, .body = free_neighbour_slot, .size = small[i], .offset = slot},
                NULL, DOUBLE_FREE | NOT_LIVE);
        }
    }
}

/* The last block of a span that is new, as far as a granule tells; then the one behind it. */
static void free_last_slot(const struct misuse *m)
{
    enum { TRIES = 100000 };
    size_t slot = ap_good_size(m->size);
    size_t last = slot < 64 * KIB ? (64 * KIB / slot - 1) * slot : slot;
    char *p = NULL;
    for (int i = 0; i < TRIES && (p == NULL || (uintptr_t)p % (64 * KIB) != 0); i++) {
        p = m->e->malloc(m->size);
    }
    if (p == NULL || (uintptr_t)p % (64 * KIB) != 0) {
        _exit(3);
    }
    m->e->free(wrong(p + last));
    return_batches();
}

Test(pointers, the_last_slot_of_a_new_span_is_found)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; sizes[i] <= 256 * KIB; i++) {
            expect_misuse((struct misuse){.e = e, .body = free_last_slot, .size = sizes[i]}, NULL,
                          DOUBLE_FREE | NOT_LIVE);
        }
    }
}

static void free_far_away(const struct misuse *m)
{
    char *p = m->e->malloc(m->size);
    m->e->free(wrong(p + m->offset));
    return_batches();
}

Test(pointers, pointers_4_kib_and_1_gib_beyond_a_block_are_found)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            struct misuse m = {.e = e, .body = free_far_away, .size = sizes[i], .offset = 4 * KIB};
            expect_misuse(m, NULL, INTERIOR | DOUBLE_FREE | NOT_LIVE);
            m.offset = GIB;
            expect_misuse(m, "free", NOT_LIVE | FOREIGN);
        }
    }
}

Test(pointers, addresses_in_the_unused_part_of_the_heap_were_never_allocated)
{
    FOR_EACH_SET (e) {
        char *p = e->malloc(100);
        char *granule = (char *)((uintptr_t)p & ~(64 * KIB - 1));
        expect_all_report(e, granule + 512 * MIB, NOT_LIVE | FOREIGN);
        e->free(p);
    }
}

/* --- foreign --- */

static void free_stack_array(const struct misuse *m)
{
    _Alignas(16) char array[64] = "";
    m->e->free(wrong(array));
}

static void free_alloca(const struct misuse *m)
{
    m->e->free(wrong(memset(alloca(200), 0, 200)));
}

static _Alignas(16) char global[64];
static _Alignas(16) char zeroed_global[1 << 17];
static _Alignas(16) const char constant[] = "a literal";

Test(pointers, stack_globals_constants_and_code_are_foreign)
{
    FOR_EACH_SET (e) {
        _Alignas(16) char array[64] = "";
        expect_all_report(e, array, FOREIGN);
        expect_misuse((struct misuse){.e = e, .body = free_stack_array}, "free", FOREIGN);
        expect_misuse((struct misuse){.e = e, .body = free_alloca}, "free", FOREIGN);
        expect_all_report(e, global, FOREIGN);
        expect_all_report(e, zeroed_global + 64 * KIB, FOREIGN);
        expect_all_report(e, (void *)(uintptr_t)constant, FOREIGN);
        expect_misuse((struct misuse){.e = e,
                                      .body = free_pointer,
                                      .p = (void *)((uintptr_t)free_pointer & ~(uintptr_t)15)},
                      "free", FOREIGN);
    }
}

Test(pointers, mapped_pages_are_foreign_and_not_read)
{
    FOR_EACH_SET (e) {
        static const int rights[] = {PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE};
        for (size_t i = 0; i < sizeof rights / sizeof rights[0]; i++) {
            char *p = mmap(NULL, 1 * MIB, rights[i], MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            cr_assert_neq(p, MAP_FAILED);
            expect_all_report(e, p, FOREIGN);
            expect_all_report(e, (void *)(((uintptr_t)p + 64 * KIB) & ~(64 * KIB - 1)), FOREIGN);
            (void)munmap(p, 1 * MIB);
            expect_all_report(e, p, FOREIGN); /* nothing there at all */
        }
    }
}

/* Below 4 GiB, and where a processor has more than 47 bits of them, far above all other mappings. */
Test(pointers, mappings_at_both_ends_of_the_addresses_are_foreign)
{
    char *low =
        mmap(NULL, 1 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    char *high = mmap((void *)((uintptr_t)1 << 55), 1 * MIB, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(low, MAP_FAILED);
    cr_assert_neq(high, MAP_FAILED);
    cr_assert_lt((uintptr_t)low, (uintptr_t)1 << 32);
    FOR_EACH_SET (e) {
        expect_all_report(e, low, FOREIGN);
        expect_all_report(e, low + 64 * KIB, FOREIGN);
        expect_all_report(e, high, FOREIGN);
        expect_all_report(e, high + 64 * KIB, FOREIGN);
    }
    (void)munmap(low, 1 * MIB);
    (void)munmap(high, 1 * MIB);
}

Test(pointers, high_garbage_is_foreign)
{
    static const uintptr_t garbage[] = {
        0xdeadbeef0000000,
        0xdeadbeefdeadbee0,
        0xffff800000000000,
        0xfffffffffffffff0,
        0x8000000000000000,
        0x7ffffffffffffff0,
        0x0000800000000000,
        0x00007ffffffff000,
        0x10,
        0x10000,
        0x100000000,
        0x4141414141414140,
    };
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
            expect_all_report(e, (void *)garbage[i], FOREIGN);
        }
    }
}

Test(pointers, live_blocks_with_one_high_bit_changed_are_foreign)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            char *p = e->malloc(sizes[i]);
            cr_assert_not_null(p);
            for (unsigned bit = 46; bit < 64; bit++) {
                void *changed = (void *)((uintptr_t)p ^ (uintptr_t)1 << bit);
                struct misuse m = {.e = e, .body = free_pointer, .p = changed};
                expect_misuse(m, "free", FOREIGN);
                m.body = realloc_pointer;
                expect_misuse(m, "realloc", FOREIGN);
            }
            e->free(p);
        }
    }
}

Test(pointers, a_block_of_libcs_own_malloc_is_foreign)
{
    void *(*libc_malloc)(size_t size);
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD); /* looked for in libc alone */
    *(void **)&libc_malloc = libc == NULL ? NULL : dlsym(libc, "malloc");
    if (libc_malloc == NULL) {
        cr_skip_test("this libc does not show its own malloc");
    }
    FOR_EACH_SET (e) {
        expect_all_report(e, libc_malloc(100), FOREIGN);
        expect_all_report(e, libc_malloc(1 * MIB), FOREIGN);
    }
}

/* --- the allocator's own memory --- */

static void free_and_return_batches(const struct misuse *m)
{
    m->e->free(wrong(m->p));
    return_batches();
}

Test(pointers, no_address_in_anonymous_memory_that_is_no_block_can_be_freed)
{
    /* Among these mappings are the class map, the records, the tables and the lists in use. */
    enum { MAPPINGS_MAX = 200 };
    static uintptr_t starts[MAPPINGS_MAX], ends[MAPPINGS_MAX];
    size_t n = 0;
    void *small = ap_malloc(100), *large = ap_malloc(1 * MIB);
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    cr_assert_not_null(maps);
    while (fgets(line, sizeof line, maps) != NULL && n < MAPPINGS_MAX) {
        char name[256] = "";
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %*s %*s %*s %*s %255s", &starts[n], &ends[n],
                   name) >= 2 &&
            name[0] == '\0') {
            n++;
        }
    }
    (void)fclose(maps);
    cr_assert_gt(n, 2);
    for (size_t i = 0; i < n; i++) {
        if (((uintptr_t)small >= starts[i] && (uintptr_t)small < ends[i]) ||
            ((uintptr_t)large >= starts[i] && (uintptr_t)large < ends[i])) {
            continue; /* any address there may be a block's */
        }
        struct misuse m = {.e = &entry_points[i % 2], .body = free_and_return_batches};
        m.p = (void *)starts[i];
        expect_misuse(m, NULL, ANY_CAUSE);
        m.p = (void *)(starts[i] + 64);
        expect_misuse(m, NULL, ANY_CAUSE);
        m.p = (void *)(starts[i] + (ends[i] - starts[i]) / 32 * 16);
        expect_misuse(m, NULL, ANY_CAUSE);
        m.p = (void *)(ends[i] - 16);
        expect_misuse(m, NULL, ANY_CAUSE);
    }
    ap_free(small);
    ap_free(large);
}

/* --- NULL is right --- */

static void free_null(const struct misuse *m)
{
    m->e->free(NULL);
    m->e->cfree(NULL);
    m->e->free_sized(NULL, 0);
    m->e->free_sized(NULL, SIZE_MAX);
    m->e->free_aligned_sized(NULL, 0, 0);
    m->e->free_aligned_sized(NULL, 3, SIZE_MAX);
    (void)m->e->usable_size(NULL);
}

Test(pointers, null_is_no_misuse)
{
    FOR_EACH_SET (e) {
        expect_no_misuse((struct misuse){.e = e, .body = free_null});
    }
}
