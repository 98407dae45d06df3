#!/bin/bash
# run.sh: the figures of bench/README.md. Wants `make demo` and the Python of `make interop` (make bench sees to both).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
.venv/bin/python bench/bytes.py target/demo testdata/demo
