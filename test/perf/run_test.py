#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""
run_test.py: the benchmark runner measures what it says and refuses what it cannot do.

Short runs of the real runner on the programs of this build (environment variable BUILD), and the pieces
below it: the program that measures others, real programs' failures. Nothing here depends on how fast
anything is. Arguments: names of test classes, all if none.
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
PERF = pathlib.Path(__file__).resolve().parent.parent.parent / "perf"
sys.path.insert(0, str(PERF))
from harness import allocators, real, suite  # noqa: E402

BUILD = pathlib.Path(os.environ["BUILD"])
MEASURE = str(BUILD / "perf/programs/measure")
LIBRARY = str(BUILD / "lib/libapmalloc.so")
NUMBERS = ("wall_s", "user_s", "sys_s", "operations", "peak_bytes", "after_bytes", "minor_faults")


def perf_run(*arguments, output="/nonexistent"):
    return subprocess.run([str(PERF / "run"), "--build", str(BUILD), "--output", str(output), *arguments],
                          capture_output=True, text=True, timeout=250, check=False)


class Runner(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.output = pathlib.Path(directory.name) / "results"

    def test_measures_programs_and_writes_what_the_report_reads(self):
        done = perf_run("--quick", "--reps", "2", "--tests", "local_48,fragmentation,scaling_threads",
                        "--groups", "programs,scaling", "--only", "apmalloc,glibc", output=self.output)
        self.assertEqual(done.returncode, 0, done.stderr)
        results = json.loads((self.output / "latest.json").read_text())
        runs = results["runs"]
        self.assertEqual(len(runs), 2 * 2 * (2 + 7))
        for run in runs:
            self.assertEqual(run["status"], "ok", run)
            for name in NUMBERS:
                self.assertGreaterEqual(run[name], 0, run)
            self.assertGreater(run["peak_bytes"], 500_000)
            self.assertGreaterEqual(run["peak_bytes"], run["after_bytes"] // 2)
        self.assertTrue(all("series" in run for run in runs if run["test"] == "fragmentation"))
        self.assertEqual({run["x"] for run in runs if run["group"] == "scaling"}, {1, 2, 4, 8, 16, 32, 64})
        self.assertEqual(len((self.output / "latest.csv").read_text().splitlines()), 1 + len(runs))
        for word in ("local_48", "glibc", "geometric mean", "scaling_threads"):
            self.assertIn(word, done.stdout)

    def test_a_library_that_cannot_run_a_test_is_a_failure_on_record(self):
        broken = self.output.parent / "broken.so"
        source = self.output.parent / "broken.c"
        source.write_text("#include <stddef.h>\nvoid *malloc(size_t n) { return n == 48 ? NULL : "
                          "__builtin_trap(), NULL; }\n")
        subprocess.run(["gcc", "-shared", "-fPIC", "-fno-builtin", "-o", str(broken), str(source)], check=True)
        done = perf_run("--reps", "2", "--quick", "--tests", "local_48", "--alloc", f"broken={broken}",
                        "--only", "broken,glibc", output=self.output)
        self.assertEqual(done.returncode, 0, done.stderr)
        runs = json.loads((self.output / "latest.json").read_text())["runs"]
        failed = [run for run in runs if run["status"] != "ok"]
        self.assertEqual([run["allocator"] for run in failed], ["broken"], "recorded, and not repeated")
        self.assertIn("exit status", failed[0]["status"])

    def test_counts_locks_of_the_library(self):
        done = perf_run("--counts", "--quick", "--tests", "producer_consumer_1_1", "--only", "apmalloc",
                        output=self.output)
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = json.loads((self.output / "counts/latest.json").read_text())
        self.assertEqual([row["shards"] for row in rows["contention"]], list(suite.SHARDS))
        for row in rows["contention"]:
            # At most two lock operations a batch and direction; a batch is some blocks at least.
            self.assertLess(row["lock_operations"], row["operations"])
            self.assertGreater(row["lock_operations"], 0)
        self.assertGreater(rows["syscalls"][0]["calls"], 0)

    def test_wrong_options_end_with_a_message(self):
        for arguments, word in ((("--tests", "nothing_*"), "nothing_*"), (("--only", "hoard"), "hoard"),
                                (("--alloc", "x"), "NAME=PATH"), (("--alloc", "x=/nowhere.so"), "/nowhere.so"),
                                (("--groups", "toys"), "toys"), (("--reps", "0"), "--reps")):
            done = perf_run(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn(word, done.stderr)
            self.assertNotIn("Traceback", done.stderr)

    def test_results_that_cannot_be_written_are_a_failure(self):
        done = perf_run("--quick", "--reps", "1", "--tests", "local_48", "--only", "glibc",
                        output="/proc/nowhere")
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot write the results", done.stderr)

    def test_every_test_has_a_program_and_a_name_of_its_own(self):
        every = suite.PROGRAMS + suite.SCALING
        names = [(test.name, test.x) for test in every] + [(test.name, None) for test in real.tests()]
        self.assertEqual(len(names), len(set(names)))
        for test in every:
            self.assertTrue(os.access(BUILD / "perf/programs" / test.program, os.X_OK), test.program)
        self.assertTrue({test.name for test in suite.PROGRAMS} >= {*suite.COUNTED, *suite.CONTENTION})


class Measuring(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.scratch = pathlib.Path(directory.name)

    def measured(self, *command, **environment):
        report = self.scratch / "report"
        done = subprocess.run([MEASURE, str(report), *command], env={**os.environ, **environment}, check=False,
                              capture_output=True, text=True)
        figures = real.parse_measured(report.read_text()) if report.exists() and report.read_text() else None
        return done, figures

    def test_memory_is_the_programs_own(self):
        code = "b = bytearray(64 << 20); b[::4096] = b'x' * len(b[::4096])"
        _, big = self.measured("/usr/bin/python3", "-c", code)
        _, small = self.measured("/bin/true")
        self.assertGreater(big["peak_kib"], 64 << 10)
        self.assertLess(big["peak_kib"], 128 << 10)
        self.assertLess(small["peak_kib"], 8 << 10, "not that of whoever measures")

    def test_the_end_of_the_program_is_passed_on(self):
        done, figures = self.measured("/bin/sh", "-c", "exit 7")
        self.assertEqual((done.returncode, figures["status"]), (7, 7))
        done, figures = self.measured("/bin/sh", "-c", "kill -TERM $$")
        self.assertEqual((done.returncode, figures["status"]), (128 + signal.SIGTERM, -signal.SIGTERM))
        done, _ = self.measured("/nonexistent/program")
        self.assertEqual(done.returncode, 127)
        self.assertIn("/nonexistent/program", done.stderr)

    def test_a_preload_is_for_the_program_and_checked(self):
        done, figures = self.measured("/bin/sh", "-c", "sleep 0.2; echo \"$LD_PRELOAD\"",
                                      APM_MEASURE_PRELOAD=LIBRARY)
        self.assertEqual(figures["preloaded"], 1)
        self.assertEqual(done.stdout.strip(), LIBRARY)


class Real(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.context = real.Context(dict(os.environ), LIBRARY, pathlib.Path(directory.name), MEASURE, True)

    def test_a_short_program_runs_on_the_library(self):
        figures = next(test for test in real.tests() if test.name == "python").run(self.context)
        self.assertGreater(figures["wall_s"], 0)
        self.assertGreater(figures["peak_bytes"], 1 << 20)

    def test_a_wrong_answer_is_a_failure(self):
        with self.assertRaisesRegex(real.Failed, "did not print"):
            real.measured(self.context, ["/bin/sh", "-c", "sleep 0.1; echo no"], 1, "yes")
        with self.assertRaisesRegex(real.Failed, "exit status 3"):
            real.measured(self.context, ["/bin/sh", "-c", "exit 3"], 1)

    def test_a_server_that_ends_at_once_is_a_failure_with_its_last_words(self):
        with self.assertRaisesRegex(real.Failed, "last words"):
            with real.Server(self.context, ["/bin/sh", "-c", "echo last words; exit 1"], real.free_port()):
                self.fail("never ready")

    def test_no_server_survives_a_failing_load(self):
        port = real.free_port()
        command = ["/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", str(port)]
        server = real.Server(self.context, command, port)
        with self.assertRaises(ZeroDivisionError):
            with server:
                server.under(lambda: 1 / 0)
        self.assertIsNotNone(server.process.returncode)
        with self.assertRaises(ProcessLookupError):
            os.kill(server.process.pid, 0)

    def test_an_absent_program_is_skipped_by_name(self):
        test = real._guarded(real.Test("x", lambda context: {}, ["no-such-program"]))
        with self.assertRaisesRegex(real.Skip, "no-such-program"):
            test.run(self.context)


class Allocators(unittest.TestCase):
    def test_an_extra_library_is_taken_by_name_and_path(self):
        taken = allocators.parse(f"mine={LIBRARY}")
        self.assertEqual(taken.name, "mine")
        self.assertEqual(os.path.realpath(taken.library), os.path.realpath(LIBRARY))

    def test_what_is_not_installed_is_named_with_its_package(self):
        found, missing = allocators.rivals()
        self.assertEqual(len(found) + len(missing), len(allocators.RIVALS))
        self.assertIn("glibc", [allocator.name for allocator in found])


if __name__ == "__main__":
    unittest.main(verbosity=2)
