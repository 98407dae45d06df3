#!/bin/bash
# bench-profile.sh traced|untraced [6.1|6.12] [LEVEL] [anon|file|disk]: where the fault hook's instructions go, by function and one by one.
# QEMU writes down every block of the module's region that it executes while a program faults 16,384 times. What the hook
# calls in the kernel itself is not in it: the difference to the table of bench.sh.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

who=${1-} version=${2:-6.1} level=${3:-light} kind=${4:-anon}
[[ $who == traced || $who == untraced ]] || { echo "usage: bench-profile.sh traced|untraced [6.1|6.12] [light|rich|full] [anon|file|disk]" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
programs=$("$VM_DIR/workloads/build.sh")
"$VM_DIR/build.sh" "$version" >/dev/null
cat >"$work/guest.sh" <<'GUEST'
mkdir -p /tmp/ram && mount -t ramfs ramfs /tmp/ram
for module in /files/*-ext4/*.ko; do insmod "$module" 2>/dev/null; done
mkdir -p /tmp/ext4 && losetup /dev/loop0 /files/*-ext4/image && mount -t ext4 /dev/loop0 /tmp/ext4 || exit 2
insmod /lib/pgtrace/pgtrace.ko || exit 2
control=/sys/kernel/debug/pgtrace/control
pid=$$
[ "$1" = traced ] || { sleep 1000 & pid=$!; }
for line in clear "pid $pid" "level $2" 'clean 0' start; do echo "$line" >$control || exit 2; done
cat /proc/kallsyms >/tmp/kallsyms # in memory: 9p is in the same region
/files/bench faults "$3"
echo stop >$control
cp /tmp/kallsyms /out/kallsyms
GUEST
# Without KASLR modules lie at the same place in every boot.
"$VM_DIR/run.sh" --kernel "$version" --icount --timeout 600 --append nokaslr --qemu-arg -d --qemu-arg in_asm,exec,nochain --qemu-arg -dfilter \
    --qemu-arg 0xffffffffc0000000+0x4000000 --qemu-arg -D --qemu-arg "$work/trace" --file "$programs/bench" \
    --file "$("$VM_DIR/ext4.sh" "$version")" --out "$work/out" "$work/guest.sh" "$who" "$level" "$kind" >&2
python3 "$VM_DIR/bench-profile.py" "$work/trace" "$work/out/kallsyms" 16384
