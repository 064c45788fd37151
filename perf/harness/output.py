# SPDX-License-Identifier: MIT
"""output.py: results as a table for the terminal, as CSV, as JSON; and what machine they are from."""
import csv
import json
import os
import platform
import subprocess
from datetime import datetime, timezone

from harness import summary

COLUMNS = ("test", "group", "allocator", "repetition", "status", "wall_s", "user_s", "sys_s",
           "operations", "peak_bytes", "after_bytes", "minor_faults", "major_faults", "live_bytes",
           "x", "x_label", "idle_since_s", "idle_live_bytes", "idle_0_bytes", "idle_1_bytes", "idle_5_bytes",
           "idle_10_bytes", "idle_30_bytes", "peak_live_bytes")


def _first(path, start):
    try:
        with open(path, encoding="utf-8", errors="replace") as text:
            return next((line[len(start):].strip(" :=\t\n\"") for line in text
                         if line.startswith(start)), "unknown")
    except OSError:
        return "unknown"


def machine():
    memory = _first("/proc/meminfo", "MemTotal").split()[0]
    return {"cpu": _first("/proc/cpuinfo", "model name"), "cores": os.cpu_count(),
            "memory_bytes": int(memory) * 1024 if memory.isdigit() else 0,
            "kernel": platform.release(), "os": _first("/etc/os-release", "PRETTY_NAME"),
            "thp": _first("/sys/kernel/mm/transparent_hugepage/enabled", "")}


def commit(root):
    done = subprocess.run(["git", "-C", str(root), "describe", "--always", "--dirty"], check=False,
                          capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def date():
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def write(directory, results):
    """latest.json and latest.csv; each replaced whole, so that a full disk leaves the old ones."""
    directory.mkdir(parents=True, exist_ok=True)
    _replace(directory / "latest.json", lambda file: json.dump(results, file, indent=1))
    _replace(directory / "latest.csv", lambda file: _write_csv(file, results["runs"]))


def _replace(path, fill):
    partial = path.with_suffix(path.suffix + ".partial")
    with open(partial, "w", encoding="utf-8", newline="") as file:
        fill(file)
    partial.replace(path)


def _write_csv(file, runs):
    writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(runs)


# --- the table ---

def _cell(record, field, factor, digits):
    value = record.get(field) if record else None
    return "-" if value is None else f"{value * factor:.{digits}f}"


def _rows(medians, tests, allocators, field, factor, digits):
    for test in tests:
        records = [medians.get((test, allocator)) for allocator in allocators]
        cells = ["failed" if record and not record["ok"] else _cell(record, field, factor, digits)
                 for record in records]
        yield [test, *cells]


def _print_table(title, header, rows):
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    print(f"\n{title}")
    for row in [header, *rows]:
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(row, widths))))


def print_tables(results):
    runs, allocators = results["runs"], list(results["allocators"])
    medians = summary.medians(runs)
    tests = list(dict.fromkeys(test for test, _ in medians))
    for field, title, factor, digits in (
            ("wall_s", "time, seconds (median)", 1, 3),
            ("spread", "spread of time, % of the median", 100, 0),
            ("peak_bytes", "highest resident memory, MiB", 2**-20, 1),
            ("after_bytes", "resident 2 s after the work, MiB", 2**-20, 1)):
        rows = list(_rows(medians, tests, allocators, field, factor, digits))
        if any(cell != "-" for row in rows for cell in row[1:]):
            _print_table(title, ["test", *allocators], rows)
    if medians:
        _print_means(medians, allocators)
    _print_idle(runs, allocators)
    _print_scaling(runs)


def _print_means(medians, allocators):
    rivals = summary.rivals_of(allocators)
    if not rivals:
        return
    header, rows = ["geometric mean, best rival = 1", *allocators], []
    for field, title in (("wall_s", "time"), ("peak_bytes", "peak"), ("after_bytes", "after")):
        ratios = summary.ratios(medians, field, rivals)
        means, tests = summary.geometric_means(ratios)
        rows.append([f"{title} ({len(tests)} tests)",
                     *("-" if means.get(name) is None else f"{means[name]:.3f}" for name in allocators)])
    _print_table("relative to the best rival of each test", header, rows)


def _print_idle(runs, allocators):
    found = summary.idle(runs)
    tests = list(dict.fromkeys(test for test, _ in found))
    for field, title, factor, digits in (
            ("peak_ratio", "idle: peak resident / peak live", 1, 2),
            ("idle_0_bytes", "idle: resident when the work is done, MiB", 2**-20, 1),
            ("idle_1_bytes", "idle: resident 1 s after, MiB", 2**-20, 1),
            ("idle_10_bytes", "idle: resident 10 s after, MiB", 2**-20, 1),
            ("idle_10_ratio", "idle: resident 10 s after / live", 1, 2)):
        rows = list(_rows(found, tests, allocators, field, factor, digits))
        if any(cell != "-" for row in rows for cell in row[1:]):
            _print_table(title, ["test", *allocators], rows)


def _print_scaling(runs):
    points = {}
    for run in runs:
        if summary.is_point(run) and run["status"] == "ok":
            cost = summary.per_operation(run, "wall_s", 1e9)
            points.setdefault((run["test"], run["allocator"]), {}).setdefault(run["x"], []).append(cost)
    rows = [[f"{test} {allocator}", " ".join(f"{x}:{summary.median(costs):.1f}"
                                             for x, costs in sorted(curve.items()))]
            for (test, allocator), curve in points.items()]
    if rows:
        _print_table("scaling: nanoseconds per operation", ["curve", "x:ns"], rows)
