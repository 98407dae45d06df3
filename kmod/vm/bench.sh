#!/bin/bash
# bench.sh [6.1|6.12 ..]: what tracing costs, in instructions, and whether anything is lost. Prints a table and writes
# target/bench/kernel.json; bench/README.md explains its lines. Wants a release build of pgtrace-capture, static
# (PGTRACE_CAPTURE_RELEASE); make bench-kernel builds it.
#
# Two kinds of machines a kernel: one that counts instructions (one CPU, see run.sh --icount) for everything but losses,
# and ordinary ones with 2 and 4 CPUs that fault as fast as they can.
#
# PYTHON: with matplotlib it draws a chart, too. BENCH_OUT: where the results go (default: target/bench)
# Exit code: 0 every limit is kept; 1 one is missed; 2 something went wrong.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

versions=("$@")
[[ ${#versions[@]} -gt 0 ]] || versions=("${ALL_VERSIONS[@]}")
capture=${PGTRACE_CAPTURE_RELEASE:-$REPO_DIR/target/x86_64-unknown-linux-gnu/release/pgtrace-capture}
[[ -x $capture ]] || die 2 "missing: $capture (make builds it)"
command -v python3 >/dev/null || die 2 "python3 is missing (package python3)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

programs=$("$VM_DIR/workloads/build.sh")
for version in "${versions[@]}"; do "$VM_DIR/build.sh" "$version" >/dev/null; done
# The peer of draining, with what it is linked to.
mkdir "$work/gnu"
cp -L /bin/cat "$work/gnu/cat"
cp -L /lib64/ld-linux-x86-64.so.2 "$work/gnu/ld.so"
ldd /bin/cat | awk '$3 ~ /^\// { print $3 }' | xargs cp -L -t "$work/gnu"

boot() { # boot VERSION 'OPTIONS OF run.sh' STEP..: appends its figures to those of the version
    local version=$1 options figures code=0
    read -ra options <<<"$2"
    figures=$work/$version.$((RANDOM)).figures
    shift 2
    "$VM_DIR/run.sh" --kernel "$version" "${options[@]}" --timeout 3000 --file "$programs/bench" --file "$work/gnu" --file "$("$VM_DIR/ext4.sh" "$version")" \
        --file "$capture:/files/pgtrace-capture" --out "$figures.out" "$VM_DIR/bench-guest.sh" "$@" >"$figures" 2>"$figures.err" || code=$?
    cat "$figures" >>"$work/$version.all"
    [[ $code == 0 ]] || { tail -n 20 "$figures.err" "$figures" >&2; say "$version, $*: exit code $code"; return 2; }
}
# Without ERMS the kernel copies and clears eight bytes an instruction. With it, QEMU counts each byte of a "rep movsb" as
# one, and a cleared page alone as 4096: everything else would look cheap beside it.
counting='--icount --qemu-arg -cpu --qemu-arg max,-erms'
jobs=()
for version in "${versions[@]}"; do
    : >"$work/$version.all"
    boot "$version" "$counting" matrix cleaner fifo drain slowdown &
    jobs+=($!)
done
status=0
for job in "${jobs[@]}"; do wait "$job" || status=2; done
# One after the other: a drain that waits for the host's CPU would lose what it does not lose alone.
for version in "${versions[@]}"; do
    for cpus in 2 4; do boot "$version" "--cpus $cpus --memory 3072" flat=700000 || status=2; done
done
reports=()
for version in "${versions[@]}"; do reports+=("$version=$work/$version.all"); done
"${PYTHON:-python3}" "$VM_DIR/bench-report.py" "${BENCH_OUT:-$REPO_DIR/target/bench}" "${reports[@]}" || { code=$?; [[ $status != 0 ]] || status=$code; }
exit "$status"
