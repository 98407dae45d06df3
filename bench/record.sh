#!/bin/bash
# record.sh [FOLDER]: records sort, a join in sqlite3, grep and md5sum in the virtual machine: a million references, 75 MB
# of raw chunks, for bench/ingest.py to scale up. Takes some 5 minutes. Wants `make static deps-vm`, and sqlite3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
to=${1:-target/bench/real}
rows=400000 keys=200000
exec kmod/vm/record.sh --out "$to" --memory 1536 --timeout 1500 --clean 5ms "
    seq 1 $rows | sort -R --random-source=/bin/sh > a.txt
    sort -n a.txt > b.txt &
    sqlite3 t.db 'create table t(id integer primary key, k integer, v text);
        with recursive c(x) as (select 1 union all select x+1 from c where x<$keys)
            insert into t select x, (x*7919)%$keys, hex(x*x) from c;
        create index i on t(k);
        select count(*) from t a join t b on a.k=b.id where a.v > b.v;
        select sum(length(v)) from t;'
    wait
    grep -c 7 a.txt
    md5sum a.txt b.txt t.db"
