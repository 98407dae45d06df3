#!/bin/bash
# run.sh: the figures of bench/README.md. Wants `make demo` and the Python of `make interop` (make bench sees to both).
# QUICK=1: a tenth of the references, once, to see that all of it works.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo build --locked --release --workspace --bins --example scale --example decode_merge --example bytes_read
.venv/bin/python bench/bytes.py target/demo testdata/demo
.venv/bin/python bench/ingest.py ${QUICK:+--quick}
cargo run --locked --release -p pgtrace-locality --example confusion
cargo run --locked --release -p pgtrace-locality --example speed
.venv/bin/python bench/sql.py ${QUICK:+--quick}
