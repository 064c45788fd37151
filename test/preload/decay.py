# SPDX-License-Identifier: MIT
"""Two threads fill memory and drop it; then the program waits for a line. Input of decay.sh."""
import sys
import threading

BLOCKS = 200000

barrier = threading.Barrier(2)


def fill(results, index):
    blocks = [bytes([i % 251]) * (600 + i % 100) for i in range(BLOCKS)]
    barrier.wait()
    results[index] = sum(block[0] for block in blocks)


results = [0, 0]
threads = [threading.Thread(target=fill, args=(results, i)) for i in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
stay = threading.Thread(target=sys.stdin.readline)
stay.start()
print(results, flush=True)
stay.join()
print("done")
