/* SPDX-License-Identifier: MIT */
/*
 * kv_server: an in-memory key-value server under its own load, as one process.
 *
 * What it models: a cache server such as memcached or a sharded redis, seen from its allocator.
 *   - Client threads stand for connections. Each builds requests (a key, for SET and APPEND a
 * value), hands them in pipelined batches to a worker and frees the replies the worker built. So
 * requests and stored values are allocated by one thread and freed by another, replies the other
 * way round: the producer/consumer pattern of Larson and Krishnan, "Memory allocation for
 * long-running server applications" (ISMM 1998).
 *   - A connection lives for some thousand requests; then its thread ends and a new one takes its
 *     place, while blocks it allocated live on in the store.
 *   - Value sizes follow a bounded power law, 16 B to 64 KiB, with one in 5000 up to 1 MiB: many
 *     small, few large, as Atikoglu et al., "Workload analysis of a large-scale key-value store"
 *     (SIGMETRICS 2012) saw at memcached. Popularity of keys is skewed likewise.
 *   - APPEND grows values with realloc, room doubled as redis' strings do.
 *   - A quarter of the values expire; a sweeper thread frees them some time later.
 *   - Then the load ends: the workers empty the store to a tenth and wait. What the process still
 *     holds three seconds later is what an operator sees at night.
 *
 * All bytes of a value are a function of its seed and their position, the seed names the key;
 * clients check every byte they read.
 *
 * Prints one line of key=value pairs: operations, seconds, ops_per_s, peak_kib (highest resident
 * set), idle_kib (resident set after the wait), store_kib (bytes in the emptied store),
 * connections, mismatches. Exit status: 0; 1 when a value read was wrong; 2 for bad arguments.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    SHARD_COUNT = 64,
    BUCKETS_PER_SHARD = 4096,
    MAX_THREADS = 64,
    BATCH_REQUESTS = 32, /* pipelining depth of one batch */
    BATCHES_IN_FLIGHT = 2,
    SESSION_BLOCKS = 24,
    SESSION_BUFFER_BYTES = 16 * 1024,
    VALUE_MIN_BYTES = 16,
    VALUE_MAX_BYTES = 64 * 1024,
    VALUE_HUGE_BYTES = 1024 * 1024,
    VALUE_HUGE_ONE_IN = 5000,
    APPEND_MAX_BYTES = 256,
    EXPIRING_PERCENT = 25,
    EXPIRY_MIN_MS = 50,
    EXPIRY_MAX_MS = 2000,
    SWEEP_INTERVAL_MS = 5,
    KEEP_ONE_IN = 10,
};

/* --- options --- */

struct options {
    double seconds;
    uint64_t operations; /* 0: run for `seconds` */
    unsigned workers, clients;
    unsigned keys;
    unsigned connection_operations;
    double idle_seconds;
    uint64_t seed;
};

static struct options options = {
    .seconds = 5,
    .workers = 4,
    .clients = 4,
    .keys = 200000,
    .connection_operations = 20000,
    .idle_seconds = 3,
    .seed = 1,
};

/* --- small helpers --- */

static void die(const char *what)
{
    fprintf(stderr, "kv_server: %s: %s\n", what, strerror(errno));
    abort();
}

static void *allocate(size_t bytes)
{
    void *p = malloc(bytes);
    if (p == NULL)
        die("out of memory");
    return p;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t now_ms(void)
{
    return (uint64_t)(now_s() * 1e3);
}

/* splitmix64 (Steele, Lea, Flood 2014): a bijection, good enough for contents, keys and sizes. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

struct random {
    uint64_t state;
};

static uint64_t random_next(struct random *r)
{
    return mix(r->state++);
}

static uint64_t random_below(struct random *r, uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)random_next(r) * bound) >> 64);
}

/* Uniform in (0, 1]. */
static double random_unit(struct random *r)
{
    return (double)((random_next(r) >> 11) + 1) * 0x1p-53;
}

/* --- contents of values --- */

/* Eight bytes of the value at word `index`. */
static uint64_t pattern_word(uint64_t seed, size_t index)
{
    return (seed ^ (index * 0x9e3779b97f4a7c15u)) * 0xd6e8feb86659fd93u;
}

static void pattern_fill(unsigned char *bytes, size_t from, size_t to, uint64_t seed)
{
    while (from < to) {
        uint64_t word = pattern_word(seed, from / 8);
        size_t skip = from % 8;
        size_t take = to - from < 8 - skip ? to - from : 8 - skip;
        memcpy(bytes + from, (unsigned char *)&word + skip, take);
        from += take;
    }
}

static bool pattern_matches(const unsigned char *bytes, size_t length, uint64_t seed)
{
    uint64_t difference = 0;
    size_t index;

    for (index = 0; index < length / 8; index++) {
        uint64_t word;
        memcpy(&word, bytes + index * 8, 8);
        difference |= word ^ pattern_word(seed, index);
    }
    uint64_t tail = pattern_word(seed, index);
    return difference == 0 && memcmp(bytes + index * 8, &tail, length % 8) == 0;
}

/* --- requests, replies and the queues that carry them --- */

enum verb { SET, GET, DELETE, APPEND, SHRINK_STORE };

struct value {
    uint64_t seed; /* upper half: number of the key */
    size_t length, room;
    unsigned char bytes[];
};

struct client;

struct request {
    struct request *next;
    struct client *client;
    enum verb verb;
    uint32_t key_number;
    uint64_t expires_ms; /* 0: never; for SET */
    size_t append_bytes; /* for APPEND */
    char *key;           /* owned; the store takes it with a new entry */
    struct value *value; /* SET: from client to store; GET: the copy for the client */
};

/* A list of requests, closed by NULL; batches move as a whole. */
struct batch {
    struct request *first, *last;
};

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct batch batch;
    bool closed;
};

static void queue_init(struct queue *q)
{
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->filled, NULL);
    q->batch = (struct batch){NULL, NULL};
    q->closed = false;
}

static void queue_destroy(struct queue *q)
{
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->filled);
}

static void batch_append(struct batch *b, struct batch more)
{
    if (b->first == NULL)
        b->first = more.first;
    else
        b->last->next = more.first;
    b->last = more.last;
}

/* Hands over all of `b`. Signals under the lock: the receiver may destroy the queue right after. */
static void queue_put(struct queue *q, struct batch b)
{
    pthread_mutex_lock(&q->lock);
    batch_append(&q->batch, b);
    pthread_cond_signal(&q->filled);
    pthread_mutex_unlock(&q->lock);
}

/* Everything in the queue; waits while it is empty. NULL: closed and empty. */
static struct request *queue_take_all(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    while (q->batch.first == NULL && !q->closed)
        pthread_cond_wait(&q->filled, &q->lock);
    struct request *first = q->batch.first;
    q->batch = (struct batch){NULL, NULL};
    pthread_mutex_unlock(&q->lock);
    return first;
}

static void queue_close(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    pthread_cond_broadcast(&q->filled);
    pthread_mutex_unlock(&q->lock);
}

/* --- the store: shards of chained hash tables --- */

struct entry {
    struct entry *next;
    uint64_t expires_ms;
    uint32_t key_number;
    char *key;
    struct value *value;
};

struct shard {
    pthread_mutex_t lock;
    struct entry **buckets;
};

static struct shard store[SHARD_COUNT];

static void store_init(void)
{
    for (size_t i = 0; i < SHARD_COUNT; i++) {
        pthread_mutex_init(&store[i].lock, NULL);
        store[i].buckets = calloc(BUCKETS_PER_SHARD, sizeof *store[i].buckets);
        if (store[i].buckets == NULL)
            die("out of memory");
    }
}

static uint64_t hash_key(const char *key)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (; *key != '\0'; key++)
        hash = (hash ^ (unsigned char)*key) * 0x100000001b3u;
    return mix(hash);
}

static struct shard *shard_of(uint64_t hash)
{
    return &store[hash % SHARD_COUNT];
}

/* The link that points, or would point, to the entry of `key`. The caller holds the shard's lock.
 */
static struct entry **find_locked(struct shard *shard, uint64_t hash, const char *key)
{
    struct entry **link = &shard->buckets[hash / SHARD_COUNT % BUCKETS_PER_SHARD];
    while (*link != NULL && strcmp((*link)->key, key) != 0)
        link = &(*link)->next;
    return link;
}

static void remove_locked(struct entry **link)
{
    struct entry *entry = *link;
    *link = entry->next;
    free(entry->key);
    free(entry->value);
    free(entry);
}

/* As find_locked, but an entry past its time is removed and counts as absent. */
static struct entry **find_live_locked(struct shard *shard, uint64_t hash, const char *key,
                                       uint64_t time_ms)
{
    struct entry **link = find_locked(shard, hash, key);
    if (*link != NULL && (*link)->expires_ms != 0 && (*link)->expires_ms <= time_ms) {
        remove_locked(link);
        link = find_locked(shard, hash, key);
    }
    return link;
}

static void set_locked(struct entry **link, struct request *request)
{
    struct entry *entry = *link;
    if (entry == NULL) {
        entry = allocate(sizeof *entry);
        *entry = (struct entry){.key = request->key, .key_number = request->key_number};
        request->key = NULL;
        *link = entry;
    } else {
        free(entry->value);
    }
    entry->value = request->value;
    entry->expires_ms = request->expires_ms;
    request->value = NULL;
}

static struct value *copy_of(const struct value *value)
{
    struct value *copy = allocate(sizeof *copy + value->length);
    *copy = (struct value){.seed = value->seed, .length = value->length, .room = value->length};
    memcpy(copy->bytes, value->bytes, value->length);
    return copy;
}

static void append_locked(struct entry *entry, size_t more)
{
    struct value *value = entry->value;
    size_t length = value->length + more;

    if (length > VALUE_MAX_BYTES)
        return;
    if (length > value->room) {
        value = realloc(value, sizeof *value + 2 * length);
        if (value == NULL)
            die("out of memory");
        value->room = 2 * length;
        entry->value = value;
    }
    pattern_fill(value->bytes, value->length, length, value->seed);
    value->length = length;
}

static void execute(struct request *request, uint64_t time_ms)
{
    uint64_t hash = hash_key(request->key);
    struct shard *shard = shard_of(hash);

    pthread_mutex_lock(&shard->lock);
    struct entry **link = find_live_locked(shard, hash, request->key, time_ms);
    switch (request->verb) {
    case SET:
        set_locked(link, request);
        break;
    case GET:
        if (*link != NULL)
            request->value = copy_of((*link)->value);
        break;
    case DELETE:
        if (*link != NULL)
            remove_locked(link);
        break;
    case APPEND:
        if (*link != NULL)
            append_locked(*link, request->append_bytes);
        break;
    case SHRINK_STORE:
        break;
    }
    pthread_mutex_unlock(&shard->lock);
    free(request->key);
    request->key = NULL;
}

/* Removes from one shard the entries that are past their time, or with `shrink` all but one in
 * KEEP_ONE_IN. */
static void sweep_shard(struct shard *shard, uint64_t time_ms, bool shrink)
{
    pthread_mutex_lock(&shard->lock);
    for (size_t i = 0; i < BUCKETS_PER_SHARD; i++) {
        struct entry **link = &shard->buckets[i];
        while (*link != NULL) {
            bool expired = (*link)->expires_ms != 0 && (*link)->expires_ms <= time_ms;
            bool keep = shrink ? mix((*link)->key_number) % KEEP_ONE_IN == 0 : !expired;
            if (keep)
                link = &(*link)->next;
            else
                remove_locked(link);
        }
    }
    pthread_mutex_unlock(&shard->lock);
}

static size_t store_bytes(void)
{
    size_t bytes = 0;
    for (size_t s = 0; s < SHARD_COUNT; s++) {
        bytes += BUCKETS_PER_SHARD * sizeof(struct entry *);
        for (size_t i = 0; i < BUCKETS_PER_SHARD; i++)
            for (struct entry *e = store[s].buckets[i]; e != NULL; e = e->next)
                bytes += sizeof *e + strlen(e->key) + 1 + sizeof *e->value + e->value->room;
    }
    return bytes;
}

static void store_destroy(void)
{
    for (size_t s = 0; s < SHARD_COUNT; s++) {
        for (size_t i = 0; i < BUCKETS_PER_SHARD; i++)
            while (store[s].buckets[i] != NULL)
                remove_locked(&store[s].buckets[i]);
        free(store[s].buckets);
        pthread_mutex_destroy(&store[s].lock);
    }
}

/* --- workers --- */

struct worker {
    pthread_t thread;
    struct queue requests;
    unsigned number;
};

/* Done with the emptying of the store: workers report, main waits. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t done;
    unsigned workers;
} shrunk = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};

static struct worker workers[MAX_THREADS];

static void shrink_own_shards(const struct worker *worker)
{
    for (size_t s = worker->number; s < SHARD_COUNT; s += options.workers)
        sweep_shard(&store[s], 0, true);
    pthread_mutex_lock(&shrunk.lock);
    shrunk.workers++;
    pthread_cond_signal(&shrunk.done);
    pthread_mutex_unlock(&shrunk.lock);
}

static void send_replies(struct request *first);

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    struct request *first;

    while ((first = queue_take_all(&worker->requests)) != NULL) {
        if (first->verb == SHRINK_STORE) {
            free(first);
            shrink_own_shards(worker);
            continue;
        }
        uint64_t time_ms = now_ms();
        for (struct request *r = first; r != NULL; r = r->next)
            execute(r, time_ms);
        send_replies(first);
    }
    return NULL;
}

/* --- the sweeper: frees expired entries, one shard at a time --- */

static struct {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop;
} sweeper = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void *sweeper_main(void *argument)
{
    (void)argument;
    size_t next = 0;

    pthread_mutex_lock(&sweeper.lock);
    while (!sweeper.stop) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += SWEEP_INTERVAL_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000L;
        }
        pthread_cond_timedwait(&sweeper.wake, &sweeper.lock, &until);
        pthread_mutex_unlock(&sweeper.lock);
        sweep_shard(&store[next++ % SHARD_COUNT], now_ms(), false);
        pthread_mutex_lock(&sweeper.lock);
    }
    pthread_mutex_unlock(&sweeper.lock);
    return NULL;
}

static void sweeper_stop(void)
{
    pthread_mutex_lock(&sweeper.lock);
    sweeper.stop = true;
    pthread_cond_signal(&sweeper.wake);
    pthread_mutex_unlock(&sweeper.lock);
    pthread_join(sweeper.thread, NULL);
}

/* --- clients: one thread is one connection --- */

struct client {
    pthread_t thread;
    bool running; /* main's own note */
    unsigned slot;
    struct queue replies;
    struct random random;
};

static struct client clients[MAX_THREADS];

/* Shared by all clients. */
static atomic_uint_fast64_t operations_done, mismatches;
static atomic_int_fast64_t operations_left; /* with --operations */
static double end_of_load_s;                /* written before the first client starts */

/* Connections that have ended and wait for main to join them. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned slots[MAX_THREADS];
    unsigned count;
} ended = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* Cuts a worker's list of finished requests where the client changes, and hands the parts back. */
static void send_replies(struct request *first)
{
    while (first != NULL) {
        struct batch part = {first, first};
        while (part.last->next != NULL && part.last->next->client == first->client)
            part.last = part.last->next;
        struct request *rest = part.last->next;
        part.last->next = NULL;
        queue_put(&first->client->replies, part);
        first = rest;
    }
}

/* Bounded Pareto with exponent 0.7, mean about 400 bytes: a size falls into the next octave with
 * probability 2^-0.7, and anywhere within its octave. */
static size_t power_law_bytes(struct random *r)
{
    const double two_to_minus_0_7 = 0.6156;
    size_t octave = VALUE_MIN_BYTES;

    while (octave < VALUE_MAX_BYTES / 2 && random_unit(r) < two_to_minus_0_7)
        octave *= 2;
    return octave + random_below(r, octave);
}

static size_t value_bytes(struct random *r)
{
    if (random_below(r, VALUE_HUGE_ONE_IN) == 0)
        return VALUE_MAX_BYTES + random_below(r, VALUE_HUGE_BYTES - VALUE_MAX_BYTES);
    return power_law_bytes(r);
}

/* The lower its number, the more often a key is asked for: density falls as 1/sqrt. */
static uint32_t skewed_key(struct random *r)
{
    double u = random_unit(r);
    return (uint32_t)(u * u * (double)(options.keys - 1));
}

static char *key_text(uint32_t number)
{
    char text[48];
    int length = number % 4 == 0
                     ? snprintf(text, sizeof text, "session:%08x:%u", (unsigned)mix(number), number)
                     : snprintf(text, sizeof text, "user:%u", number);
    char *key = allocate((size_t)length + 1);
    memcpy(key, text, (size_t)length + 1);
    return key;
}

static struct value *new_value(struct random *r, uint32_t key_number)
{
    size_t length = value_bytes(r);
    struct value *value = allocate(sizeof *value + length);
    *value = (struct value){
        .seed = (uint64_t)key_number << 32 | (uint32_t)random_next(r),
        .length = length,
        .room = length,
    };
    pattern_fill(value->bytes, 0, length, value->seed);
    return value;
}

/* 45 % SET, 40 % GET, 7 % DELETE, 8 % APPEND. */
static enum verb draw_verb(struct random *r)
{
    uint64_t percent = random_below(r, 100);
    return percent < 45 ? SET : percent < 85 ? GET : percent < 92 ? DELETE : APPEND;
}

static struct request *new_request(struct client *client, uint64_t time_ms)
{
    struct random *r = &client->random;
    struct request *request = allocate(sizeof *request);
    *request = (struct request){
        .client = client,
        .verb = draw_verb(r),
        .key_number = skewed_key(r),
    };
    request->key = key_text(request->key_number);
    if (request->verb == SET) {
        request->value = new_value(r, request->key_number);
        if (random_below(r, 100) < EXPIRING_PERCENT)
            request->expires_ms =
                time_ms + EXPIRY_MIN_MS + random_below(r, EXPIRY_MAX_MS - EXPIRY_MIN_MS);
    } else if (request->verb == APPEND) {
        request->append_bytes = 1 + random_below(r, APPEND_MAX_BYTES);
    }
    return request;
}

/* Checks and frees replies; returns how many. */
static unsigned take_replies(struct request *reply)
{
    unsigned count = 0;
    while (reply != NULL) {
        struct request *next = reply->next;
        const struct value *value = reply->value;
        if (value != NULL && (value->seed >> 32 != reply->key_number ||
                              !pattern_matches(value->bytes, value->length, value->seed)))
            atomic_fetch_add_explicit(&mismatches, 1, memory_order_relaxed);
        free(reply->value);
        free(reply);
        reply = next;
        count++;
    }
    return count;
}

static bool load_has_ended(void)
{
    if (options.operations != 0)
        return atomic_load_explicit(&operations_left, memory_order_relaxed) <= 0;
    return now_s() >= end_of_load_s;
}

static void send_batch(struct client *client)
{
    struct batch batch = {NULL, NULL};
    uint64_t time_ms = now_ms();

    for (unsigned i = 0; i < BATCH_REQUESTS; i++) {
        struct request *request = new_request(client, time_ms);
        batch_append(&batch, (struct batch){request, request});
    }
    queue_put(&workers[random_below(&client->random, options.workers)].requests, batch);
}

/* One connection, from the first request to the last reply. */
static void serve_connection(struct client *client)
{
    unsigned sent = 0, received = 0;

    while (sent < options.connection_operations && !load_has_ended()) {
        while (sent - received < BATCH_REQUESTS * BATCHES_IN_FLIGHT) {
            send_batch(client);
            sent += BATCH_REQUESTS;
            atomic_fetch_sub_explicit(&operations_left, BATCH_REQUESTS, memory_order_relaxed);
        }
        received += take_replies(queue_take_all(&client->replies));
    }
    while (received < sent)
        received += take_replies(queue_take_all(&client->replies));
    atomic_fetch_add_explicit(&operations_done, received, memory_order_relaxed);
}

static void *client_main(void *argument)
{
    struct client *client = argument;
    void *session[SESSION_BLOCKS];
    char *buffer = allocate(SESSION_BUFFER_BYTES);

    memset(buffer, 0, SESSION_BUFFER_BYTES);
    for (size_t i = 0; i < SESSION_BLOCKS; i++)
        session[i] = allocate(16 + random_below(&client->random, 512));
    serve_connection(client);
    for (size_t i = 0; i < SESSION_BLOCKS; i++)
        free(session[i]);
    free(buffer);

    pthread_mutex_lock(&ended.lock);
    ended.slots[ended.count++] = client->slot;
    pthread_cond_signal(&ended.changed);
    pthread_mutex_unlock(&ended.lock);
    return NULL;
}

static void start_thread(pthread_t *thread, void *(*entry)(void *), void *argument)
{
    errno = pthread_create(thread, NULL, entry, argument);
    if (errno != 0)
        die("pthread_create");
}

static void start_client(unsigned slot, unsigned connection)
{
    struct client *client = &clients[slot];
    *client = (struct client){
        .running = true,
        .slot = slot,
        .random = {mix(options.seed ^ (uint64_t)connection << 40)},
    };
    queue_init(&client->replies);
    start_thread(&client->thread, client_main, client);
}

/* Keeps options.clients connections open until the load ends; returns how many there were. */
static unsigned accept_connections(void)
{
    unsigned connections = 0, open = 0;

    for (; open < options.clients; open++)
        start_client(open, connections++);
    while (open > 0) {
        pthread_mutex_lock(&ended.lock);
        while (ended.count == 0)
            pthread_cond_wait(&ended.changed, &ended.lock);
        unsigned slot = ended.slots[--ended.count];
        pthread_mutex_unlock(&ended.lock);

        pthread_join(clients[slot].thread, NULL);
        queue_destroy(&clients[slot].replies);
        if (load_has_ended())
            open--;
        else
            start_client(slot, connections++);
    }
    return connections;
}

/* --- the end of the load --- */

static void shrink_store(void)
{
    for (unsigned i = 0; i < options.workers; i++) {
        struct request *request = allocate(sizeof *request);
        *request = (struct request){.verb = SHRINK_STORE};
        queue_put(&workers[i].requests, (struct batch){request, request});
    }
    pthread_mutex_lock(&shrunk.lock);
    while (shrunk.workers < options.workers)
        pthread_cond_wait(&shrunk.done, &shrunk.lock);
    pthread_mutex_unlock(&shrunk.lock);
}

static void wait_seconds(double seconds)
{
    struct timespec rest = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (nanosleep(&rest, &rest) != 0 && errno == EINTR)
        ;
}

/* The figure behind `name` in a /proc file, in KiB. Allocates nothing: the heap is what is
 * measured. */
static unsigned long proc_kib(const char *path, const char *name)
{
    static char text[8192];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (length < 0)
        return 0;
    text[length] = '\0';
    const char *at = strstr(text, name);
    return at == NULL ? 0 : strtoul(at + strlen(name), NULL, 10);
}

static unsigned long resident_kib(void)
{
    /* smaps_rollup counts pages; status may lag behind by some per thread. */
    unsigned long kib = proc_kib("/proc/self/smaps_rollup", "Rss:");
    return kib != 0 ? kib : proc_kib("/proc/self/status", "VmRSS:");
}

/* --- command line --- */

static void usage(FILE *out)
{
    fprintf(out, "usage: kv_server [--seconds S | --operations N] [--workers N] [--clients N]\n"
                 "                 [--keys N] [--connection-operations N] [--idle S] [--seed N]\n");
}

static double number_argument(const char *option, const char *text, double low, double high)
{
    char *end;
    double number = text == NULL ? low - 1 : strtod(text, &end);
    if (text == NULL || end == text || *end != '\0' || !(number >= low && number <= high)) {
        fprintf(stderr, "kv_server: %s needs a number from %g to %g\n", option, low, high);
        exit(2);
    }
    return number;
}

static void parse_option(const char *option, const char *text)
{
    if (strcmp(option, "--seconds") == 0)
        options.seconds = number_argument(option, text, 0.01, 1e6);
    else if (strcmp(option, "--operations") == 0)
        options.operations = (uint64_t)number_argument(option, text, 1, 1e15);
    else if (strcmp(option, "--workers") == 0)
        options.workers = (unsigned)number_argument(option, text, 1, MAX_THREADS);
    else if (strcmp(option, "--clients") == 0)
        options.clients = (unsigned)number_argument(option, text, 1, MAX_THREADS);
    else if (strcmp(option, "--keys") == 0)
        options.keys = (unsigned)number_argument(option, text, 1, 1e8);
    else if (strcmp(option, "--connection-operations") == 0)
        options.connection_operations = (unsigned)number_argument(option, text, 1, 1e9);
    else if (strcmp(option, "--idle") == 0)
        options.idle_seconds = number_argument(option, text, 0, 1e6);
    else if (strcmp(option, "--seed") == 0)
        options.seed = (uint64_t)number_argument(option, text, 0, 1e15);
    else {
        usage(stderr);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        if (strcmp(argv[i], "--help") == 0) {
            usage(stdout);
            return 0;
        }
        parse_option(argv[i], argv[i + 1]);
    }

    store_init();
    for (unsigned i = 0; i < options.workers; i++) {
        workers[i].number = i;
        queue_init(&workers[i].requests);
        start_thread(&workers[i].thread, worker_main, &workers[i]);
    }
    start_thread(&sweeper.thread, sweeper_main, NULL);

    double start_s = now_s();
    end_of_load_s = start_s + options.seconds;
    atomic_store(&operations_left, (int_fast64_t)options.operations);
    unsigned connections = accept_connections();
    double seconds = now_s() - start_s;

    sweeper_stop();
    shrink_store();
    wait_seconds(options.idle_seconds);
    unsigned long peak_kib = proc_kib("/proc/self/status", "VmHWM:");
    unsigned long idle_kib = resident_kib();
    size_t kept_bytes = store_bytes();

    for (unsigned i = 0; i < options.workers; i++) {
        queue_close(&workers[i].requests);
        pthread_join(workers[i].thread, NULL);
        queue_destroy(&workers[i].requests);
    }
    store_destroy();

    uint64_t operations = atomic_load(&operations_done), wrong = atomic_load(&mismatches);
    printf("operations=%llu seconds=%.3f ops_per_s=%.0f peak_kib=%lu idle_kib=%lu store_kib=%zu "
           "connections=%u mismatches=%llu\n",
           (unsigned long long)operations, seconds, (double)operations / seconds, peak_kib,
           idle_kib, kept_bytes / 1024, connections, (unsigned long long)wrong);
    return wrong == 0 ? 0 : 1;
}
