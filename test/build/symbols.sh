#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What the finished libraries show to the linker. Arguments: shared library, static library, header.
# shellcheck source=test/build/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

shared=$1 static=$2 header=$3
list=$here/exported_symbols.txt

# A version would show as name@@VERSION, and would disable interposition.
nm -D --defined-only "$shared" | awk '{ print $NF }' | sort >"$scratch/exported"
sort -- "$list" "$here/exported_by_shared_only.txt" >"$scratch/documented"
diff -- "$scratch/documented" "$scratch/exported" || fail 'exported symbols differ (< documented, > in the library)'
echo "ok: exactly the $(wc -l <"$list") documented symbols, without versions"

grep -oE '\<ap_[a-z0-9_]+\(' "$header" | tr -d '(' | sort -u >"$scratch/declared"
grep '^ap_' "$list" | diff -- - "$scratch/declared" || fail 'header and list differ'
echo 'ok: the list has the functions of the header'

# In the static library every other global name must be out of a program's way. (DW.ref: weak, the same in
# all C++ objects.)
nm --defined-only --extern-only "$static" 2>/dev/null | awk 'NF == 3 { print $3 }' | sort -u >"$scratch/globals"
foreign=$(grep -vE '^(ap__|DW\.ref\.)' "$scratch/globals" | comm -23 - "$list")
[[ -z $foreign ]] || fail "the static library has global names without ap__: $foreign"
absent=$(comm -13 "$scratch/globals" "$list")
[[ -z $absent ]] || fail "the static library lacks: $absent"
echo 'ok: static library: the same names, all others begin with ap__'

# All libc names must come with the same object file: a link takes both or neither.
objects=$(nm -A --defined-only --extern-only "$static" 2>/dev/null |
    awk '{ n = split($0, p, ":"); print p[n - 1], $NF }' | grep -E ' (malloc|free|_Znwm|malloc_trim|cfree)$' | awk '{ print $1 }' | sort -u)
[[ $(wc -l <<<"$objects") == 1 ]] || fail "libc names are spread over: $objects"
echo 'ok: all libc names come from one object file'

needed=$(readelf -d "$shared" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -vE '^(libc\.so\.|ld-linux)' || true)
[[ -z $needed ]] || fail "the library needs $needed"
readelf -d "$shared" | grep -q 'NODELETE' || fail 'the library can be unloaded (no -z nodelete)'
readelf -d "$shared" | grep -q 'TEXTREL' && fail 'text relocations'
readelf -lW "$shared" | grep -q 'GNU_STACK.*RWE' && fail 'executable stack'
# dlopen takes static TLS from a surplus of 1.6 KB that all libraries share.
tls=$((0x$(readelf -lW "$shared" | awk '$1 == "TLS" { sub("0x", "", $6); print $6 } END { print "0" }' | head -n 1)))
((tls <= 256)) || fail "$tls bytes of thread-local storage"
echo "ok: needs libc only, stays loaded, $tls bytes of thread-local storage"
