# shellcheck shell=bash
# Shared by test.sh and torture.sh: the folder for what machines leave, and the list of checks, one line each.
# Sourced after lib.sh, never run. KEEP=DIR: leave that folder there.

work=${KEEP:-$(mktemp -d)}
mkdir -p "$work"
[[ -n ${KEEP-} ]] || trap 'rm -rf "$work"' EXIT
results=$work/results
: >"$results"
ok() { printf 'ok    %s\n' "$*" | tee -a "$results"; }
failed() { printf 'FAIL  %s\n' "$*" | tee -a "$results"; }
expect() { # expect NAME COMMAND..: its stdout is shown, and its exit code decides
    local name=$1 said code=0
    shift
    said=$("$@" 2>&1) || code=$?
    if [[ $code == 0 ]]; then ok "$name: ${said//$'\n'/; }"; else failed "$name"$'\n'"$said"; fi
}

# machine_results NAME OUT CODE START: what guest.sh said in OUT.stdout, and how the machine ended.
machine_results() {
    local name=$1 out=$2 code=$3 start=$4 line
    while IFS= read -r line; do
        case $line in
        ok\ *) ok "$name: ${line#ok }" ;;
        FAIL\ *) failed "$name: ${line#FAIL }" ;;
        esac
    done <"$out.stdout"
    if [[ $code == 0 ]]; then ok "$name: the kernel is content ($((SECONDS - start)) s)"; else
        failed "$name: exit code $code"$'\n'"$(tail -n 40 "$out.stderr")"
    fi
}

# The last line, and the exit code. Nothing passed is a failure.
summary() {
    local passed failures
    passed=$(grep -c '^ok ' "$results" || true)
    failures=$(grep -c '^FAIL ' "$results" || true)
    [[ $passed -gt 0 ]] || failures=$((failures + 1))
    printf '%s passed, %s failed\n' "$passed" "$failures"
    [[ $failures == 0 ]]
}
