#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""
run_test.py: the benchmark runner measures what it says and refuses what it cannot do.

Short runs of the real runner on the programs of this build (environment variable BUILD), and the pieces
below it: the program that measures others, real programs' failures. Nothing here depends on how fast
anything is. Arguments: names of test classes, all if none.
"""
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
PERF = pathlib.Path(__file__).resolve().parent.parent.parent / "perf"
sys.path.insert(0, str(PERF))
from harness import allocators, measuring, real, suite  # noqa: E402

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

    def test_programs_that_fall_idle_are_looked_at_meanwhile(self):
        done = perf_run("--quick", "--reps", "1", "--groups", "idle", "--tests", "long_lived,turns", "--only",
                        "apmalloc,glibc", output=self.output)
        self.assertEqual(done.returncode, 0, done.stderr)
        runs = json.loads((self.output / "latest.json").read_text())["runs"]
        self.assertEqual(len(runs), 2 * 2)
        for run in runs:
            self.assertEqual((run["group"], run["status"]), ("idle", "ok"), run)
            self.assertGreaterEqual(run["peak_bytes"], run["peak_live_bytes"])
            self.assertGreaterEqual(run["peak_bytes"], run["idle_1_bytes"])
            self.assertNotIn("idle_30_bytes", run, "--quick idles for less")
            # The work's time is without the idle time; the samples go on to its end. Each time is rounded to
            # a millisecond by itself, so their difference may be one short.
            self.assertAlmostEqual(run["wall_s"], run["idle_since_s"], delta=0.5)
            idle_ms = round(1000 * (run["series"][-1][0] - run["idle_since_s"]))
            self.assertGreaterEqual(idle_ms, 999)
        live = {run["idle_live_bytes"] for run in runs if run["test"] == "long_lived"}
        self.assertEqual(len(live), 1, "the work is the same on all")
        header = (self.output / "latest.csv").read_text().splitlines()[0].split(",")
        self.assertTrue({"idle_live_bytes", "idle_10_bytes", "peak_live_bytes"} <= {*header})
        self.assertIn("idle: resident 1 s after", done.stdout)
        self.assertNotIn("geometric mean", done.stdout)

    def test_idle_is_no_part_of_the_default_groups(self):
        names = {line.split()[0] for line in perf_run("--list").stdout.splitlines()}
        idle = {line.split()[0] for line in perf_run("--list", "--groups", "idle").stdout.splitlines()}
        self.assertTrue(idle >= {"diurnal_1", "diurnal_8", "diurnal_scattered_1", "turns", "long_lived", "redis_idle"})
        self.assertEqual(names & idle, {"allocator"})

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
            # Each refill and each flush takes a lock; the table of large objects is not in use.
            self.assertGreater(row["refills"], 0)
            self.assertGreater(row["flushes"], 0)
            self.assertLessEqual(max(row["refills"], row["flushes"]), row["lock_operations"])
            self.assertEqual(row["cas_failures"], 0)
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
        every = suite.PROGRAMS + suite.SCALING + suite.IDLE
        names = [(test.name, test.x) for test in every] + [(test.name, None) for test in real.tests()]
        self.assertEqual(len(names), len(set(names)))
        for test in every:
            self.assertTrue(os.access(BUILD / "perf/programs" / test.program, os.X_OK), test.program)
        self.assertTrue({test.name for test in suite.PROGRAMS} >= {*suite.COUNTED, *suite.CONTENTION})


class Idle(unittest.TestCase):
    """The programs alone, with little to do."""

    LITTLE = (("diurnal", "peak_mib=4", "operations=5000", "session_blocks=50", "cycles=2"),
              ("diurnal", "peak_mib=4", "operations=5000", "lifetimes=scattered", "threads=8"),
              ("turns", "set_mib=1", "rounds=1"), ("long_lived", "heap_mib=4", "operations=500"))

    @staticmethod
    def lines(program, *options, **environment):
        return subprocess.run([str(BUILD / "perf/programs" / program), *options, "idle_s=1"], check=False,
                              env={**os.environ, **environment}, capture_output=True, text=True, timeout=60)

    def test_what_they_print_is_understood_and_plausible(self):
        for command in self.LITTLE:
            with self.subTest(command=command):
                done = self.lines(*command, LD_PRELOAD=LIBRARY)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                figures, times = {}, []
                for line in done.stdout.splitlines():
                    kinds = [kind.match(line) for kind in (measuring.SAMPLE, measuring.RESULT)]
                    found = measuring.said_of_memory(line)
                    self.assertTrue(found or any(kinds), line)
                    figures.update(found)
                    times += [float(kinds[0][1])] if kinds[0] else []
                self.assertEqual(times, sorted(times))
                self.assertTrue({"idle_0_bytes", "idle_1_bytes", "peak_live_bytes"} <= {*figures}, figures)
                idle = [time for time in times if time >= figures["idle_since_s"]]
                self.assertGreaterEqual(len(idle), 5)  # four a second, and the first
                self.assertGreaterEqual(idle[-1] - idle[0], 0.9)
                self.assertGreaterEqual(figures["idle_1_bytes"], figures["idle_live_bytes"])
                self.assertLess(figures["idle_live_bytes"], figures["peak_live_bytes"] / 5)

    def test_unknown_words_are_refused(self):
        done = self.lines("diurnal", "lifetimes=long")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("lifetimes", done.stderr)

    def test_same_work_each_time(self):
        for command in self.LITTLE:
            with self.subTest(command=command):
                texts = [self.lines(*command).stdout for _ in range(2)]
                results = [measuring.RESULT.search(text) for text in texts]
                self.assertEqual(*[(result[1], result[3]) for result in results])

    def test_an_allocation_that_fails_ends_them_with_a_line(self):
        with tempfile.TemporaryDirectory() as directory:
            refusing = f"{directory}/refusing.so"
            source = pathlib.Path(directory) / "refusing.c"
            source.write_text("#include <stddef.h>\nvoid *malloc(size_t n) { (void)n; return NULL; }\n")
            subprocess.run(["gcc", "-shared", "-fPIC", "-fno-builtin", "-o", refusing, str(source)], check=True)
            for command in self.LITTLE:
                done = self.lines(*command, LD_PRELOAD=refusing)
                self.assertEqual(done.returncode, 2, command)
                self.assertRegex(done.stderr, "^[^\n]*out of memory\n$")


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

    @unittest.skipUnless(shutil.which("redis-server"), "redis-server is not installed")
    def test_redis_falls_idle(self):
        test = next(test for test in real.tests() if test.name == "redis_idle")
        self.context.amount = lambda number: number // 50
        figures = test.run(self.context)
        # 30 000 set, nine tenths of them unlinked.
        self.assertAlmostEqual(figures["operations"], 57_000, delta=10)
        self.assertGreater(figures["peak_live_bytes"], 2 * figures["idle_live_bytes"])
        self.assertGreater(figures["idle_1_bytes"], 1 << 20)
        self.assertGreater(figures["series"][-1][0], figures["idle_since_s"] + 2.9)

    def test_an_answer_of_redis_that_is_an_error_is_a_failure(self):
        with self.assertRaisesRegex(real.Failed, "ERR unknown"):
            real._redis_ask(io.BufferedRWPair(io.BytesIO(b"-ERR unknown\r\n"), io.BytesIO()), b"X")

    def test_an_absent_program_is_skipped_by_name(self):
        test = real._guarded(real.Test("x", lambda context: {}, ["no-such-program"]))
        with self.assertRaisesRegex(real.Skip, "no-such-program"):
            test.run(self.context)


class Allocators(unittest.TestCase):
    def test_an_extra_library_is_taken_by_name_and_path(self):
        taken = allocators.parse(f"mine={LIBRARY}")
        self.assertEqual(taken.name, "mine")
        self.assertEqual(os.path.realpath(taken.library), os.path.realpath(LIBRARY))
        self.assertNotIn("APMALLOC_CONF", measuring.environment(taken))

    def test_an_extra_library_has_its_options(self):
        taken = allocators.parse(f"mine={LIBRARY},hardened:true,quarantine:0")
        environment = measuring.environment(taken)
        self.assertEqual(environment["APMALLOC_CONF"], "hardened:true,quarantine:0")
        self.assertEqual(os.path.realpath(environment["LD_PRELOAD"]), os.path.realpath(LIBRARY))
        self.assertIn("hardened:true", taken.version)

    def test_what_is_not_installed_is_named_with_its_package(self):
        found, missing = allocators.rivals()
        self.assertEqual(len(found) + len(missing), len(allocators.RIVALS))
        self.assertIn("glibc", [allocator.name for allocator in found])


if __name__ == "__main__":
    unittest.main(verbosity=2)
