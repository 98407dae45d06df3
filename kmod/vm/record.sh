#!/bin/bash
# record.sh: record any program of this machine in the virtual machine.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'USAGE'
usage: record.sh --out DIR [--kernel 6.1|6.12] [--level light|rich|full] [--clean 500ms|off] [--cpus N] [--memory MB]
                 [--timeout S] COMMAND..

Boots a kernel with the module, runs COMMAND (a line for sh when it is one word) on this machine's files, which it sees
read-only, with an empty writable /tmp as its working directory, and brings the raw chunks of its page references to DIR.
COMMAND's output goes to stdout. DIR/vm keeps the machine's own output. Needs a static pgtrace-capture
(PGTRACE_CAPTURE_STATIC; make builds it). The machine is emulated: about 20 times slower than this one, and a look at a
file of this machine takes milliseconds.
Defaults: --kernel 6.1 --level full --clean 500ms --cpus 2 --memory 1024 --timeout 300

  record.sh --out /tmp/sorted 'sort /usr/share/dict/words | tail -3'

Exit code: 0 recorded; 1 recorded, with losses; 2 error; 3 the kernel crashed or complained; 124 timeout.
USAGE
}

kernel=6.1 level=full clean=500ms cpus=2 memory=1024 seconds=300 out=''
while [[ $# -gt 0 ]]; do
    case $1 in
    --out | --kernel | --level | --clean | --cpus | --memory | --timeout)
        [[ $# -ge 2 ]] || die 2 "$1 needs a value" ;;&
    --out) out=$2 && shift 2 ;;
    --kernel) kernel=$2 && shift 2 ;;
    --level) level=$2 && shift 2 ;;
    --clean) clean=$2 && shift 2 ;;
    --cpus) cpus=$2 && shift 2 ;;
    --memory) memory=$2 && shift 2 ;;
    --timeout) seconds=$2 && shift 2 ;;
    -h | --help) usage && exit 0 ;;
    --) shift && break ;;
    -*) usage >&2 && die 2 "unknown option $1" ;;
    *) break ;;
    esac
done
[[ -n $out && $# -gt 0 ]] || { usage >&2; die 2 "needs --out DIR and a COMMAND"; }
case $level in light | rich | full) ;; *) die 2 "no level '$level': light, rich or full" ;; esac
# Several words are a command with its arguments, one word is a line for the shell.
command=$1
[[ $# == 1 ]] || command=$(printf '%q ' "$@")

capture=$STATIC_CAPTURE
[[ -x $capture ]] || die 2 "no static pgtrace-capture at $capture: build it with
  RUSTFLAGS='-C target-feature=+crt-static' cargo build -p pgtrace-capture --target x86_64-unknown-linux-gnu"
mkdir -p "$out" || die 2 "cannot make $out"
shopt -s nullglob
old=("$out"/*.pgt)
[[ ${#old[@]} == 0 ]] || die 2 "$out already holds a recording (${old[0]##*/}): take another folder, or remove it"

"$VM_DIR/build.sh" "$kernel" >/dev/null
status=0
"$VM_DIR/run.sh" --kernel "$kernel" --cpus "$cpus" --memory "$memory" --timeout "$seconds" --host-root \
    --file "$capture:/files/pgtrace-capture" --out "$out/vm" "$VM_DIR/record-guest.sh" "$level" "$clean" "$command" || status=$?
chunks=("$out"/vm/raw/*.pgt)
if [[ ${#chunks[@]} -gt 0 ]]; then
    mv "${chunks[@]}" "$out/"
    rmdir "$out/vm/raw" 2>/dev/null || true
fi
case $status in
0 | 1)
    [[ ${#chunks[@]} -gt 0 ]] || die 2 "nothing was recorded; see $out/vm/output.txt"
    say "recorded ${#chunks[@]} chunks in $out, $(du -ch "$out"/*.pgt | tail -1 | cut -f1). Next:
  pgtrace-ingest $out --to $out.dataset
  pgtrace-sql $out.dataset -c 'SELECT path, count(*) AS refs FROM refs GROUP BY path ORDER BY refs DESC LIMIT 10'"
    ;;
124) die 124 "the command did not end within $seconds s (--timeout); recorded until then: ${#chunks[@]} chunks in $out" ;;
*) say "the recording failed; see $out/vm/output.txt and $out/vm/dmesg.txt" ;;
esac
exit "$status"
