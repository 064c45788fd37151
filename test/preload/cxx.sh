#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The C++ compiler on a file with many templates: the object must be the same byte for byte, and the
# program made from it is run on both allocators in turn.
# shellcheck source=test/preload/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

need g++
cd -- "$scratch"
compile() {
    g++ -std=c++17 -O2 -pipe -frandom-seed=1 -c "$here/cxx_templates.cpp" -o "$1"
}
compile system.o
LD_PRELOAD=$library APMALLOC_CONF=stats_at_exit:true compile apmalloc.o 2>apmalloc.err || {
    show_errors
    fail "g++ fails"
}
assert_library_was_used
assert_same o 'g++'
echo 'ok: g++'

g++ -pthread -o program apmalloc.o
same_on_both 'the C++ program' ./program
