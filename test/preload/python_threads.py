# SPDX-License-Identifier: MIT
"""Threads that build, hand over and drop objects of all sizes; prints digests that do not depend on
the order in which the threads ran."""
import hashlib
import json
import queue
import random
import threading
import zlib


def digest(*parts):
    state = hashlib.sha256()
    for part in parts:
        state.update(part if isinstance(part, bytes) else repr(part).encode())
    return state.hexdigest()[:16]


def build(seed):
    """A nested structure, through JSON and back, and compressed (zlib runs without the interpreter's
    lock and allocates meanwhile)."""
    rng = random.Random(seed)
    tree = {
        f"key{i}": [rng.random() for _ in range(rng.randrange(20))] + ["x" * rng.randrange(500)]
        for i in range(rng.randrange(50, 200))
    }
    text = json.dumps(tree, sort_keys=True).encode()
    packed = zlib.compress(text, 6)
    assert json.loads(zlib.decompress(packed)) == tree
    return digest(text, packed)


def in_threads(count, work):
    results = [None] * count

    def run(i):
        results[i] = work(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def pipeline(items):
    """Buffers made by one thread, changed by a second and dropped by a third."""
    first, second, result = queue.Queue(64), queue.Queue(64), []

    def produce():
        rng = random.Random(7)
        for i in range(items):
            first.put(bytearray(rng.randbytes(rng.choice((16, 100, 1000, 70000, 300000)))))
        first.put(None)

    def change():
        while (item := first.get()) is not None:
            item.extend(item[:1000])
            second.put(bytes(item))
        second.put(None)

    def drop():
        total = 0
        while (item := second.get()) is not None:
            total = zlib.crc32(item, total)
        result.append(total)

    threads = [threading.Thread(target=f) for f in (produce, change, drop)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return result[0]


print("build", digest(*in_threads(8, lambda i: [build(i * 100 + j) for j in range(8)])))
print("pipeline", pipeline(600))
print("churn", digest(*[in_threads(10, build) for _ in range(10)]))
print("sort", digest(sorted(str(i * 7919 % 100003) for i in range(100003))))
