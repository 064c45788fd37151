# SPDX-License-Identifier: MIT
"""
suite.py: the list of tests on our own programs: which program, which options, how much work.

Work is sized for about a second on the system's malloc; `quick` divides what QUICK names by ten.
"""
import os
from dataclasses import dataclass, field

QUICK = ("operations", "rounds", "phases", "bursts", "eras", "turnover", "walks", "pairs", "idle_s")
CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Test:
    name: str
    program: str
    options: dict = field(default_factory=dict)
    group: str = "programs"
    x: float = None  # of a scaling curve
    x_label: str = None

    def arguments(self, quick=False):
        """Command line of the program."""
        def shrunk(name, value):
            return max(1, value // 10) if quick and name in QUICK and isinstance(value, int) else value
        return [f"{name}={shrunk(name, value)}" for name, value in self.options.items()]


def _local(name, size, operations):
    return Test(f"local_{name}", "local_pairs", {"bytes": size, "operations": operations})


PROGRAMS = [
    _local("16", 16, 60_000_000),
    _local("48", 48, 60_000_000),
    _local("1k", 1024, 60_000_000),
    _local("16k", 16384, 40_000_000),
    _local("256k", 262144, 1_000_000),
    _local("1m", 1 << 20, 1_000_000),
    Test("lifetimes_lifo", "lifetimes", {"order": "lifo", "operations": 8_000_000}),
    Test("lifetimes_fifo", "lifetimes", {"order": "fifo", "operations": 8_000_000}),
    Test("lifetimes_random", "lifetimes", {"order": "random", "operations": 8_000_000}),
    Test("buffers", "lifetimes", {"order": "random", "least_bytes": 1024, "doublings": 5,
                                  "blocks": 12_000, "operations": 2_000_000}),
    Test("values", "lifetimes", {"order": "random", "least_bytes": 1024, "doublings": 1,
                                 "blocks": 30_000, "operations": 3_000_000}),
    Test("oversubscribed_8x", "lifetimes",
         {"threads": 8 * CORES, "blocks": 5000, "operations": 1_500_000}),
    Test("oversubscribed_32x", "lifetimes",
         {"threads": 32 * CORES, "blocks": 2000, "operations": 400_000}),
    Test("larson", "larson", {"threads": CORES, "rounds": 400}),
    Test("producer_consumer_1_1", "producer_consumer", {"operations": 5_000_000}),
    Test("producer_consumer_n_n", "producer_consumer",
         {"producers": 4, "consumers": 4, "operations": 1_500_000}),
    Test("producer_consumer_n_1", "producer_consumer",
         {"producers": 4, "consumers": 1, "operations": 1_500_000}),
    Test("phases", "phases", {"phases": 100}),
    Test("bursts", "bursts", {"peak_mib": 1024, "bursts": 2}),
    Test("thread_churn", "thread_churn", {"threads": 10_000}),
    Test("false_sharing_active", "false_sharing", {"mode": "active", "operations": 1_000_000}),
    Test("false_sharing_passive", "false_sharing", {"mode": "passive", "operations": 1_000_000}),
    Test("realloc_vectors", "realloc_growth", {"kind": "vector", "rounds": 2}),
    Test("realloc_strings", "realloc_growth", {"kind": "string", "rounds": 25}),
    Test("calloc_mix", "calloc_mix", {"operations": 6_000_000}),
    Test("large_objects", "large_objects", {"operations": 100}),
    Test("aligned", "aligned", {"operations": 3_000_000}),
    Test("fragmentation", "fragmentation", {"turnover": 1}),
    Test("pointer_chase", "pointer_chase", {"walks": 10}),
    Test("containers_tree", "containers", {"kind": "tree"}),
    Test("containers_hash", "containers", {"kind": "hash", "rounds": 20}),
]


def _curve(name, program, label, points, options, varied):
    return [Test(name, program, {**options, varied: x}, "scaling", x, label) for x in points]


def _large(x):
    options = {"least_kib": 260, "most_kib": 320, "threads": 1, "fill": 2}
    return {**options, "blocks": x, "operations": 300_000}


SCALING = [
    *_curve("scaling_threads", "lifetimes", "threads", (1, 2, 4, 8, 16, 32, 64),
            {"blocks": 1000, "operations": 1_000_000}, "threads"),
    *_curve("scaling_live_heap", "local_pairs", "live heap, MiB", (1, 16, 64, 256, 1024, 4096),
            {"bytes": 48, "operations": 30_000_000}, "live_mib"),
    *[Test("scaling_large_objects", "large_objects", _large(x), "scaling", x, "live large objects")
      for x in (1, 100, 10_000, 100_000, 1_000_000)],
    *_curve("scaling_idle_threads", "thread_churn", "idle threads", (1, 10, 100, 1000, 5000),
            {"idle": 1, "pairs": 10_000_000}, "threads"),
]

# Whether memory comes back: what counts is what is resident while nothing happens.
def _diurnal(name, threads, **options):
    options = {"threads": threads, "operations": 2_000_000, "idle_s": 30, **options}
    return Test(f"diurnal_{name}", "diurnal", options, "idle")


IDLE = [
    _diurnal("1", 1),
    _diurnal("8", 8),
    _diurnal("small_1", 1, session_blocks=200),
    _diurnal("scattered_1", 1, lifetimes="scattered"),
    _diurnal("scattered_8", 8, lifetimes="scattered"),
    Test("turns", "turns", {"threads": 8, "rounds": 2, "idle_s": 10}, "idle"),
    Test("long_lived", "long_lived", {"operations": 200_000, "idle_s": 30}, "idle"),
]

# For --counts: single-threaded ones under callgrind, with work small enough for it; the difference
# between the two amounts of work leaves out start and end.
COUNTED = {
    "local_16": ("operations", 200_000),
    "local_48": ("operations", 200_000),
    "local_1k": ("operations", 200_000),
    "local_16k": ("operations", 200_000),
    "realloc_strings": ("rounds", 1),
    "containers_tree": ("rounds", 1),
    "containers_hash": ("rounds", 1),
}

# For --counts: what meets on more processors, by the number of shards.
CONTENTION = ("producer_consumer_1_1", "producer_consumer_n_n", "lifetimes_random", "larson", "phases")
SHARDS = (1, 2, 4, 8)
