#!/bin/bash
# torture.sh [--quick] [6.1|6.12|debug61|planted ..]: what must not hurt, tried for long: `make torture-kernel`.
#   6.1, 6.12  Debian's kernels: memory checked byte for byte under everything a program can do to it, a hundred unloads,
#              the control files in wrong hands, and what the module took is given back
#   debug61    the same on a kernel that watches itself (debug-kernel.sh): one report and the run has failed
#   planted    proves that it can fail: bugs planted one at a time, each must be found
# Default: all of them. One line a check; the last line is "N passed, M failed". --quick: a tenth of it.
#
# torture.sh --steps 'STEP..' KERNEL: these steps of truth/guest-torture.sh only (NAME=VALUE sets one of its settings)
# torture.sh --steps 'BUG..' planted: these bugs of planted.sh only
# CPUS=N: virtual processors (default 2). KEEP=DIR: leave what the machines wrote there
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=planted.sh
. "$VM_DIR/planted.sh"

quick=0 only=''
while [[ $# -gt 0 ]]; do
    case $1 in
    --quick) quick=1 && shift ;;
    --steps) only=$2 && shift 2 ;;
    -*) die 2 "usage: torture.sh [--quick] [--steps 'STEP..'] [6.1|6.12|debug61|planted ..]" ;;
    *) break ;;
    esac
done
parts=("$@")
[[ ${#parts[@]} -gt 0 ]] || parts=(6.1 6.12 debug61 planted)
command -v python3 >/dev/null || die 2 "python3 is missing (package python3)"

# shellcheck source=results.sh
. "$VM_DIR/results.sh"

programs=$("$VM_DIR/workloads/build.sh")

# machine KERNEL OUT STEP..: code, $OUT.stdout, $OUT.stderr. One thread: the kernel is patched under load, see run.sh.
machine() {
    local kernel=$1 out=$2 options=(--memory 1024)
    shift 2
    [[ $kernel != debug61 ]] || options=(--memory 1024 --qemu-arg -M --qemu-arg q35 --append "kasan_multi_shot ${loud-}")
    code=0
    "$VM_DIR/run.sh" --kernel "$kernel" --cpus "${CPUS:-2}" --one-thread --timeout "${limit:-7200}" "${options[@]}" \
        --file "$programs/workload" --file "$programs/torture" --file "$programs/fuzz" --file "$programs/lazyfree" \
        --file "$VM_DIR/truth/guest-torture.sh" --file "$VM_DIR/truth/guest-recorder.sh" --file "$("$VM_DIR/ext4.sh" "$kernel")" \
        --out "$out" "$VM_DIR/truth/guest.sh" "$@" >"$out.stdout" 2>"$out.stderr" || code=$?
}

torture() { # torture KERNEL[, WHAT] STEP..
    local name=$1 kernel=${1%%,*} out=$work/${1//, /-} start=$SECONDS
    machine "$kernel" "$out" "${@:2}"
    machine_results "$name" "$out" "$code" "$start"
    [[ -e $out/fuzz/truth ]] || return 0
    expect "$name: a recording after the fuzzing" python3 "$VM_DIR/truth/check.py" "$out/fuzz/truth" "$out/fuzz/raw"
}

# What proves itself by being found: the run must fail, and say what the bug is.
find_planted() { # find_planted NAME KERNEL PATTERN STEP..
    local bug=$1 kernel=$2 pattern=$3 out=$work/planted-$1 start=$SECONDS running
    shift 3
    [[ -z $only || " $only " == *" $bug "* ]] || return 0
    # run.sh and build.sh find the module by these.
    export PGTRACE_KMOD_SRC=$out.src PGTRACE_KMOD_OUT=$out.built
    plant "$bug" "$REPO_DIR/kmod" "$PGTRACE_KMOD_SRC"
    "$VM_DIR/build.sh" "$kernel" >/dev/null
    # Loud: said at once, not only in dmesg.txt. Not for the others: lockdep complains of the serial console in interrupts.
    (limit=1800 loud=ignore_loglevel machine "$kernel" "$out" "SEED=$seed" "$@"; printf '%s\n' "$code" >"$out.code") &
    running=$!
    # In the kernel's words, the workload's, or the steps'. Once it is said, the rest does not matter.
    # (All of it is read: with pipefail, what a quick grep leaves unread would pass for a failure.)
    says() { { cat "$out.stdout" "$out/dmesg.txt" "$out/console.log" 2>/dev/null || true; } | tr -d '\r' | grep -aE -- "$pattern" >/dev/null; }
    while kill -0 $running 2>/dev/null && ! says; do sleep 2; done
    pkill -TERM -P $running 2>/dev/null || true # run.sh stops its machine
    wait $running || true
    unset PGTRACE_KMOD_SRC PGTRACE_KMOD_OUT
    if says; then
        ok "planted bug $bug is found ($((SECONDS - start)) s)"
    else
        failed "planted bug $bug is NOT found: exit code $(<"$out.code")"$'\n'"$(tail -n 20 "$out.stdout" "$out.stderr")"
    fi
}

seed=$(date +%s)
if [[ $quick == 1 ]]; then settings=(TORTURE=4 ROUNDS=10 FUZZ=4 "SEED=$seed"); else settings=(TORTURE=30 ROUNDS=100 FUZZ=30 "SEED=$seed"); fi
for part in "${parts[@]}"; do
    case $part in
    planted)
        "$VM_DIR/debug-kernel.sh"
        each_planted find_planted
        ;;
    *)
        [[ $part != debug61 ]] || "$VM_DIR/debug-kernel.sh"
        "$VM_DIR/build.sh" "$part" >/dev/null
        if [[ -n $only ]]; then
            read -ra steps <<<"$only"
            torture "$part" "${steps[@]}"
            continue
        fi
        steps=("${settings[@]}" pressure huge leaks fuzz) chaos=("${settings[@]}" chaos)
        # Everything costs five to ten times as much where the kernel watches itself.
        if [[ $part == debug61 ]]; then
            steps=(watch "${settings[@]}" TORTURE=15 WORKERS=1 LEAKS=8 FUZZ=120 SWAPPED=30 HUGE=0 SHRINK=32768 PATIENCE=6 untraced pressure huge leaks fuzz safety verdict)
            chaos=(watch "${settings[@]}" chaos verdict)
        fi
        # Two machines at a time: a machine is one thread.
        torture "$part, unloads" "${chaos[@]}" &
        torture "$part" "${steps[@]}" &
        wait
        ;;
    esac
done
summary
