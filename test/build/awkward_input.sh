#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# doc/awkward_input.md and doc/reliability.md name tests; each of them exists: the file, and in it the Criterion test
# of that name, or, in plain programs and scripts, the word. Argument: root of this project.
# shellcheck source=test/build/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

root=$1

# Every `test/PATH` or `test/PATH: NAME` of a document, one a line.
references() {
    # shellcheck disable=SC2016 # backquotes, not a command
    grep -oE '`test/[A-Za-z0-9_/.]+(: [a-z0-9_]+)?`' "$1" | tr -d '`' | sort -u
}

# Rows of the tables, their heads left out, that name no test.
rows_without_a_test() {
    grep '^|' "$1" | grep -vE '^\|(-+\|)+$|^\| input \|' | grep -vE '\| `test/[^|]*\|$' || true
}

exists() {
    local path=${1%%: *} name=${1#*: }
    [[ -f $root/$path ]] || return 1
    [[ $name != "$1" ]] || return 0
    if grep -q '^Test(' "$root/$path"; then
        grep -qE "^Test\([a-z0-9_]+, ${name}[,)]" "$root/$path"
    else
        grep -qw -- "$name" "$root/$path"
    fi
}

# missing DOCUMENT: what it names and is not there, a line each.
missing() {
    local reference
    references "$1" | while IFS= read -r reference; do
        exists "$reference" || echo "not there: $reference"
    done
}

# check DOCUMENT: what is wrong with it, a line each.
check() {
    rows_without_a_test "$1" | sed 's/^/no test: /'
    missing "$1"
}

document=$root/doc/awkward_input.md
found=$(check "$document")
[[ -z $found ]] || fail "$found"
found=$(missing "$root/doc/reliability.md")
[[ -z $found ]] || fail "$found"
(($(references "$root/doc/reliability.md" | wc -l) >= 20)) || fail 'too few tests in doc/reliability.md'
rows=$(grep -c '^| .*`test/' "$document")
((rows >= 117)) || fail "only $rows inputs"

# That the check finds what it is there for.
cat >"$scratch/document.md" <<'MD'
| input | what happens | test |
|---|---|---|
| one without a test | works | |
| one in a file that is not there | works | `test/api/none_test.c: any` |
| one that the file has not | works | `test/api/life_test.c: the_first_use_may_be` |
| one that a script has not | works | `test/build/layers.sh: nowhere_in_it` |
| a good one | works | `test/build/layers.sh: layers` |
MD
[[ $(check "$scratch/document.md" | wc -l) == 4 ]] || fail "the check overlooks something: $(check "$scratch/document.md")"
echo "ok: $rows inputs"
