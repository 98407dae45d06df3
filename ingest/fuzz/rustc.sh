#!/bin/sh
# RUSTC_WRAPPER: counts the branches of our own crates and of the JSON reader; those of arrow and tokio would only be in
# the way. These options are all that cargo-fuzz would add, and the pinned stable compiler has them.
rustc=$1
shift
case " $* " in
*" --crate-name pgtrace_"* | *" --crate-name serde_json "* | *" --crate-name fuzz "*)
	set -- "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
		-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
		-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing --check-cfg 'cfg(fuzzing)'
	;;
esac
exec "$rustc" "$@"
