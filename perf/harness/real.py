# SPDX-License-Identifier: MIT
"""
real.py: real programs under a given malloc, with fixed work.

Programs that run to an end go through `measure`, which knows what one process tree costs. Servers are
started on a free port of the loopback interface and driven by a load generator that keeps the system's
malloc; their figures are differences of /proc before and after the load. Inputs are generated, from fixed
seeds. A result counts only if the program's answer was right and the library really was in its memory.
"""
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from harness import inputs, measuring

GENERATOR_TIMEOUT_S = 120
START_TIMEOUT_S = 20
SETTLE_S = 2


class Skip(Exception):
    """A program or a capability is absent; the text says which."""


class Failed(Exception):
    """The run is no measurement; the text says why."""


@dataclass
class Context:
    environment: dict      # of the child, without LD_PRELOAD
    preload: str           # library for the program under test only; "": none
    scratch: pathlib.Path  # a fresh directory
    measure: str           # path of the measure program
    quick: bool

    def amount(self, number):
        return max(1, number // 5) if self.quick else number


@dataclass(frozen=True)
class Test:
    name: str
    run: callable
    needs: list = field(default_factory=list)
    group: str = "real"


# --- programs that end ---

def parse_measured(line):
    """The line that measure writes, as numbers."""
    return {key: float(value) for key, value in (pair.split("=") for pair in line.split())}


def _tail(text):
    return (text.strip().splitlines() or ["no output"])[-1][-200:]


def measured(context, command, operations, expected="", **environment):
    """Runs the command through measure; `expected` has to occur in what it prints."""
    report = context.scratch / "measured"
    env = {**context.environment, **environment}
    if context.preload:
        env["APM_MEASURE_PRELOAD"] = context.preload
    done = subprocess.run([context.measure, str(report), *command], env=env, cwd=context.scratch,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                          timeout=GENERATOR_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise Failed(f"{command[0]}: exit status {done.returncode}: {_tail(done.stderr)}")
    if expected not in done.stdout:
        raise Failed(f"{command[0]} did not print {expected!r} but: {_tail(done.stdout)}")
    figures = parse_measured(report.read_text(encoding="ascii"))
    if context.preload and not figures["preloaded"]:
        raise Failed(f"{command[0]}: the library was not seen in its memory")
    return {"wall_s": figures["wall_s"], "user_s": figures["user_s"], "sys_s": figures["sys_s"],
            "operations": operations, "peak_bytes": int(figures["peak_kib"]) * 1024,
            "minor_faults": int(figures["minor_faults"]), "major_faults": int(figures["major_faults"])}


# --- servers ---

def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


class Server:
    """A server in a process group of its own, ended on leaving the `with`."""

    def __init__(self, context, command, port, preload=None):
        self._context, self._port = context, port
        self._log = open(context.scratch / "server.log", "w+b")
        env = dict(context.environment)
        library = context.preload if preload is None else preload
        if library:
            env["LD_PRELOAD"] = library
        self._library = library
        self.process = subprocess.Popen(command, env=env, cwd=context.scratch, stdin=subprocess.DEVNULL,
                                        stdout=self._log, stderr=self._log, start_new_session=True)

    def __enter__(self):
        try:
            self._wait_until_ready()
            self._check_library()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_):
        self._end()

    def _wait_until_ready(self):
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(self._port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"the server did not start: {self._log_tail()}")
            time.sleep(0.02)

    def _log_tail(self):
        self._log.flush()
        return _tail(pathlib.Path(self._log.name).read_text(encoding="utf-8", errors="replace"))

    def _check_library(self):
        maps = pathlib.Path(f"/proc/{self.process.pid}/maps").read_text(encoding="utf-8", errors="replace")
        if self._library and os.path.realpath(self._library) not in maps:
            raise Failed("the library is not in the server's memory")

    def _end(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                os.killpg(self.process.pid, number)
                try:
                    self.process.wait(10)
                except subprocess.TimeoutExpired:
                    continue
        self.process.wait()
        self._log.close()

    def _pids(self):
        """The server and its children, where nginx has its workers."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [self.process.pid, *map(int, children.split())]

    def _figures(self):
        each = [measuring.times_and_faults(pid) for pid in self._pids()]
        return {key: sum(figures[key] for figures in each) for key in each[0]}

    def _memory(self, name):
        return sum(measuring.status_bytes(pid, name) for pid in self._pids())

    def under(self, load):
        """Figures of the time that load() takes; it returns the operations, or (operations, seconds)."""
        before, start = self._figures(), time.monotonic()
        operations = load()
        wall = time.monotonic() - start
        if isinstance(operations, tuple):
            operations, wall = operations
        after = self._figures()
        if self.process.poll() is not None:
            raise Failed(f"the server ended under load: {self._log_tail()}")
        result = {"wall_s": wall, "operations": operations, "peak_bytes": self._memory("VmHWM"),
                  **{key: after[key] - before[key] for key in after}}
        time.sleep(SETTLE_S)
        return {**result, "after_bytes": self._memory("VmRSS")}


def _generate(context, command, data=None):
    """Runs a load generator; what it prints."""
    try:
        done = subprocess.run(command, env=context.environment, cwd=context.scratch, input=data,
                              stdin=subprocess.DEVNULL if data is None else None, capture_output=True,
                              timeout=GENERATOR_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise Failed(f"{command[0]} did not end within {GENERATOR_TIMEOUT_S} s") from None
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise Failed(f"{command[0]}: exit status {done.returncode}: {_tail(text)}")
    return text


# --- redis ---

def _redis(context):
    """
    Debian's redis-server is linked with jemalloc. A preloaded library comes before it in the search for
    malloc; to have glibc's, libc itself is preloaded.
    """
    port = free_port()
    preload = context.preload or inputs.libc_path()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly",
               "no", "--io-threads", "1", "--daemonize", "no", "--dir", str(context.scratch)]
    return Server(context, command, port, preload), port


def _redis_set_get(context):
    server, port = _redis(context)
    requests = context.amount(300_000)

    def load():
        _generate(context, ["redis-benchmark", "-p", str(port), "-t", "set,get,lpush,lpop,hset", "-n",
                            str(requests), "-r", "100000", "-d", "100", "-P", "16", "-c", "20", "-q"])
        return 5 * requests
    with server:
        return server.under(load)


def _redis_delete(context):
    server, port = _redis(context)
    keys = context.amount(300_000)
    sizes = random.Random(1)

    def load():
        fill = b"".join(inputs.resp(b"SET", b"k%d" % i, b"x" * sizes.choice((30, 60, 150, 400, 1000)))
                        for i in range(keys))
        drop = b"".join(inputs.resp(b"DEL", b"k%d" % i) for i in range(keys) if i % 10)
        for data in (fill, drop):
            if "errors: 0" not in _generate(context, ["redis-cli", "-p", str(port), "--pipe"], data):
                raise Failed("redis-cli --pipe reported errors")
        return keys + keys * 9 // 10
    with server:
        return server.under(load)


def _redis_ask(connection, *words):
    """One command's answer: a number or bytes."""
    connection.write(inputs.resp(*words))
    connection.flush()
    answer = connection.readline()
    if answer.startswith(b":"):
        return int(answer[1:])
    if answer.startswith(b"$"):
        return connection.read(int(answer[1:]) + 2)[:-2]
    raise Failed(f"redis said: {answer.decode(errors='replace').strip()[:200]}")


def _redis_in_parts(connection, script, keys, each):
    """Runs the script on the keys by and by; after each part calls each()."""
    part = 20_000
    done = 0
    for start in range(0, keys, part):
        last = min(start + part, keys) - 1
        done += _redis_ask(connection, b"EVAL", script, b"0", b"%d" % start, b"%d" % last)
        each()
    return done


def _redis_idle(context):
    """
    Small values are set, nine in ten unlinked, and then nothing happens. What is live is redis' own
    count: asking for it would wake it, so that it is asked once when all is deleted.
    """
    server, port = _redis(context)
    keys, idle_s = context.amount(1_500_000), 3 if context.quick else 10
    memory = {"series": []}

    def load():
        started = time.monotonic()

        def sample(live=None):
            if live is None:
                live = int(re.search(rb"used_memory:(\d+)", _redis_ask(connection, b"INFO", b"memory"))[1])
            resident = measuring.status_bytes(server.process.pid, "VmRSS")
            memory["series"].append([round(time.monotonic() - started, 3), live, resident])
            return live, resident

        with (socket.create_connection(("127.0.0.1", port), timeout=60) as plain,
              plain.makefile("rwb") as connection):
            done = _redis_in_parts(connection, inputs.REDIS_FILL, keys, sample)
            memory["peak_live_bytes"], _ = sample()
            deleted = _redis_in_parts(connection, inputs.REDIS_UNLINK, keys, sample)
            if (done, _redis_ask(connection, b"DBSIZE")) != (keys, keys - deleted):
                raise Failed("redis lost keys")
            live, _ = sample()
            work_s = time.monotonic() - started
            memory.update(idle_since_s=round(work_s, 3), idle_live_bytes=live)
            for step in range(4 * idle_s + 1):
                time.sleep(max(0, started + work_s + step / 4 - time.monotonic()))
                _, resident = sample(live)
                if step % 4 == 0 and step // 4 in measuring.IDLE_MARKS_S:
                    memory[f"idle_{step // 4}_bytes"] = resident
        return keys + deleted, work_s
    with server:
        return {**server.under(load), **memory}


# --- memcached, nginx ---

def _memcached_client(port, seed, requests):
    """Sets without reply, then pipelined gets of the same keys; checks how many came back."""
    values = random.Random(seed)
    keys = [b"c%d-%d" % (seed, i) for i in range(requests)]
    with socket.create_connection(("127.0.0.1", port), timeout=60) as server:
        for start in range(0, requests, 500):
            batch = keys[start:start + 500]
            server.sendall(b"".join(b"set %s 0 0 %d noreply\r\n%s\r\n" % (key, size, b"v" * size)
                                    for key in batch for size in (values.randrange(20, 900),)))
            server.sendall(b"get %s\r\n" % b" ".join(batch))
            answer = b""
            while not answer.endswith(b"END\r\n"):
                part = server.recv(1 << 18)
                if not part:
                    raise Failed("memcached closed the connection")
                answer += part
            if answer.count(b"VALUE ") != len(batch):
                raise Failed("memcached lost values")


def _memcached(context):
    port = free_port()
    requests = context.amount(100_000)
    command = ["memcached", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "2", "-m", "256"]
    if os.geteuid() == 0:
        command += ["-u", "root"]

    def load():
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(_memcached_client, port, seed, requests) for seed in range(4)]:
                done.result()
        return 8 * requests
    with Server(context, command, port) as server:
        return server.under(load)


def _nginx(context):
    port = free_port()
    (context.scratch / "page.html").write_text(inputs.prose(4096), encoding="ascii")
    conf = context.scratch / "nginx.conf"
    conf.write_text(inputs.NGINX.format(port=port, root=context.scratch), encoding="ascii")
    seconds, requests = (1 if context.quick else 3), 100_000

    def load():
        text = _generate(context, ["wrk", "-t1", "-c50", f"-d{seconds}s", "-H", "Accept-Encoding: gzip",
                                   f"http://127.0.0.1:{port}/page.html"])
        rate = next((float(line.split()[1]) for line in text.splitlines()
                     if line.startswith("Requests/sec")), 0)
        if rate == 0 or "Non-2xx" in text:
            raise Failed(f"wrk: {_tail(text)}")
        return requests, requests / rate  # wrk runs for a time; so the time of fixed work follows
    with Server(context, ["nginx", "-c", str(conf), "-p", str(context.scratch)], port) as server:
        return server.under(load)


# --- the others ---

def _sqlite(context):
    rows = context.amount(200_000)
    script = context.scratch / "load.sql"
    script.write_text(inputs.SQL.format(rows=rows), encoding="ascii")
    return measured(context, ["sqlite3", ":memory:", f".read {script}"], rows, f"rows {rows}")


def _script(interpreter, suffix, text, count, **environment):
    def run(context):
        script = context.scratch / ("load" + suffix)
        script.write_text(text, encoding="ascii")
        amount = context.amount(count)
        return measured(context, [*interpreter, str(script), str(amount)], amount, f"done {amount}",
                        **environment)
    return run


def _cc1plus(context):
    compiler = subprocess.run(["g++", "-print-prog-name=cc1plus"], capture_output=True, text=True,
                              check=True).stdout.strip()
    source = context.scratch / "input.cc"
    source.write_text(inputs.cxx(context.amount(40)), encoding="ascii")
    _generate(context, ["g++", "-E", "-o", "input.ii", "input.cc"])
    return measured(context, [compiler, "-quiet", "-O1", "input.ii", "-o", "input.s"], 1)


def _z3(context):
    problem = context.scratch / "problem.smt2"
    problem.write_text(inputs.smt(8 if context.quick else 9), encoding="ascii")
    return measured(context, ["z3", str(problem)], 1, "unsat")


def _git(context):
    files = context.amount(2000)
    env = {**context.environment, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    plain = Context(env, "", context.scratch, context.measure, context.quick)
    _generate(plain, ["git", "init", "-q", "repository"])
    _generate(plain, ["git", "-C", "repository", "fast-import", "--quiet"], inputs.fast_import(files))
    return measured(context, ["git", "-C", "repository", "repack", "-adfq", "--window=50"], files,
                    GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_SYSTEM="/dev/null")


_TESTS = [
    Test("redis_set_get", _redis_set_get, ["redis-server", "redis-benchmark"]),
    Test("redis_delete", _redis_delete, ["redis-server", "redis-cli"]),
    Test("redis_idle", _redis_idle, ["redis-server"], "idle"),
    Test("memcached", _memcached, ["memcached"]),
    Test("nginx", _nginx, ["nginx", "wrk"]),
    Test("sqlite", _sqlite, ["sqlite3"]),
    Test("python", _script(["/usr/bin/python3"], ".py", inputs.PYTHON, 40, PYTHONMALLOC="malloc"),
         ["/usr/bin/python3"]),
    Test("cc1plus", _cc1plus, ["g++"]),
    Test("z3", _z3, ["z3"]),
    Test("ruby_threads", _script(["ruby"], ".rb", inputs.RUBY, 40), ["ruby"]),
    Test("git_repack", _git, ["git"]),
    Test("node", _script(["node"], ".js", inputs.NODE, 60), ["node"]),
]


def _guarded(test):
    def run(context):
        for command in test.needs:
            if not shutil.which(command):
                raise Skip(f"there is no {command}")
        return test.run(context)
    return Test(test.name, run, test.needs, test.group)


def tests():
    return [_guarded(test) for test in _TESTS]
