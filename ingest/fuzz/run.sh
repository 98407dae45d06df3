#!/bin/bash
# Fuzzes each target (or those named) for FUZZ_SECONDS. Inputs that break something are left in target/fuzz/found/;
# with FUZZ_KEEP=1 the fewest inputs that reach all that was reached become the new corpus.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${FUZZ_SECONDS:-20}
work=../../target/fuzz
mkdir -p "$work/found"

# The versions of the workspace; what libFuzzer itself needs is pinned in Cargo.toml.
cp ../../Cargo.lock Cargo.lock
RUSTC_WRAPPER=$PWD/rustc.sh CARGO_TARGET_DIR=$work cargo build --quiet
for crate in arrow parquet; do
	n=$(grep -c "^name = \"$crate\"$" Cargo.lock)
	[ "$n" = 1 ] || { echo "fuzz: $n versions of $crate, expected 1" >&2; exit 2; }
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
status=0
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(ls corpus)
for target in "${targets[@]}"; do
	new=$work/new/$target
	log=$scratch/log
	mkdir -p "$new"
	run() {
		FUZZ_TARGET=$target TMPDIR=$scratch "$work/debug/fuzz" -max_len=4096 -timeout=25 -rss_limit_mb=1024 \
			-artifact_prefix="$work/found/$target-" "$@" >"$log" 2>&1
	}
	if ! run -max_total_time="$seconds" -print_final_stats=1 "$new" "corpus/$target"; then
		grep -A3 'panicked' "$log" || tail -20 "$log"
		echo "fuzz: $target: broken by an input in target/fuzz/found/; mend it and add the input to corpus/$target" >&2
		status=1
		continue
	fi
	# The last line of progress says what is covered; the statistics, what was done.
	sed -n 's/^stat::number_of_executed_units: *//p' "$log" | {
		read -r units
		covered=$(grep -o 'cov: [0-9]* ft: [0-9]* corp: [0-9]*' "$log" | tail -1)
		echo "fuzz: $target: $units executions in $seconds s, ${covered:-no coverage}"
	}
	if [ -n "${FUZZ_KEEP:-}" ]; then
		rm -rf "$scratch/kept"
		mkdir "$scratch/kept"
		run -merge=1 "$scratch/kept" "corpus/$target" "$new"
		# A few, 6 KiB of them, as their hashes (the names) have it; what has another name was put there by hand, and stays.
		find "corpus/$target" -type f -regextype posix-extended -regex '.*/[0-9a-f]{40}' -delete
		find "$scratch/kept" -type f -size -2k -printf '%f %s\n' | sort | sed -n 1,40p | {
			sum=0
			while read -r name size; do
				sum=$((sum + size))
				[ "$sum" -le 6144 ] || break
				cp "$scratch/kept/$name" "corpus/$target/"
			done
		}
	fi
done
exit $status
