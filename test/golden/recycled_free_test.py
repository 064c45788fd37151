#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
recycled_free_test.py: counts and reads the instructions of a free() of a packed block that its thread's list keeps.

Goal: it calls nothing, locks nothing, and writes next to nothing besides the list: each word that is written waits
behind what the program has just written to its blocks. Method: that of fast_path_test.py, with a program whose heap has
come to recycle such blocks.

Exit status: 0 good, 1 not, 77 nothing to test in this build or on this machine.
"""
import argparse
import os
import re
import sys
import tempfile

import fast_path_test as fast_path

FUNCTIONS = ("free", "ap__free_slow")
BUDGET = 110  # of both together; 102 when this was written
STACK_BUDGET = 2  # words that are written to it

STACK = re.compile(r"^push|^mov\S* %\S+, ?-?(0x)?[0-9a-f]*\(%rsp")
FORBIDDEN = [(pattern, what) for pattern, what in fast_path.FORBIDDEN if what != "a stack frame"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--library", required=True)
    parser.add_argument("--program", required=True)
    parser.add_argument("--buildtype", required=True)
    parser.add_argument("--compiler", required=True, help="for example: gcc 12.2.0")
    parser.add_argument("--sanitize", default="none")
    arguments = parser.parse_args()
    if fast_path.cannot_count(arguments.buildtype, arguments.compiler, arguments.sanitize):
        return 77

    library = os.path.realpath(arguments.library)
    with tempfile.TemporaryDirectory() as folder:
        paths = fast_path.hit_path(library, [arguments.program], FUNCTIONS, folder)
    instructions = fast_path.disassemble(library)
    texts = [re.sub(r"\s*(#|<).*", "", instructions[address])
             for function in FUNCTIONS for address in paths[function]]
    stack = sum(STACK.search(text) is not None for text in texts)
    print(f"{len(texts)} instructions, {stack} words written to the stack")

    errors = [f"{function}: not in use" for function in FUNCTIONS if not paths[function]]
    errors += [f"{what}: {text}" for text in texts for pattern, what in FORBIDDEN
               if pattern.search(text)]
    if len(texts) > BUDGET:
        errors.append(f"{len(texts)} instructions, budget {BUDGET}")
    if stack > STACK_BUDGET:
        errors.append(f"{stack} words written to the stack, budget {STACK_BUDGET}")
    for error in errors:
        print(f"error: {error}")
    if errors:
        print("\n".join(texts))
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
