/* SPDX-License-Identifier: MIT */
/*
 * large_stress.c: many large objects.
 * Goal: the large-object table grows and shrinks in use while its objects are looked up, resized
 * and freed by other threads. Method: each round the threads together fill a table of thousands of
 * objects (the hash table has to grow), pass them around, and free all.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "stress.h"

enum { THREADS = 5, OBJECTS = 3000, SIZE_LEAST = (256 << 10) + 1, SIZE_SPREAD = 200 << 10 };

static _Atomic(struct stress_block *) objects[OBJECTS];
static pthread_barrier_t step;

static size_t large_size(struct stress_random *random)
{
    size_t rare = stress_random_below(random, 200) == 0 ? (size_t)8 << 20 : 0;
    return SIZE_LEAST + rare + stress_random_below(random, SIZE_SPREAD);
}

/* The object that goes into slot i and the one that was there, which is now this thread's. */
static struct stress_block *swap(size_t i, struct stress_block *object)
{
    /* acquire and release: what the object contains travels with it. */
    return atomic_exchange_explicit(&objects[i], object, memory_order_acq_rel);
}

static void destroy(struct stress_block *object)
{
    if (object != NULL) {
        stress_block_free(object);
        ap_free(object);
    }
}

static struct stress_block *create(struct stress_random *random)
{
    struct stress_block *object = ap_malloc(sizeof *object);
    STRESS_CHECK(object != NULL);
    stress_block_allocate(object, large_size(random), random);
    if (object->p == NULL) { /* address space may be short under a sanitizer */
        ap_free(object);
        return NULL;
    }
    return object;
}

static bool last_round_was_enough; /* written by thread 0 between the barriers of two rounds */

static void body(unsigned number)
{
    struct stress_random random = stress_random_stream(number);
    uint64_t done = 0;
    for (unsigned round = 0;; round++) {
        if (number == 0) {
            last_round_was_enough = round > 0 && stress_is_over();
        }
        (void)pthread_barrier_wait(&step);
        if (last_round_was_enough) {
            break;
        }
        for (size_t i = number; i < OBJECTS; i += THREADS) { /* fill: the table grows */
            destroy(swap(i, create(&random)));
            done++;
        }
        for (unsigned n = 0; n < OBJECTS / 2; n++) { /* pass around */
            size_t i = stress_random_below(&random, OBJECTS);
            struct stress_block *object = swap(i, NULL);
            if (object == NULL) {
                destroy(swap(i, create(&random)));
            } else if (n % 3 == 0) {
                stress_block_realloc(object, large_size(&random));
                destroy(swap(i, object));
            } else {
                STRESS_CHECK(ap_usable_size(object->p) >= object->size);
                destroy(object);
            }
            done++;
        }
        for (size_t i = 0; i < OBJECTS; i++) { /* free all, every thread what it finds */
            destroy(swap((i + number * 577) % OBJECTS, NULL));
        }
        (void)pthread_barrier_wait(&step);
    }
    stress_count(done);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "large_stress");
    (void)pthread_barrier_init(&step, NULL, THREADS);
    stress_run_threads(THREADS, body);
    STRESS_CHECK(ap_mallinfo2().hblks == 0);
    return stress_finish();
}
