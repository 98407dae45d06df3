#!/bin/sh
# record-guest.sh LEVEL CLEAN COMMAND: the part of record.sh that runs in the virtual machine. COMMAND is a line for sh.
level=$1 clean=$2 command=$3
insmod /lib/pgtrace/pgtrace.ko || { echo "record: the module does not load: $(dmesg | tail -1)" >&2; exit 2; }
mkdir -p /out/raw
# The program sees the host's files read-only, and /tmp, /run, /var/tmp, /dev/shm empty and writable. /bin/sh by its
# path: for "sh" alone busybox would take its own, and that its own ls and sort.
/files/pgtrace-capture record -o /out/raw --level "$level" --clean "$clean" -- chroot /host /bin/sh -c "cd /tmp && $command"
code=$?
cat /sys/kernel/debug/pgtrace/status >/out/status
rmmod pgtrace || exit 2
exit $code
