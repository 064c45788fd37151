#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""
report_test.py: the benchmark report says what the results say, in a page that can be read.

Arithmetic against numbers worked out by hand; reports of made-up results with gaps, failures and
names full of signs; wrong inputs; and a browser's picture of the page. Arguments: names of test
classes, all if none. Exit status: 0 good, 1 not, 77 if everything was skipped.
"""
import html.parser
import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

sys.dont_write_bytecode = True
PERF = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", "perf"))
REPORT = os.path.join(PERF, "report")
sys.path.insert(0, PERF)
from harness import summary

ALLOCATORS = ("apmalloc", "glibc", "jemalloc", "tcmalloc", "mimalloc", "tbbmalloc", "scudo",
              "first_apmalloc")
APMALLOC_COLOUR = (0xD5, 0x5E, 0x00)
STRANGE = 'a<b> & "c" $x_{'  # markup to HTML and XML, and a broken formula to matplotlib
HAVE_MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None
VOID = {"meta", "br"}


def run(test, allocator, repetition=0, **fields):
    return {"test": test, "group": "programs", "allocator": allocator, "repetition": repetition,
            "status": "ok", **fields}


def full_results():
    """20 tests, 8 allocators, every section; values differ but depend on no chance."""
    runs = []
    for number in range(20):
        group = "real" if number > 14 else "programs"
        for place, allocator in enumerate(ALLOCATORS):
            for repetition in range(3):
                time = 0.5 + 0.1 * ((number * 7 + place * 3) % 11) + 0.01 * repetition
                runs.append(run(f"test_{number}", allocator, repetition, group=group, wall_s=time,
                                user_s=time, sys_s=0.1, operations=10**6, minor_faults=5000 + place,
                                major_faults=0, peak_bytes=10**8 + 10**7 * ((number + place) % 8),
                                after_bytes=10**7 * (1 + (number * place) % 9)))
    for allocator in ALLOCATORS:
        for threads in (1, 2, 4, 8):
            runs.append(run("scaling_threads", allocator, group="scaling", x=threads, x_label="threads",
                            wall_s=0.01 * (threads + len(allocator)), operations=10**6))
        series = [[step / 10, 10**8 * (1 + math.sin(step)), 2.5 * 10**8] for step in range(50)]
        runs.append(run("breathing", allocator, group="breathing", series=series))
    for place, allocator in enumerate(ALLOCATORS):
        series = [[step / 4, 2**28 if step < 4 else 2**24, 2**28] for step in range(45)]
        runs.append(run("diurnal_1", allocator, group="idle", wall_s=0.9, user_s=0.8, sys_s=0.1, series=series,
                        peak_bytes=3 * 2**27, peak_live_bytes=2**28, idle_since_s=1.0,
                        idle_live_bytes=2**24, idle_0_bytes=2**28, idle_1_bytes=2**27,
                        idle_10_bytes=(place + 3) * 2**22))
    each = [(f"test_{number}", allocator) for number in range(4) for allocator in ALLOCATORS]
    return {
        "format": 1, "date": "2025-01-01T00:00:00", "commit": "0123abc",
        "machine": {"cpu": "A Processor", "cores": 8, "memory_bytes": 2**34, "kernel": "6.1",
                    "os": "Debian 12", "thp": "madvise"},
        "settings": {"repetitions": 3, "quick": False},
        "allocators": {allocator: {"version": "1.0", "library": ""} for allocator in ALLOCATORS},
        "runs": runs,
        "counts": [{"test": t, "allocator": a, "instructions": 40 * 10**6, "operations": 10**6}
                   for t, a in each],
        "syscalls": [{"test": t, "allocator": a, "calls": 2500, "operations": 10**6,
                      "by_name": {"madvise": 2500}} for t, a in each],
        "contention": [{"test": "test_0", "shards": shards, "operations": 10**6, "contended": 5,
                        "lock_operations": 9000, "shared_lines_written": 20000 // shards}
                       for shards in (1, 2, 4)]}


def broken_results():
    """Fields missing or null, a failure, an allocator that has not run a test, strange names."""
    return {"format": 1, "machine": None, "allocators": {STRANGE: {"version": STRANGE}}, "runs": [
        run(STRANGE, "apmalloc", wall_s=1.0, peak_bytes=None, series=[[0, 1, 2], [1, None, 3], None]),
        run(STRANGE, STRANGE, wall_s=2.0, peak_bytes=100),
        {**run(STRANGE, "glibc"), "status": f"failed: {STRANGE}"},
        run("second", "apmalloc", wall_s=None), run("second", "glibc", 0, wall_s=3.0, sys_s=1.0),
        {**run("second", "glibc", 1), "status": "failed: exit status 134"},
        {"test": "third", "allocator": "glibc", "status": "ok"},
        run("curve", "glibc", group="scaling", x=1, wall_s=1.0),
        run("curve", "apmalloc", group="scaling", x=None, wall_s=1.0, operations=5),
        {**run("curve", STRANGE, group="scaling", x=2), "status": "failed: no threads"},
        run(STRANGE + "2", "apmalloc", group="idle", series=[[0, 1, 2]], idle_since_s=None),
        {**run(STRANGE + "2", STRANGE, group="idle"), "status": "failed: no idling"}],
        "counts": [{"test": "second", "allocator": "glibc", "instructions": None}],
        "contention": [{"test": STRANGE, "shards": 2, "lock_operations": 7, "operations": 0}]}


class Page(html.parser.HTMLParser):
    """Checks that elements are closed in order; collects the ids, what is referred to, and the text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.references, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.handle_startendtag(tag, attrs)

    def handle_startendtag(self, tag, attrs):
        assert tag not in ("script", "link", "iframe", "img"), tag
        self.ids += [value for name, value in attrs if name == "id"]
        self.references += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"closed out of order: {tag}"

    def handle_data(self, data):
        self.words.append(data)


class Summary(unittest.TestCase):
    def test_median_and_spread(self):
        runs = [run("t", "glibc", place, wall_s=wall, user_s=1.0, sys_s=0.5, peak_bytes=peak)
                for place, (wall, peak) in enumerate(((2.0, 10), (1.0, None), (4.0, 30), (None, 50)))]
        runs.append({**run("t", "glibc", 4, wall_s=100.0), "status": "failed: late"})
        values = summary.medians(runs)["t", "glibc"]
        self.assertEqual(values["wall_s"], 2.0)
        self.assertEqual(values["spread"], 1.5)  # (4 - 1) / 2
        self.assertEqual(values["cpu_s"], 1.5)
        self.assertEqual(values["peak_bytes"], 30)
        self.assertIsNone(values["after_bytes"])
        self.assertIsNone(values["faults"])
        self.assertEqual((values["ok"], values["failed"], values["why"]), (4, 1, "failed: late"))

    def test_one_repetition_has_no_spread(self):
        self.assertIsNone(summary.medians([run("t", "glibc", wall_s=1.0)])["t", "glibc"]["spread"])

    def test_numbers_that_are_none(self):
        for value in (None, "1", True, float("nan"), float("inf"), [1]):
            self.assertIsNone(summary.number({"x": value}, "x"))

    def ratios(self):
        """a: rivals 2 and 4; b: rivals 9 and 3; c: glibc only."""
        times = {("a", "apmalloc"): 1.0, ("a", "glibc"): 2.0, ("a", "scudo"): 4.0,
                 ("a", "first_apmalloc"): 0.5, ("b", "apmalloc"): 6.0, ("b", "glibc"): 9.0,
                 ("b", "scudo"): 3.0, ("b", "first_apmalloc"): 6.0, ("c", "glibc"): 7.0}
        medians = summary.medians([run(*key, wall_s=time) for key, time in times.items()])
        rivals = summary.rivals_of(("apmalloc", "glibc", "scudo", "first_apmalloc"))
        self.assertEqual(rivals, ["glibc", "scudo"])
        self.assertEqual(summary.best_rivals(medians, "wall_s", rivals),
                         {"a": (2.0, "glibc"), "b": (3.0, "scudo"), "c": (7.0, "glibc")})
        return medians, summary.ratios(medians, "wall_s", rivals)

    def test_ratios_and_geometric_means(self):
        _, ratios = self.ratios()
        self.assertEqual(ratios["a", "apmalloc"], 0.5)
        self.assertEqual(ratios["b", "glibc"], 3.0)
        self.assertEqual(ratios["c", "glibc"], 1.0)
        means, tests = summary.geometric_means(ratios)
        self.assertEqual(tests, ["a", "b"])  # c has no median of apmalloc
        self.assertAlmostEqual(means["apmalloc"], 1.0)  # sqrt(1/2 * 2)
        self.assertAlmostEqual(means["glibc"], math.sqrt(3))
        self.assertAlmostEqual(means["scudo"], math.sqrt(2))
        self.assertAlmostEqual(means["first_apmalloc"], math.sqrt(0.5))
        self.assertEqual(summary.geometric_means({}), ({}, []))

    def test_wins_are_not_taken_by_the_earlier_version(self):
        medians, _ = self.ratios()
        self.assertEqual(summary.wins(medians, "wall_s"), {"apmalloc": 1, "glibc": 0, "scudo": 1})

    def test_scaling(self):
        points = [run("s", "glibc", r, group="scaling", x=x, x_label="threads", wall_s=wall, operations=1000)
                  for r, (x, wall) in enumerate(((2, 4e-6), (1, 1e-6), (1, 3e-6), (0, 1.0)))]
        label, curves = summary.scaling(points)["s"]
        self.assertEqual((label, list(curves)), ("threads", ["glibc"]))
        for (x, time), expected in zip(curves["glibc"], ((1, 2.0), (2, 4.0)), strict=True):
            self.assertEqual(x, expected[0])
            self.assertAlmostEqual(time, expected[1])
        self.assertEqual(summary.medians(points), {})


    def test_idle(self):
        runs = [run("d", "glibc", place, group="idle", idle_10_bytes=resident, idle_live_bytes=live,
                    peak_bytes=12, peak_live_bytes=8)
                for place, (resident, live) in enumerate(((30, 10), (50, 10), (40, None)))]
        runs.append(run("turns", "glibc", group="idle", idle_10_bytes=5, idle_live_bytes=0))
        found = summary.idle([*runs, run("other", "glibc", wall_s=1.0)])
        self.assertEqual(list(found), [("d", "glibc"), ("turns", "glibc")])
        self.assertEqual(found["d", "glibc"]["idle_10_bytes"], 40)
        self.assertEqual(found["d", "glibc"]["idle_10_ratio"], 4)
        self.assertEqual(found["d", "glibc"]["peak_ratio"], 1.5)
        self.assertIsNone(found["turns", "glibc"]["idle_10_ratio"], "nothing is live")
        self.assertEqual(summary.medians(runs), {}, "no part of the means")


class ReportCase(unittest.TestCase):
    """Makes reports in a folder of its own."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.output = os.path.join(self.folder, "out", "report")

    def report(self, *arguments):
        return subprocess.run([sys.executable, REPORT, "--output", self.output, *arguments],
                              capture_output=True, text=True, timeout=120)

    def written(self, content):
        path = os.path.join(self.folder, "results.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(content if isinstance(content, str) else json.dumps(content))
        return path

    def page(self, results):
        if not HAVE_MATPLOTLIB:
            self.skipTest("matplotlib is not installed")
        done = self.report(self.written(results))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        with open(os.path.join(self.output, "report.html"), encoding="utf-8") as file:
            page = Page(file.read())
        self.assertEqual(len(page.ids), len(set(page.ids)), "an id is there twice")
        for reference in page.references:
            self.assertRegex(reference, "^#")
            self.assertIn(reference[1:], page.ids)
        return page


class Reports(ReportCase):
    def pictures(self):
        names = [name for name in os.listdir(self.output) if name.endswith(".svg")]
        for name in names:
            xml.etree.ElementTree.parse(os.path.join(self.output, name))
        return sorted(names)

    def test_full(self):
        words = " ".join(self.page(full_results()).words)
        for text in ("A Processor", "(20 of 21 tests)", "test_19", "2.50", "16.0 GiB", "median of 3 interleaved"):
            self.assertIn(text, words)
        self.assertNotIn("✗", words)
        self.assertEqual(self.pictures(), ["contention.svg", "instructions.svg", "memory_after.svg",
                                           "peak_memory.svg", "resident_breathing.svg",
                                           "resident_diurnal_1.svg", "scaling_threads.svg", "time.svg"])

    def test_idle_programs_have_a_section_of_their_own(self):
        everything = full_results()
        alone = {**everything, "runs": [run for run in everything["runs"] if run["group"] == "idle"]}
        for results in (everything, alone):
            page = self.page(results)
            words = "".join(page.words)
            section = words[words.index("Idle programs"):]
            self.assertIn("idle", page.ids)
            self.assertEqual("summary" in page.ids, results is everything)
            for word in ("Resident 10 s after the work / live bytes", "0.75", "2.50",  # 3 and 10 of 4
                         "Peak resident / peak live bytes", "1.50", "diurnal_1, MiB resident", "128.0",
                         "seconds since the program fell idle"):
                self.assertIn(word, section)
        self.assertEqual(self.pictures().count("resident_diurnal_1.svg"), 1)

    def test_gaps_failures_and_strange_names(self):
        words = self.page(broken_results()).words
        self.assertIn(STRANGE, words)
        for text in (f"✗ failed: {STRANGE}", " ✗ 1 failed",
                     f"✗ curve, – 2, {STRANGE}: failed: no threads", "✗ failed: no idling"):
            self.assertIn(text, words)
        self.assertIn("time.svg", self.pictures())

    def test_same_results_same_report(self):
        contents = []
        for _ in range(2):
            self.page(broken_results())
            with open(os.path.join(self.output, "report.html"), encoding="utf-8") as file:
                contents.append(file.read())
        self.assertEqual(*contents)

    def test_unusable_results(self):
        failed = {"format": 1, "runs": [{**run("t", "glibc"), "status": "failed"}]}
        for content, message in (("{", "not valid JSON"), ("[]", "format None"), ({"format": 2}, "format 2"),
                                 ({"format": 1, "runs": 5}, "no run is ok"), (failed, "no run is ok"),
                                 ({"format": 1, "runs": [{}]}, "lacks its test")):
            with self.subTest(message=message):
                self.refused(1, message, self.written(content))
        self.refused(1, "No such file", os.path.join(self.folder, "absent.json"))

    def test_output_that_cannot_be_written(self):
        if not HAVE_MATPLOTLIB:
            self.skipTest("matplotlib is not installed")
        self.output = os.path.join(self.written(broken_results()), "below_a_file")
        self.refused(1, "Not a directory", self.written(broken_results()))

    def test_wrong_usage(self):
        self.refused(2, "unrecognized arguments", "--speed")
        self.refused(2, "unrecognized arguments", "one.json", "two.json")

    def refused(self, status, message, *arguments):
        done = self.report(*arguments)
        self.assertEqual(done.returncode, status)
        self.assertIn(message, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertFalse(os.path.exists(self.output))
        if status == 1:
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)


@unittest.skipUnless(shutil.which("chromium"), "chromium is not installed")
class Screenshot(ReportCase):
    def test_page_is_painted(self):
        self.page(full_results())
        import matplotlib.image
        import numpy
        picture = os.path.join(self.folder, "page.png")
        subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--screenshot={picture}",
                        "--window-size=1200,4000", "file://" + os.path.join(self.output, "report.html")],
                       env={**os.environ, "HOME": self.folder}, capture_output=True, timeout=120, check=True)
        pixels = (matplotlib.image.imread(picture)[:, :, :3] * 255).round().astype(int)
        self.assertEqual(pixels.shape, (4000, 1200, 3))
        self.assertGreater(len(numpy.unique(pixels.reshape(-1, 3), axis=0)), 100)
        ours = (pixels == APMALLOC_COLOUR).all(axis=2)
        self.assertGreater(ours.sum(), 1000)
        white = (pixels == 255).all(axis=2)
        self.assertGreater(white.mean(), 0.5)  # light
        # Dark pixels in every stretch of the page: nothing is missing between top and bottom.
        for top in range(0, 4000, 500):
            self.assertGreater((pixels[top:top + 500].max(axis=2) < 100).sum(), 500, f"from {top}")


if __name__ == "__main__":
    result = unittest.main(verbosity=2, exit=False).result
    everything_skipped = result.testsRun and len(result.skipped) == result.testsRun
    sys.exit(77 if everything_skipped else not result.wasSuccessful())
