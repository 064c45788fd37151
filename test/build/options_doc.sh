#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# doc/options.md shows what help:true prints, to the letter. Arguments: root of this project, library.
# shellcheck source=test/build/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

root=$1
library=$2
APMALLOC_CONF=help:true LD_PRELOAD="$library" /bin/true 2>"$scratch/printed"
sed -n '/^apmalloc: options/,/^```$/p' "$root/doc/options.md" | grep -v '^```$' >"$scratch/documented"
[[ -s $scratch/printed ]] || fail 'help:true printed nothing'
diff -u "$scratch/documented" "$scratch/printed" || fail 'doc/options.md is not what help:true prints'
echo 'ok: options'
