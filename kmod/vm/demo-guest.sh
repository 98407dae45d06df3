#!/bin/sh
# demo-guest.sh SECONDS CLEAN: the part of make-demo-capture.sh that runs in the virtual machine.
seconds=$1 clean=$2
for file in /files/*-ext4/*.ko; do insmod "$file" 2>/dev/null; done
mkdir -p /data /opt/db
losetup /dev/loop0 /files/*-ext4/image && mount -t ext4 /dev/loop0 /data || exit 2
mv /files/demo /opt/db/database
for name in make scan column join lookup writer sort archive; do ln -s database /opt/db/db-$name; done
/opt/db/db-make /data 0 || exit 2
sync
echo 3 >/proc/sys/vm/drop_caches # so that the first touches need I/O
insmod /lib/pgtrace/pgtrace.ko || exit 2
cd /data || exit 2
/files/pgtrace-capture record -o /out/raw --level full --clean "$clean" -- /opt/db/database /data "$seconds"
code=$?
cat /sys/kernel/debug/pgtrace/status >/out/status
uname -r >/out/release
date -u +%Y-%m-%d >/out/date
rmmod pgtrace || exit 2
exit $code
