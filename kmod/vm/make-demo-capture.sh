#!/bin/bash
# make-demo-capture.sh [FOLDER]: records the toy database of workloads/demo.c anew, into testdata/demo or FOLDER, and
# writes the folder's README.md. The recording is checked into the tree: `make demo` shows it, and tests read it.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

kernel=6.1 cpus=2 seconds=${SECONDS_OF_DEMO:-8} clean=${CLEAN_OF_DEMO:-100ms}
to=${1:-$REPO_DIR/testdata/demo}
capture=$STATIC_CAPTURE
[[ -x $capture ]] || die 2 "no static pgtrace-capture at $capture (make builds it)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

programs=$("$VM_DIR/workloads/build.sh")
disk=$("$VM_DIR/ext4.sh" "$kernel")
"$VM_DIR/build.sh" "$kernel" >/dev/null
"$VM_DIR/run.sh" --kernel "$kernel" --cpus "$cpus" --timeout 120 --file "$programs/demo" --file "$disk" \
    --file "$capture:/files/pgtrace-capture" --out "$work/out" "$VM_DIR/demo-guest.sh" "$seconds" "$clean" >&2 ||
    die 2 "the recording failed, or lost records (exit code $?)"

# The raw bytes against the module's own count, before they are called good.
figures=$(python3 "$VM_DIR/truth/figures.py" "$work/out/raw" "$work/out/status")
size=$(du -cb "$work"/out/raw/*.pgt | tail -1 | cut -f1)
mkdir -p "$to"
rm -f "$to"/*.pgt
cp "$work"/out/raw/*.pgt "$to/"
chmod 644 "$to"/*.pgt
cat >"$to/README.md" <<END
# A toy database, recorded by the module in a real kernel

Made by \`kmod/vm/make-demo-capture.sh\` on $(<"$work/out/date"): Debian's kernel $(<"$work/out/release") in QEMU with $cpus CPUs, files on ext4, caches
dropped before the start, \`pgtrace-capture record --level full --clean $clean -- database /data $seconds\`. $size bytes.

$figures

What ran (\`kmod/vm/workloads/demo.c\`), and what is to be seen:

| program | does | pattern |
|---|---|---|
| \`db-scan\` | reads all of \`table.dat\` (640 pages) through a mapping, again and again, not in the middle third | sequential |
| \`db-column\` | reads every eighth page of \`table.dat\` | strided |
| \`db-join\` | goes over a hash table in its own memory, 48 pages at first, 112 from half-time on | looping |
| \`db-lookup\` (two) | finds rows by \`index.dat\` (256 pages) with Zipf-distributed keys, then reads the row's page of \`table.dat\` | skewed |
| \`db-writer\` | appends to \`wal.log\` with write(), reads its end again with read(), writes to random pages of \`table.dat\` | random, page-cache look-ups |
| \`db-sort\` | merges two halves of \`sort.tmp\`, which it deleted while using it | two sequential strings |
| \`db-archive\` | fills \`segment.current\`, renames it to \`segment.archived\`, reads on (the name is the one at first use) | random |
| \`sort\`, \`grep\` (busybox) | a report from \`export.csv\`, started by \`database\` | page-cache look-ups |
END
say "wrote $to: $size bytes"
