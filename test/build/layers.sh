#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The include rule of lib/: a file includes only from its own layer and lower ones. Argument: lib.
# shellcheck source=test/build/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

lib=$1
# Bottom to top, as in the table of lib/README.md.
layers='base os guard config meta table heap central pack large decay cache hardened observe life api'

# shellcheck disable=SC2016 # backquotes, not a command
documented=$(sed -n 's/^| `\([a-z]*\)` |.*/\1/p' "$lib/README.md" | paste -sd ' ')
[[ $documented == "$layers" ]] || fail "lib/README.md has the layers $documented"

check() {
    (cd -- "$1" && find . -name '*.[ch]' -exec grep -nH '^[[:space:]]*#[[:space:]]*include' {} +) |
        awk -v layers="$layers" '
            BEGIN { n = split(layers, name, " "); for (i = 1; i <= n; i++) rank[name[i]] = i }
            {
                split($0, part, ":")
                file = part[1]; sub("^[.]/", "", file)
                layer = file; sub("/.*", "", layer)
                if (!(layer in rank)) { print file ": not in a layer"; next }
                if ($0 !~ /include[ \t]*"/) next
                target = $0; sub(/^[^"]*"/, "", target); sub(/".*/, "", target)
                if (target == "apmalloc.h") next
                lower = target; sub("/.*", "", lower)
                if (!(lower in rank) || target !~ "/")
                    print file ":" part[2] ": \"" target "\": say layer/file.h"
                else if (rank[lower] > rank[layer])
                    print file ":" part[2] ": \"" target "\": " lower " is above " layer
            }'
}

found=$(check "$lib")
[[ -z $found ]] || fail "$found"
[[ -n $(find "$lib" -mindepth 2 -name '*.c') ]] || fail "no sources in $lib"

# That the check finds what it is there for.
mkdir -p -- "$scratch/lib/heap" "$scratch/lib/util"
printf '%s\n' '#include "cache/thread_cache.h"' '#include "base/bits.h"' '#include "span.h"' >"$scratch/lib/heap/x.c"
echo '#include <stddef.h>' >"$scratch/lib/util/x.h"
[[ $(check "$scratch/lib" | wc -l) == 3 ]] || fail 'the check overlooks violations'
echo "ok: $layers"
