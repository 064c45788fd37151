#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
fast_path_test.py: counts and reads the instructions of a hit of malloc and of free.

Goal: the hit paths of the built library stay within their budgets, call nothing, lock nothing and
make no stack frame; and a change in either direction is seen by whoever makes it. Method: a
program of pairs runs under callgrind with N and with 2N pairs; the instructions of `malloc` and
`free` that were executed N times more often are the hit path. Their number is compared with the
budget and with the golden file, their text (from objdump) with what is forbidden. Counting is
exact: nothing here depends on time.

Exit status: 0 good, 1 not, 77 nothing to test in this build or on this machine.
"""
import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile

PAIRS = 1000
FUNCTIONS = ("malloc", "free")
SIZES = (16, 48, 1024, 1040, 32768)
MALLOC_BUDGETS = ((1024, 18), (32768, 22))
FREE_BUDGET = 22  # 18, and 4 for the check that is on by default
PAIR_SIZE, PAIR_BUDGET = 48, 40  # 36, and 4 likewise

FORBIDDEN = (
    (re.compile(r"^call"), "a call"),
    (re.compile(r"^lock\b"), "a lock prefix"),
    (re.compile(r"^xchg\b.*\("), "an exchange with memory"),
    (re.compile(r"^[msl]fence\b"), "a fence"),
    (re.compile(r"^(push|pop|enter|leave)"), "a stack frame"),
    (re.compile(r"^(sub|add|lea|and)\b.*%rsp$"), "a stack frame"),
    (re.compile(r"^(syscall|sysenter|int)\b"), "a system call"),
)


def executed(library, command, functions, folder):
    """function -> {address: times executed}, self cost only, for functions of the library."""
    out = os.path.join(folder, "callgrind.out")
    run = subprocess.run(
        ["valgrind", "-q", "--tool=callgrind", "--dump-instr=yes", "--compress-strings=no",
         "--compress-pos=no", f"--callgrind-out-file={out}", *command],
        capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"valgrind failed: {run.stderr}")
    counts = {function: {} for function in functions}
    library = os.path.basename(library)
    of_library, function, skip = False, None, False
    with open(out, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("ob="):
                of_library = os.path.basename(line[3:].strip()) == library
            elif line.startswith("fn="):
                name = line[3:].strip()
                function = name if of_library and name in counts else None
            elif line.startswith("calls="):
                skip = True  # the next line is the cost of the callee
            elif line.startswith("0x"):
                if skip:
                    skip = False
                elif function is not None:
                    address, _, cost = line.split()[:3]
                    at = int(address, 16)
                    counts[function][at] = counts[function].get(at, 0) + int(cost)
    return counts


def hit_path(library, command, functions, folder):
    """function -> list of addresses that each of the command's pairs executes once."""
    few = executed(library, command + [str(PAIRS)], functions, folder)
    many = executed(library, command + [str(2 * PAIRS)], functions, folder)
    paths = {}
    for function in few:
        path = []
        for address, count in sorted(many[function].items()):
            more = count - few[function].get(address, 0)
            # A miss now and then is no hit; a hit is what nearly all pairs do.
            if more > PAIRS * 9 // 10:
                path.append(address)
        paths[function] = path
    return paths


def disassemble(library):
    """address -> text of the instruction."""
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", library],
                          capture_output=True, text=True, check=True).stdout
    instructions = {}
    for line in text.splitlines():
        match = re.match(r"^\s*([0-9a-f]+):\s+(.*\S)", line)
        if match:
            instructions[int(match.group(1), 16)] = re.sub(r"\s+", " ", match.group(2))
    return instructions


def read_golden(path):
    """(compiler the counts are of, {(function, size): count})"""
    compiler, counts = "", {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            fields = line.split("#")[0].split()
            if len(fields) == 3 and fields[0] == "compiler":
                compiler = f"{fields[1]} {fields[2]}"
            elif len(fields) == 3:
                counts[(fields[0], int(fields[1]))] = int(fields[2])
    return compiler, counts


def check(paths, instructions):
    """List of what is wrong with the hit paths: {size: {function: addresses}}."""
    errors = []
    for size, functions in paths.items():
        budget = next(b for most, b in MALLOC_BUDGETS if size <= most)
        for function, limit in (("malloc", budget), ("free", FREE_BUDGET)):
            path = functions[function]
            if not path:
                errors.append(f"{function}, {size} bytes: no hit path; is the library in use?")
            if len(path) > limit:
                errors.append(f"{function}, {size} bytes: {len(path)} instructions, budget {limit}")
            for address in path:
                text = re.sub(r"\s*(#|<).*", "", instructions[address])
                for pattern, what in FORBIDDEN:
                    if pattern.search(text):
                        errors.append(f"{function}, {size} bytes: {what}: {address:x}: {text}")
    pair = sum(len(path) for path in paths[PAIR_SIZE].values())
    if pair > PAIR_BUDGET:
        errors.append(f"a pair of {PAIR_SIZE} bytes: {pair} instructions, budget {PAIR_BUDGET}")
    return errors


def cannot_count(buildtype, compiler, sanitize):
    """Whether instructions of this build are not to be counted here; says why."""
    why = None
    if buildtype != "release" or not compiler.startswith("gcc "):
        why = f"a {buildtype} build by {compiler}"
    elif platform.machine() != "x86_64" or sanitize != "none":
        why = f"{platform.machine()}, sanitizer {sanitize}"
    else:
        missing = [tool for tool in ("valgrind", "objdump") if shutil.which(tool) is None]
        why = f"no {missing[0]}" if missing else None
    if why is not None:
        print(f"skipped: {why}")
    return why is not None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--library", required=True)
    parser.add_argument("--program", required=True)
    parser.add_argument("--golden", required=True)
    parser.add_argument("--buildtype", required=True)
    parser.add_argument("--compiler", required=True, help="for example: gcc 12.2.0")
    parser.add_argument("--sanitize", default="none")
    arguments = parser.parse_args()

    compiler = re.sub(r"(\d+)\..*", r"\1", arguments.compiler)
    if cannot_count(arguments.buildtype, arguments.compiler, arguments.sanitize):
        return 77

    library = os.path.realpath(arguments.library)
    with tempfile.TemporaryDirectory() as folder:
        paths = {size: hit_path(library, [arguments.program, str(size)], FUNCTIONS, folder)
                 for size in SIZES}
    instructions = disassemble(library)
    errors = check(paths, instructions)

    golden_compiler, golden = read_golden(arguments.golden)
    found = {(function, size): len(path) for size, functions in paths.items()
             for function, path in functions.items()}
    print(f"compiler {compiler}")
    for (function, size), count in sorted(found.items()):
        print(f"{function} {size} {count}")
    print(f"# a pair of {PAIR_SIZE} bytes: {sum(len(p) for p in paths[PAIR_SIZE].values())}")
    if golden_compiler == compiler and golden != found:
        errors.append(f"the counts above are not those of {arguments.golden}: "
                      "if the change is meant, put them there")
    for error in errors:
        print(f"error: {error}")
    if errors:
        for function in FUNCTIONS:
            print(f"{function}, {PAIR_SIZE} bytes:")
            for address in paths[PAIR_SIZE][function]:
                print(f"  {address:x}: {instructions[address]}")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
