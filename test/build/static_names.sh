#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Static and static-pie programs have one heap: all names of malloc's family and what libc allocates itself
# come from the archive, none twice, none from libc. Also with the archive before libc in any place, and with
# the archive as a whole. Arguments: static library, include directory.
# shellcheck source=test/build/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

archive=$1 include=$2
whole=('-Wl,--whole-archive' "$archive" '-Wl,--no-whole-archive')

# libc's allocator, of which one object defines all of these, shall not be in the program beside ours.
names_of_libcs_heap() {
    nm "$1" | awk '$2 ~ /[TtDdBb]/ { print $3 }' | grep -xE '_int_malloc|_int_free|main_arena|sysmalloc' || true
}

check() {
    local label=$1
    shift
    quietly "${cc[@]}" -O2 -D_GNU_SOURCE -fno-builtin -Wno-deprecated-declarations -pthread -I "$include" "$@" -o "$scratch/program"
    assert_runs_on_library "$scratch/program"
    [[ $(cat "$scratch/out") == 'one heap' ]] || fail "$label: $(cat "$scratch/out")"
    local second
    second=$(names_of_libcs_heap "$scratch/program")
    [[ -z $second ]] || fail "$label: libc's heap is linked in, too: $second"
    echo "ok: $label"
}

program=$here/static_names.c
check 'static' -static "$program" "$archive"
check 'static, whole archive' -static "$program" "${whole[@]}"
check 'static, libc named first' -static "$program" "$archive" -lc "$archive"
check 'static-pie' -static-pie -fPIE "$program" "$archive"
check 'static-pie, whole archive' -static-pie -fPIE "$program" "${whole[@]}"
check 'dynamic, whole archive' -pie -fPIE "$program" "${whole[@]}"

# A program that only lets libc allocate names nothing of the family itself.
cat >"$scratch/indirect.c" <<'C'
#include <stdio.h>
#include <string.h>
int main(void)
{
    char *text = strdup("one heap");
    return text == NULL || puts(text) < 0;
}
C
for kind in -static '-static-pie -fPIE'; do
    read -ra flags <<<"$kind"
    check "$kind, only libc allocates" "${flags[@]}" "$scratch/indirect.c" "${whole[@]}"
done

# That the look for a second heap finds one.
quietly "${cc[@]}" -static "$scratch/indirect.c" -o "$scratch/program"
[[ -n $(names_of_libcs_heap "$scratch/program") ]] || fail "libc's own heap has other names"
