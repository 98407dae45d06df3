#!/bin/bash
# demo.sh DATASET: ingests the real capture of testdata/demo into DATASET and asks it the first questions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
dataset=${1:-target/demo}
ingest=${PGTRACE_INGEST:-target/debug/pgtrace-ingest}
sql=${PGTRACE_SQL:-target/debug/pgtrace-sql}
sql=${sql#"$PWD/"} # shorter to read and to type

title() { printf '\n== %s\n' "$*"; }
ask() { "$sql" "$dataset" -c "$1"; }

title "Ingest: testdata/demo (recorded by the module in a real kernel) -> $dataset"
mkdir -p "$(dirname "$dataset")"
"$ingest" testdata/demo --to "$dataset" || { code=$?; [[ $code == 1 ]] || exit "$code"; } # 1: done, with losses

title 'What was recorded'
ask 'SELECT * FROM summary'
ask 'SELECT p.pid, p.comm, p.exe, count(*) AS refs, count(DISTINCT r.object_id) AS objects
     FROM processes p JOIN refs r ON r.upid = p.upid AND r.capture_id = p.capture_id
     GROUP BY p.pid, p.comm, p.exe ORDER BY refs DESC LIMIT 12'

ask "SELECT count(*) AS files, count(*) FILTER (WHERE deleted) AS deleted, max(CASE WHEN deleted THEN path END) AS deleted_file,
            (SELECT coalesce(sum(count), 0) FROM losses) AS lost FROM objects WHERE object_kind = 'file'"

title 'The hottest files'
ask 'SELECT path, object_kind, refs, pages, reads, writes, execs, processes FROM hot_files WHERE path IS NOT NULL LIMIT 10'

title 'How often each file'"'"'s pages come back (IRF, in references)'
ask 'SELECT path, pages, pages_once, refs, round(gap_mean, 1) AS gap_mean, round(irf_rate, 5) AS irf_rate, round(irf_mean_inverse, 5) AS irf_mean_inverse
     FROM object_irf WHERE path IS NOT NULL AND refs > pages_once ORDER BY refs DESC LIMIT 10'

title 'IRF histogram: pages of the most re-referenced file, by their mean gap in references'
ask "SELECT h.path, CAST(h.gap_low AS BIGINT) AS gap_from, CAST(h.gap_high AS BIGINT) AS gap_below, h.pages,
            repeat('#', CAST(ceil(40.0 * h.pages / max(h.pages) OVER ()) AS BIGINT)) AS histogram
     FROM irf_histogram h
     WHERE h.object_id = (SELECT object_id FROM object_irf WHERE path IS NOT NULL ORDER BY pages - pages_once DESC, path LIMIT 1)
     ORDER BY gap_from"

title 'Three things to try next'
cat <<TEXT
  $sql $dataset                                      # the SQL shell; \\d lists tables and views
  $sql $dataset -c "SELECT * FROM page_irf ORDER BY refs DESC LIMIT 20"
  make vm-record CMD='ls -lR /usr/share/doc' OUT=my-trace     # record a program of yours in the virtual machine
TEXT
