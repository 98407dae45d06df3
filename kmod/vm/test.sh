#!/bin/bash
# test.sh [--quick] [6.1|6.12 ..]: the kernel side held against the truth. Boots kernels with 1, 2 and 4 CPUs, records
# workloads whose reference string is known, sends the recordings through pgtrace-ingest and pgtrace-sql, and tries what
# must not hurt. One line a check; the last line is "N passed, M failed". --quick: one boot of 6.1.
#
# PGTRACE_CAPTURE_STATIC, PGTRACE_INGEST, PGTRACE_SQL: the programs (default: below target/, as cargo and make build them)
# KEEP=DIR: leave what the machines wrote there
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

quick=0
[[ ${1-} != --quick ]] || { quick=1; shift; }
versions=("$@")
if [[ ${#versions[@]} == 0 ]]; then
    if [[ $quick == 1 ]]; then versions=(6.1); else versions=("${ALL_VERSIONS[@]}"); fi
fi
export PGTRACE_INGEST=${PGTRACE_INGEST:-$REPO_DIR/target/debug/pgtrace-ingest}
export PGTRACE_SQL=${PGTRACE_SQL:-$REPO_DIR/target/debug/pgtrace-sql}
capture=$STATIC_CAPTURE
for program in "$capture" "$PGTRACE_INGEST" "$PGTRACE_SQL"; do
    [[ -x $program ]] || die 2 "missing: $program (make builds it)"
done
command -v python3 >/dev/null || die 2 "python3 is missing (package python3)"

# shellcheck source=results.sh
. "$VM_DIR/results.sh"
programs=$("$VM_DIR/workloads/build.sh")

# boot NAME 'OPTIONS OF run.sh' STEP..: one machine; then every recording it made is checked on the host.
boot() {
    local name=$1 options code=0 start=$SECONDS step scenario
    read -ra options <<<"$2"
    shift 2
    local kernel=${name%%,*} out=$work/${name//[ ,]/_}
    "$VM_DIR/run.sh" --kernel "$kernel" "${options[@]}" --timeout 600 --file "$programs/workload" --file "$programs/torture" \
        --file "$programs/targets" --file "$programs/events" --file "$programs/fuzz" --file "$programs/patterns" \
        --file "$VM_DIR/truth/guest-torture.sh" --file "$VM_DIR/truth/guest-recorder.sh" \
        --file "$capture:/files/pgtrace-capture" --file "$("$VM_DIR/ext4.sh" "$kernel")" --out "$out" \
        "$VM_DIR/truth/guest.sh" "$@" >"$out.stdout" 2>"$out.stderr" || code=$?
    machine_results "$name" "$out" "$code" "$start"
    for step in "$@"; do
        case $step in
        raw)
            expect "$name, raw relay files against the truth" python3 "$VM_DIR/truth/check.py" "$out/raw/truth" "$out/raw/raw"
            [[ $kernel != "${versions[0]}" ]] || expect "the check can fail" python3 "$VM_DIR/truth/mutate.py" "$out/raw/truth" "$out/raw/raw"
            ;;
        tiny_raw) expect "$name, tiny buffers read late" python3 "$VM_DIR/truth/check.py" --lossy "$out/tiny_raw/truth" "$out/tiny_raw/raw" ;;
        uid) expect "$name, processes of one user" python3 "$VM_DIR/truth/check.py" --level rich --uid 1000 "$out/uid/truth" "$out/uid/raw" ;;
        events)
            expect "$name, mapping life" python3 "$VM_DIR/truth/events.py" "$out/maps/truth" "$out/maps/raw"
            expect "$name, fault-around" python3 "$VM_DIR/truth/events.py" "$out/around/truth" "$out/around/raw"
            expect "$name, fault-around under a FIFO" python3 "$VM_DIR/truth/events.py" --fifo "$out/around_fifo/truth" "$out/around_fifo/raw"
            expect "$name, huge pages left whole" python3 "$VM_DIR/truth/events.py" --order 9 "$out/huge/truth" "$out/huge/raw"
            expect "$name, huge pages split" python3 "$VM_DIR/truth/events.py" "$out/small/truth" "$out/small/raw"
            ;;
        fifo)
            for n in 32 64 256; do
                expect "$name, FIFO of $n" python3 "$VM_DIR/truth/check.py" --fifo $n "$out/fifo$n/truth" "$out/fifo$n/raw"
            done
            ;;
        patterns) expect "$name, verdicts on labelled strings" python3 "$VM_DIR/truth/patterns.py" "$out/patterns" ;;
        flight) expect "$name, newest kept, two snapshots" python3 "$VM_DIR/truth/flight.py" "$out/flight" ;;
        full) pipeline "$name, level full" "$out/full" ;;
        ext4) pipeline "$name, files on ext4" "$out/ext4" ;;
        rich | light) pipeline "$name, level $step" "$out/$step" --level "$step" ;;
        tiny) pipeline "$name, tiny buffers" "$out/tiny" --lossy ;;
        who | churn)
            for scenario in "$out"/who/*/; do
                scenario=${scenario%/}
                expect "$name, who is recorded: ${scenario##*/}" python3 "$VM_DIR/truth/who.py" "$scenario/truth" "$scenario/raw"
            done
            ;;
        again)
            pipeline "$name, a recording" "$out/again1" --level rich
            pipeline "$name, another one after it" "$out/again2"
            ;;
        perf)
            expect "$name, perf against the truth" python3 "$VM_DIR/truth/perf.py" "$out/perf"
            expect "$name, perf of a running process" python3 "$VM_DIR/truth/perf.py" "$out/perf_pid"
            expect "$name, perf without root" python3 "$VM_DIR/truth/perf.py" --uid 1000 "$out/perf_user"
            expect "$name, perf with losses" python3 "$VM_DIR/truth/perf.py" --lossy "$out/perf_lossy"
            ;;
        keep) expect "$name, the newest 2 MiB on disk" python3 "$VM_DIR/truth/newest.py" "$out/keep" ;;
        memory) expect "$name, snapshots of memory" python3 "$VM_DIR/truth/newest.py" --snapshots "$out/memory" ;;
        lately) expect "$name, the last two seconds" python3 "$VM_DIR/truth/newest.py" --last 2.5 "$out/lately" ;;
        full_disk) pipeline "$name, a disk nearly full" "$out/full_disk" --no-truth --any-loss ;;
        switch) expect "$name, switched while it runs" python3 "$VM_DIR/truth/switch.py" "$out/switch" ;;
        torture) pipeline "$name, torture" "$out/torture" --no-truth --any-loss ;;
        fuzz) expect "$name, a recording after the fuzzing" python3 "$VM_DIR/truth/check.py" "$out/fuzz/truth" "$out/fuzz/raw" ;;
        recorder) pipeline "$name, interrupted" "$out/interrupted" --no-truth --any-loss ;;
        esac
    done
}
pipeline() { # pipeline NAME FOLDER OPTIONS..
    expect "$1: chunks to SQL" python3 "$VM_DIR/truth/pipeline.py" "${@:2}"
}

for version in "${versions[@]}"; do "$VM_DIR/build.sh" "$version" >/dev/null; done
if [[ $quick == 1 ]]; then
    for version in "${versions[@]}"; do boot "$version, 2 CPUs" '--cpus 2 --one-thread' raw ext4 tiny uid who safety perf; done
else
    # Two machines at a time. What starts and stops under load runs on one thread, see run.sh.
    beside() {
        while [[ $(jobs -rp | wc -l) -ge 2 ]]; do wait -n || true; done
        boot "$@" &
    }
    for version in "${versions[@]}"; do
        beside "$version, 2 CPUs" '--cpus 2' raw ext4 tiny torture
        beside "$version, 1 CPU" '--cpus 1' full rich tiny_raw leaks
        beside "$version, 1 CPU, who" '--cpus 1' who
        beside "$version, 2 CPUs in turn" '--cpus 2 --one-thread' light again uid perf safety recorder events flight
        beside "$version, 4 CPUs in turn" '--cpus 4 --one-thread' full fifo patterns chaos
        beside "$version, 4 CPUs in turn, who" '--cpus 4 --one-thread' who
        beside "$version, 2 CPUs in turn, churn" '--cpus 2 --one-thread' who churn
        beside "$version, 2 CPUs, left running" '--cpus 2 --one-thread' keep memory lately full_disk switch doctor
        beside "$version, 1 CPU, left running" '--cpus 1' keep memory lately
        beside "$version, 2 CPUs, under pressure" '--cpus 2 --one-thread' TORTURE=2 pressure fuzz
        beside "$version, 2 CPUs, huge pages" '--cpus 2 --one-thread' TORTURE=2 huge
    done
    wait
fi
summary
