#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# An installed copy, found by pkg-config. Arguments: build directory.
# shellcheck source=test/build/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

type -P pkg-config >/dev/null || exit 77
image=$scratch/image
quietly meson install -C "$1" --destdir "$image" --no-rebuild --quiet
pc=$(find "$image" -name apmalloc.pc)
[[ -n $pc ]] || fail 'no apmalloc.pc was installed'
library=$(find "$image" -name libapmalloc.so)
[[ -n $library ]] || fail 'no libapmalloc.so was installed'

export PKG_CONFIG_SYSROOT_DIR=$image PKG_CONFIG_PATH=${pc%/*}
read -ra flags < <(pkg-config --cflags --libs apmalloc)
quietly "${cc[@]}" "$here/ask.c" -o "$scratch/ask" -pthread "${flags[@]}" "-Wl,-rpath,${library%/*}"
assert_runs_on_library "$scratch/ask"
echo 'ok: installed, C'

# A program that names nothing of the library needs it kept.
quietly "${cxx[@]}" -std=c++17 "$here/only_new.cpp" -o "$scratch/only_new" -pthread \
    -Wl,--push-state,--no-as-needed "${flags[@]}" -Wl,--pop-state "-Wl,-rpath,${library%/*}"
assert_runs_on_library "$scratch/only_new"
echo 'ok: installed, C++'

# What is given to users is complete, and nothing more.
(cd -- "$image" && find . -type f -printf '%f\n' | sort)
[[ $(find "$image" -type f \( -name '*.h' -o -name 'libapmalloc*' -o -name '*.pc' \) | wc -l) == \
    $(find "$image" -type f | wc -l) ]] || fail 'something else was installed'
