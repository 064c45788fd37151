#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The public headers compile alone, without a warning, as C11, C17 and C++17. Argument: include directory.
# shellcheck source=test/build/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

strict=(-Wall -Wextra -Werror -pedantic -Wundef -fsyntax-only -I "$1")
while IFS= read -r header; do
    printf '#include "%s"\n#include "%s"\n' "$header" "$header" >"$scratch/twice.c"
    cp -- "$scratch/twice.c" "$scratch/twice.cpp"
    for standard in c11 c17; do
        quietly "${cc[@]}" -std=$standard -Wstrict-prototypes -Wshadow "${strict[@]}" "$scratch/twice.c"
    done
    for standard in c++17 c++20; do
        quietly "${cxx[@]}" -std=$standard "${strict[@]}" "$scratch/twice.cpp"
    done
    echo "ok: $header"
done < <(cd -- "$1" && find . -name '*.h' -printf '%P\n' | sort)
