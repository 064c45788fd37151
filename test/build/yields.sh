#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Yield points (lib/os/yield.h) cost nothing where they are not asked for: every file that has some
# becomes the same instructions without them. Argument: the project's folder.
# shellcheck source=test/build/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

source=$1
flags=(-D_GNU_SOURCE -DNDEBUG -O2 -fvisibility=hidden -fPIC -c)

mkdir -- "$scratch/plain"
cp -r -- "$source/lib" "$source/include" "$scratch/plain/"
# Lines stay where they are: checks carry their numbers.
find "$scratch/plain/lib" -name '*.c' -exec sed -i -e 's/AP__YIELD_POINT();//' \
    -e 's/AP_TABLE_YIELD();//' {} +

# instructions ROOT FILE
instructions() {
    # The same name for both, because checks carry it, too.
    (cd -- "$1/lib" && quietly "${cc[@]}" "${flags[@]}" -I. -I../include "$2" -o "$scratch/object.o")
    objdump -dr --no-show-raw-insn "$scratch/object.o" | tail -n +4
}

files=0 points=0
while IFS= read -r file; do
    with=$(instructions "$source" "$file")
    without=$(instructions "$scratch/plain" "$file")
    [[ -n $with && $with == "$without" ]] || fail "$file: a yield point leaves a trace"
    files=$((files + 1))
    points=$((points + $(grep -cE '^ +AP_(_|TABLE_)YIELD(_POINT)?\(\);' "$source/lib/$file")))
done < <(cd -- "$source/lib" && grep -lrE --include='*.c' '^ +AP_(_|TABLE_)YIELD(_POINT)?\(\);' . | sort)
((files >= 15 && points >= 70)) || fail "only $points yield points in $files files"

# That the comparison would find one.
flags+=(-DAP_YIELDS)
with=$(instructions "$source" decay/pressure.c)
without=$(instructions "$scratch/plain" decay/pressure.c)
[[ $with != "$without" ]] || fail 'the comparison sees no yield points at all'
echo "ok: $points yield points in $files files, no instruction"
