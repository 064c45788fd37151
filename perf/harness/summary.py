# SPDX-License-Identifier: MIT
"""
summary.py: what the benchmark's runs say, as numbers: medians, spreads, ratios, geometric means.

Imports nothing but the standard library, so that whoever only wants numbers needs nothing else.
The runs are those of results_format.md. A number that is missing is None here and counts nowhere.
"""
import math
import statistics

OWN = ("apmalloc", "first_apmalloc")  # all other allocators are rivals
EARLIER = "first_apmalloc"  # shown for comparison; takes no win from its successor

MEDIAN_FIELDS = ("wall_s", "user_s", "sys_s", "operations", "peak_bytes", "after_bytes",
                 "minor_faults", "major_faults", "live_bytes")
IDLE_FIELDS = ("idle_live_bytes", "idle_0_bytes", "idle_1_bytes", "idle_5_bytes", "idle_10_bytes",
               "idle_30_bytes", "peak_live_bytes")
SUM_FIELDS = {"cpu_s": ("user_s", "sys_s"), "faults": ("minor_faults", "major_faults")}


def number(record, field):
    """record[field] if it is a finite number, else None."""
    value = record.get(field)
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return value if usable else None


def per_operation(record, field, factor=1):
    """record[field] * factor / record["operations"], or None."""
    value, operations = number(record, field), number(record, "operations")
    return value * factor / operations if value is not None and operations else None


def is_point(run):
    """Whether the run is one point of a scaling curve: scaling() has it, medians() has not."""
    return run.get("group") == "scaling" or number(run, "x") is not None


def is_idle(run):
    """Whether the run is of a program that falls idle: idle() has it, medians() has not."""
    return run.get("group") == "idle"


def median(values):
    """Median of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def spread(values):
    """(max - min) / median of the values that are not None; None below two values."""
    known = [value for value in values if value is not None]
    middle = median(known)
    return (max(known) - min(known)) / middle if len(known) > 1 and middle else None


def _sum(run, fields):
    values = [number(run, field) for field in fields]
    return None if None in values else sum(values)


def _of_one(runs, fields=MEDIAN_FIELDS):
    good = [run for run in runs if run["status"] == "ok"]
    bad = [run["status"] for run in runs if run["status"] != "ok"]
    result = {field: median(number(run, field) for run in good) for field in fields}
    for name, fields in SUM_FIELDS.items():
        result[name] = median(_sum(run, fields) for run in good)
    result.update(spread=spread([number(run, "wall_s") for run in good]), ok=len(good),
                  failed=len(bad), why=bad[0] if bad else "")
    return result


def _by_test_and_allocator(runs):
    grouped = {}
    for run in runs:
        grouped.setdefault((run["test"], run["allocator"]), []).append(run)
    return grouped


def medians(runs):
    """
    {(test, allocator): {field: median over the repetitions that are ok}} with MEDIAN_FIELDS, the
    sums "cpu_s" and "faults", "spread" of wall_s, the numbers of runs "ok" and "failed", and the
    first failure's text "why". Without the points of scaling curves and the group idle.
    """
    grouped = _by_test_and_allocator(run for run in runs if not is_point(run) and not is_idle(run))
    return {key: _of_one(group) for key, group in grouped.items()}


def quotient(values, field, divisor):
    """values[field] / values[divisor], or None."""
    value, by = number(values, field), number(values, divisor)
    return value / by if value is not None and by else None


def idle(runs):
    """
    medians() of the group idle, with IDLE_FIELDS too; "idle_10_ratio" is what is resident ten seconds after
    the work to what is live then, "peak_ratio" the same of the peaks.
    """
    grouped = _by_test_and_allocator(run for run in runs if is_idle(run))
    result = {key: _of_one(group, MEDIAN_FIELDS + IDLE_FIELDS) for key, group in grouped.items()}
    for values in result.values():
        values["idle_10_ratio"] = quotient(values, "idle_10_bytes", "idle_live_bytes")
        values["peak_ratio"] = quotient(values, "peak_bytes", "peak_live_bytes")
    return result


def rivals_of(allocators):
    """The allocators that are not versions of apmalloc."""
    return [allocator for allocator in allocators if allocator not in OWN]


def best_rivals(medians_, field, rivals):
    """{test: (lowest median of field among the rivals, the rival)}; only positive values."""
    best = {}
    for (test, allocator), values in medians_.items():
        value = number(values, field)
        if allocator in rivals and value is not None and value > 0:
            best[test] = min(best.get(test, (value, allocator)), (value, allocator))
    return best


def ratios(medians_, field, rivals):
    """{(test, allocator): median of field / the best rival's}, where both are there and positive."""
    best = best_rivals(medians_, field, rivals)
    result = {}
    for (test, allocator), values in medians_.items():
        value = number(values, field)
        if test in best and value is not None and value > 0:
            result[test, allocator] = value / best[test][0]
    return result


def geometric_means(ratios_):
    """
    ({allocator: geometric mean of its ratios}, the tests it is over). Only tests on which every
    allocator that has a ratio at all has one: means over different tests cannot be compared.
    """
    allocators = {allocator for _, allocator in ratios_}
    tests = [test for test in dict.fromkeys(test for test, _ in ratios_)
             if all((test, allocator) in ratios_ for allocator in allocators)]
    if not tests:
        return {}, []
    means = {allocator: math.exp(statistics.fmean(math.log(ratios_[test, allocator])
                                                  for test in tests))
             for allocator in allocators}
    return means, tests


def wins(medians_, field):
    """{allocator: number of tests on which it is lowest}, where two or more take part; without EARLIER."""
    by_test = {}
    for (test, allocator), values in medians_.items():
        if allocator != EARLIER and number(values, field) is not None:
            by_test.setdefault(test, {})[allocator] = values[field]
    won = {}
    for values in by_test.values():
        for allocator, value in values.items():
            won[allocator] = won.get(allocator, 0) + (len(values) > 1 and value == min(values.values()))
    return won


def scaling(runs):
    """{test: (x_label, {allocator: [(x, median nanoseconds per operation), ...] by x})}"""
    samples, labels = {}, {}
    for run in runs:
        x, time = number(run, "x"), per_operation(run, "wall_s", 1e9)
        if run["status"] == "ok" and None not in (x, time) and x > 0:
            labels.setdefault(run["test"], str(run.get("x_label") or "x"))
            curves = samples.setdefault(run["test"], {})
            curves.setdefault(run["allocator"], {}).setdefault(x, []).append(time)
    return {test: (labels[test], {allocator: [(x, median(times)) for x, times in sorted(points.items())]
                                  for allocator, points in curves.items()})
            for test, curves in samples.items()}
