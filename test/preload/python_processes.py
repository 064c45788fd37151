# SPDX-License-Identifier: MIT
"""Processes that are forked while other threads allocate, and fresh ones; prints digests of what they
sent back."""
import hashlib
import multiprocessing
import random
import threading


def work(seed):
    rng = random.Random(seed)
    words = {}
    for _ in range(20000):
        word = "".join(rng.choices("abcdefgh", k=rng.randrange(1, 6)))
        words[word] = words.get(word, 0) + 1
    in_thread = []
    thread = threading.Thread(target=lambda: in_thread.append(bytes(rng.randrange(200000))))
    thread.start()
    thread.join()
    return seed, hashlib.sha256(repr(sorted(words.items())).encode()).hexdigest(), in_thread[0]


def run(method):
    with multiprocessing.get_context(method).Pool(4) as pool:
        results = sorted(pool.map(work, range(24), chunksize=1))
    state = hashlib.sha256()
    for seed, text, data in results:
        state.update(f"{seed} {text} {len(data)}\n".encode())
    print(method, state.hexdigest()[:16], flush=True)


def main():
    # Somebody allocates all the time, so that a fork meets the allocator at work.
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            [bytearray(size) for size in range(1, 5000, 37)]

    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        run("fork")
        run("spawn")
    finally:
        stop.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
