#!/bin/bash
# make-patterns-capture.sh [FOLDER]: records the labelled strings of workloads/patterns.c anew, into testdata/patterns or
# FOLDER: the chunks, and the truth beside them. The recording is checked into the tree: a test of the views reads it.
# KERNEL, CPUS; PATTERNS='REFS SEED SET..': another one.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

kernel=${KERNEL:-6.1} cpus=${CPUS:-2} patterns=${PATTERNS:-500 1 alone turns-noise}
to=${1:-$REPO_DIR/testdata/patterns}
capture=$STATIC_CAPTURE
[[ -x $capture ]] || die 2 "no static pgtrace-capture at $capture (make builds it)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

programs=$("$VM_DIR/workloads/build.sh")
"$VM_DIR/build.sh" "$kernel" >/dev/null
"$VM_DIR/run.sh" --kernel "$kernel" --cpus "$cpus" --one-thread --timeout 120 --file "$programs/patterns" \
    --file "$VM_DIR/truth/guest-torture.sh" --file "$VM_DIR/truth/guest-recorder.sh" --file "$capture:/files/pgtrace-capture" \
    --out "$work" "$VM_DIR/truth/guest.sh" "PATTERNS=$patterns" patterns >&2 || die 2 "the recording failed (exit code $?)"
! grep '^FAIL' "$work/output.txt" >&2 || die 2 "the recording failed"

# The raw bytes against the module's own count, before they are called good.
python3 "$VM_DIR/truth/figures.py" "$work/patterns/chunks" "$work/patterns/status"
mkdir -p "$to"
rm -f "$to"/*.pgt
cp "$work"/patterns/chunks/*.pgt "$work/patterns/truth" "$to/"
chmod 644 "$to"/*
say "wrote $to: $(du -cb "$to"/*.pgt | tail -1 | cut -f1) bytes, $(sed -n 's/^kernel //p' "$work/patterns/status")"
