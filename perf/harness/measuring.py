# SPDX-License-Identifier: MIT
"""
measuring.py: runs one program of ours on one allocator and reads what it cost.

The program prints its result line when the work is done and then waits. Its memory, faults and
processor time are read from /proc then, and its resident size once more two seconds later; meanwhile
the next run is on, since a program that waits disturbs nobody.
"""
import os
import re
import subprocess
import tempfile
import threading
import time

SETTLE_S = 2
TIMEOUT_S = 60
TICKS = os.sysconf("SC_CLK_TCK")

RESULT = re.compile(r"result operations=(\d+) seconds=([\d.]+) live_bytes=(\d+)")
SAMPLE = re.compile(r"sample seconds=([\d.]+) live_bytes=(\d+) resident_bytes=(\d+)")
IDLE = re.compile(r"idle since=([\d.]+) seconds=(\d+) live_bytes=(\d+) resident_bytes=(\d+)")
PEAK = re.compile(r"peak live_bytes=(\d+)")
IDLE_MARKS_S = (0, 1, 5, 10, 30)  # when a program that fell idle is looked at


class Failed(Exception):
    """The run is no measurement; the text says why."""


def environment(allocator, options=""):
    """What a program is started with: nothing of the caller's that would change its allocator."""
    clean = {name: value for name, value in os.environ.items()
             if name not in ("LD_PRELOAD", "APMALLOC_CONF")}
    if allocator.library:
        clean["LD_PRELOAD"] = allocator.library
    options = options or allocator.options
    if options:
        clean["APMALLOC_CONF"] = options
    return clean


def status_bytes(pid, field):
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise Failed(f"/proc/{pid}/status has no {field}")


def times_and_faults(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        fields = stat.read().rpartition(")")[2].split()  # the name may hold blanks
    return {"minor_faults": int(fields[7]), "major_faults": int(fields[9]),
            "user_s": int(fields[11]) / TICKS, "sys_s": int(fields[12]) / TICKS}


def said_of_memory(text):
    """What a line of a program of the group idle says, as a run's figures."""
    idle, peak = IDLE.match(text), PEAK.match(text)
    if idle:
        return {"idle_since_s": float(idle[1]), "idle_live_bytes": int(idle[3]),
                f"idle_{idle[2]}_bytes": int(idle[4])}
    return {"peak_live_bytes": int(peak[1])} if peak else {}


class Run:
    """A program under way. work() returns when the work is done, settle() after the wait."""

    def __init__(self, command, env, idle_s=0):
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(command + ["hold=1"], env=env, stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=self._errors)
        self._overdue, self._timeout_s = False, TIMEOUT_S + idle_s
        self._watch = threading.Timer(self._timeout_s, self._end_overdue)
        self._watch.start()

    def _end_overdue(self):
        self._overdue = True
        self._process.kill()

    def _why(self):
        if self._overdue:
            return f"not done within {self._timeout_s} s"
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"exit status {self._process.wait()}" + (f": {text[-1][:200]}" if text else "")

    def _close(self):
        self._watch.cancel()
        self._process.stdin.close()
        self._process.stdout.close()
        self._errors.close()

    def work(self):
        series, memory, result = [], {}, None
        for line in self._process.stdout:
            text = line.decode(errors="replace")
            sample = SAMPLE.match(text)
            if sample:
                series.append([float(sample[1]), int(sample[2]), int(sample[3])])
            memory.update(said_of_memory(text))
            result = RESULT.match(text)
            if result:
                break
        self._watch.cancel()
        if not result:
            why = self._why()
            self._close()
            raise Failed(why)
        figures = {"wall_s": float(result[2]), "operations": int(result[1]),
                   "live_bytes": int(result[3]),
                   "peak_bytes": status_bytes(self._process.pid, "VmHWM"),
                   **times_and_faults(self._process.pid), **memory}
        return {**figures, "series": series} if series else figures

    def settle(self):
        """Resident bytes after the wait; ends the program."""
        time.sleep(SETTLE_S)
        resident = status_bytes(self._process.pid, "VmRSS")
        self._close()
        if self._process.wait() != 0:
            raise Failed(f"exit status {self._process.returncode} at the end")
        return resident


def traced_calls(command, env):
    """System calls of one run by name, threads included. The program must not wait at its end."""
    with tempfile.NamedTemporaryFile("r") as summary:
        preload = [f"-ELD_PRELOAD={env['LD_PRELOAD']}"] if "LD_PRELOAD" in env else []
        bare = {name: value for name, value in env.items() if name != "LD_PRELOAD"}
        _output(["strace", "-f", "-c", "-o", summary.name, *preload, *command], bare)
        calls = {}
        for line in summary.read().splitlines():
            fields = line.split()
            if len(fields) >= 5 and fields[0].replace(".", "").isdigit() and fields[-1] != "total":
                calls[fields[-1]] = int(fields[3])
        return calls


def _output(command, env):
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL, timeout=20 * TIMEOUT_S)
    if done.returncode != 0:
        tail = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Failed(f"exit status {done.returncode}: {tail[:200]}")
    return done


def operations_of(command, env):
    """Runs to the end; the operations it reports and what it wrote to standard error."""
    done = _output(command, env)
    return int(RESULT.search(done.stdout)[1]), done.stderr


def instructions(command, env):
    """Instructions of one run, by callgrind."""
    with tempfile.TemporaryDirectory() as directory:
        done = _output(["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out",
                        *command], env)
        return int(re.search(r"Collected : (\d+)", done.stderr)[1])
