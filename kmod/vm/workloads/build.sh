#!/bin/bash
# build.sh: builds the workloads, static, into target/vm/workloads; prints that folder.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
out=${PGTRACE_WORKLOADS_OUT:-$here/../../../target/vm/workloads}
mkdir -p "$out"
out=$(cd "$out" && pwd -P)
command -v gcc >/dev/null || { echo "build.sh: gcc is missing (package gcc)" >&2; exit 2; }
compile() { # compile PROGRAM SOURCE..
    local program=$out/$1 source
    shift
    for source in "$here"/*.[ch] "${BASH_SOURCE[0]}"; do
        if [[ $source -nt $program ]]; then
            gcc -O1 -static -pthread -Wall -Wextra -Werror -o "$program" "$@"
            return
        fi
    done
}
compile workload "$here/workload.c" "$here/truth.c"
compile torture "$here"/torture*.c
compile lazyfree "$here/lazyfree.c"
compile targets "$here/targets.c" "$here/actor.c"
compile fuzz "$here/fuzz.c"
compile events "$here/events.c"
compile demo "$here/demo.c" -lm
compile patterns "$here/patterns.c" -lm
compile bench "$here/bench.c" "$here/bench-hooks.c" "$here/bench-policy.c" "$here/bench-load.c" -Wno-missing-field-initializers
printf '%s\n' "$out"
