#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
free_memory_test.py: what the page heap does for a span does not grow with the heap.

Goal: taking a span off a long free one, and giving it back, costs as many instructions beside two GiB of
free memory as beside a few MiB. Method: a program that does so runs under callgrind, N and 2N times. Counting is
exact: nothing here depends on time.

Exit status: 0 good, 1 not, 77 nothing to test on this machine.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROUNDS = 50
FREE_MIB = (32, 2048)
GROWTH_MOST = 1.25


def instructions(program, free_mib, rounds, folder):
    out = os.path.join(folder, f"callgrind.{free_mib}.{rounds}")
    # Nothing is to be given back meanwhile.
    environment = {**os.environ, "APMALLOC_CONF": "decay_ms:-1,helper:false"}
    run = subprocess.run(
        ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}", program, str(free_mib), str(rounds)],
        capture_output=True, text=True, env=environment)
    if run.returncode == 77:
        print(f"skipped: no {free_mib} MiB of addresses here")
        sys.exit(77)
    if run.returncode != 0:
        sys.exit(f"valgrind failed: {run.stderr}")
    with open(out, encoding="utf-8", errors="replace") as lines:
        return int(re.search(r"^(?:summary|totals): (\d+)", lines.read(), re.MULTILINE).group(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--program", required=True)
    parser.add_argument("--sanitize", default="none")
    arguments = parser.parse_args()
    if shutil.which("valgrind") is None or arguments.sanitize != "none":
        print("skipped: no valgrind, or a sanitizer's build")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        of_round = [(instructions(arguments.program, free_mib, 2 * ROUNDS, folder) -
                     instructions(arguments.program, free_mib, ROUNDS, folder)) / ROUNDS for free_mib in FREE_MIB]
    for free_mib, count in zip(FREE_MIB, of_round):
        print(f"golden: two spans taken and given back beside {free_mib} MiB: {count:.0f} instructions")
    if not 0 < of_round[1] < of_round[0] * GROWTH_MOST:
        print(f"error: more than {GROWTH_MOST} times as many beside much free memory")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
