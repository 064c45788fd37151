#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Programs built with a sanitizer and linked to the library: the sanitizer's malloc is theirs, so that it finds
# what it is there to find; ours works beside it by the ap_ names. Arguments: library, include directory.
# shellcheck source=test/build/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

library=$(realpath -- "$1") include=$2
folder=$(dirname -- "$library")
cat >"$scratch/program.c" <<'C'
#include <apmalloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *churn(void *unused)
{
    for (size_t i = 0; i < 20000; i++) {
        size_t size = i * 37 % 5000 + (i % 1000 == 0 ? 400000 : 1);
        char *ours = ap_malloc(size), *theirs = malloc(size);
        if (ours == NULL || theirs == NULL || ap_usable_size(ours) < size)
            return "no block";
        memset(ours, 1, size);
        memset(theirs, 2, size);
        ours = ap_realloc(ours, 2 * size);
        theirs = realloc(theirs, 2 * size);
        if (ours == NULL || ours[size - 1] != 1 || theirs == NULL || theirs[size - 1] != 2)
            return "lost contents";
        ap_free(ours);
        free(theirs);
    }
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t threads[2];
    void *wrong = NULL, *found;
    if (argc > 1) { /* a write past the end, for the sanitizer to find in its own malloc */
        volatile char *block = malloc(100);
        block[98 + argc] = 1;
        puts(argv[1]);
        free((void *)block);
        return 0;
    }
    for (int i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, churn, NULL) != 0)
            return 1;
    for (int i = 0; i < 2; i++)
        if (pthread_join(threads[i], &found) == 0 && found != NULL)
            wrong = found;
    puts(wrong == NULL ? "ok" : wrong);
    return wrong != NULL;
}
C

# build COMPILER... SANITIZER: `false` where there is none of it.
build() {
    "${@:1:$#-1}" "-fsanitize=${!#}" -g -O1 -pthread -I "$include" "$scratch/program.c" -o "$scratch/program" \
        "$library" "-Wl,-rpath,$folder" >"$scratch/log" 2>&1 </dev/null
}

# starts COMPILER... SANITIZER: whether programs built so run here at all, without the library.
starts() {
    echo 'int main(void) { return 0; }' >"$scratch/empty.c"
    "${@:1:$#-1}" "-fsanitize=${!#}" "$scratch/empty.c" -o "$scratch/empty" >"$scratch/log" 2>&1 </dev/null &&
        "$scratch/empty" >"$scratch/log" 2>&1
}

# What a sanitizer exits with where it reports something.
export ASAN_OPTIONS=exitcode=99 TSAN_OPTIONS=exitcode=99 UBSAN_OPTIONS=halt_on_error=1:exitcode=99

# check SANITIZER COMPILER...
check() {
    local sanitizer=$1
    shift
    if ! starts "$@" "$sanitizer"; then
        echo "not run: $1, $sanitizer"
        return 0
    fi
    build "$@" "$sanitizer" || fail "$1, $sanitizer: $(cat "$scratch/log")"
    "$scratch/program" >"$scratch/out" 2>"$scratch/err" || fail "$1, $sanitizer: status $?: $(head -c 3000 "$scratch/err")"
    [[ $(cat "$scratch/out") == ok && ! -s $scratch/err ]] || fail "$1, $sanitizer: $(cat "$scratch/out" "$scratch/err")"
    if [[ $sanitizer == address ]]; then
        local status=0
        "$scratch/program" overflow >"$scratch/out" 2>"$scratch/err" || status=$?
        if ((status != 99)) || ! grep -q 'heap-buffer-overflow' "$scratch/err"; then
            fail "$1, $sanitizer: the overflow is not found: status $status"
        fi
    fi
    echo "ok: $1, $sanitizer"
}

for compiler in gcc clang; do
    type -P "$compiler" >/dev/null || continue
    check address "$compiler"
    check undefined "$compiler"
    check leak "$compiler"
done
setarch=()
if type -P setarch >/dev/null && setarch -R true 2>/dev/null; then
    setarch=(setarch -R) # the thread sanitizer knows few layouts of addresses
fi
check_threads() {
    starts "$1" thread || {
        echo "not run: $1, thread"
        return 0
    }
    build "$1" thread || fail "$1, thread: $(cat "$scratch/log")"
    "${setarch[@]}" "$scratch/program" >"$scratch/out" 2>"$scratch/err" || fail "$1, thread: status $?: $(head -c 3000 "$scratch/err")"
    [[ $(cat "$scratch/out") == ok && ! -s $scratch/err ]] || fail "$1, thread: $(cat "$scratch/out" "$scratch/err")"
    echo "ok: $1, thread"
}
for compiler in gcc clang; do
    if type -P "$compiler" >/dev/null; then
        check_threads "$compiler"
    fi
done
