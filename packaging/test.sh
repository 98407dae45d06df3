#!/bin/bash
# test.sh: what `make install`, `make -C kmod install` and DKMS put where, in a temporary root. One line a check; the last
# line is "N passed, M failed".
#
# PGTRACE_BIN: folder of the three commands (default: target/debug)
set -uo pipefail
# shellcheck source=../kmod/vm/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../kmod/vm/lib.sh"
bin=${PGTRACE_BIN:-${CARGO_TARGET_DIR:-$REPO_DIR/target}/debug}
commands=(pgtrace-capture pgtrace-ingest pgtrace-sql)
for command in "${commands[@]}"; do [[ -x $bin/$command ]] || die 2 "missing: $bin/$command (make build)"; done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
ok() { passed=$((passed + 1)) && printf 'ok    %s\n' "$*"; }
bad() { failed=$((failed + 1)) && printf 'FAIL  %s\n' "$*"; }
check() { # check NAME COMMAND..: good when it succeeds and says nothing
    local name=$1 said
    shift
    if said=$("$@" 2>&1) && [[ -z $said ]]; then ok "$name"; else bad "$name: ${said:0:2000}"; fi
}

root=$work/root
make -s -C "$REPO_DIR" install NO_BUILD=1 PROFILE=dev CARGO_TARGET_DIR="$(dirname "$bin")" PREFIX=/usr DESTDIR="$root" \
    UNITDIR=/lib/systemd/system >"$work/install.log" 2>&1 || bad "make install: $(<"$work/install.log")"
share=$root/usr/share

# --- man pages and completions: every option that --help knows ---
helps() { # helps COMMAND: its help and that of its subcommands
    "$bin/$1" --help
    local sub
    for sub in $("$bin/$1" --help | awk '/^Commands:/{on=1; next} /^[^ ]/{on=0} on && /^  [a-z]/{print $1}'); do
        [[ $sub == help ]] || "$bin/$1" "$sub" --help
    done
}
plain_page() { # the page as a person reads it, on lines that never break
    MANWIDTH=1000 man -P cat -E UTF-8 -l "$1" 2>/dev/null | col -b
}
missing() { # missing FILE: words of stdin that are not in it
    local word
    while read -r word; do grep -qF -- "$word" "$1" || printf '%s ' "$word"; done
}
for command in "${commands[@]}"; do
    page=$share/man/man1/$command.1
    check "$command: installed" test -x "$root/usr/bin/$command"
    # Where they are explained, not where an example uses some, perhaps of another command.
    helps "$command" | sed -nE 's/^ +(-[A-Za-z], )?(--[a-z][a-z-]+).*/\2/p' | sort -u >"$work/options"
    [[ $(wc -l <"$work/options") -gt 3 ]] || bad "$command: its options were not understood"
    plain_page "$page" >"$work/page"
    check "$command: its page has its $(wc -l <"$work/options") options" missing "$work/page" <"$work/options"
    check "$command: man has nothing to say about its page" bash -c "man --warnings -E UTF-8 -l '$page' 2>&1 >/dev/null"
    for section in NAME SYNOPSIS DESCRIPTION OPTIONS EXAMPLES 'SEE ALSO' 'EXIT STATUS'; do
        grep -q "^$section" "$work/page" || bad "$command: its page has no $section"
    done
    for file in bash-completion/completions/$command zsh/site-functions/_$command; do
        check "$command: ${file%%/*} completes them" missing "$share/$file" <"$work/options"
    done
    sed 's/^--//' "$work/options" >"$work/words"
    check "$command: fish completes them" missing "$share/fish/vendor_completions.d/$command.fish" <"$work/words"
    # bash itself: the whole of an option from its first half.
    check "$command: bash completes --vers" bash -c "
        . '$share/bash-completion/completions/$command'
        COMP_WORDS=($command --vers) COMP_CWORD=1
        _$command $command --vers $command 2>/dev/null || _${command//-/__} $command --vers $command
        [ \"\${COMPREPLY[*]}\" = --version ]"
    for shell in zsh fish; do
        command -v $shell >/dev/null || continue
        file=$share/zsh/site-functions/_$command
        [[ $shell == zsh ]] || file=$share/fish/vendor_completions.d/$command.fish
        check "$command: $shell can read its completions" "$shell" -n "$file"
    done
done

# --- the systemd unit ---
unit=$root/lib/systemd/system/pgtrace.service
check "the unit names the program that was installed" grep -qF '/usr/bin/pgtrace-capture record' "$unit"
check "no placeholder is left" bash -c "! grep -n @ '$unit'"
if command -v systemd-analyze >/dev/null; then
    # What the unit starts must exist where it says; the module need not.
    sed "s,/usr/bin/pgtrace-capture,$root&,; s,^ExecStartPre=.*,ExecStartPre=+/bin/true," "$unit" >"$work/pgtrace.service"
    check "systemd-analyze verify" systemd-analyze verify --man=no "$work/pgtrace.service"
else
    ok "the unit: not verified, systemd-analyze is not here"
fi
# shellcheck source=pgtrace.default
PGTRACE_OPTIONS=$(. "$root/etc/default/pgtrace" && printf '%s' "$PGTRACE_OPTIONS")
# shellcheck disable=SC2086 # options are words
said=$(PGTRACE_DEBUGFS=$work/none "$bin/pgtrace-capture" record -o "$work/recording" $PGTRACE_OPTIONS 2>&1)
case $said in
*unexpected* | *invalid* | *required* | '') bad "the unit's options are not understood: $said" ;;
*) ok "the unit's options are understood (and without the module: ${said%%$'\n'*})" ;;
esac
echo changed >"$root/etc/default/pgtrace"
make -s -C "$REPO_DIR" install NO_BUILD=1 PROFILE=dev CARGO_TARGET_DIR="$(dirname "$bin")" PREFIX=/usr DESTDIR="$root" >/dev/null 2>&1
check "changed options outlive the next install" grep -qx changed "$root/etc/default/pgtrace"

# --- the module ---
version=$(sed -n 's/^#define PGT_MODULE_VERSION "\(.*\)"/\1/p' "$REPO_DIR/kmod/pgtrace_main.c")
check "one version: module, commands, dkms.conf" bash -c "
    . '$REPO_DIR/kmod/dkms.conf' && [ \"\$PACKAGE_VERSION\" = '$version' ] &&
    '$bin/pgtrace-capture' --version | grep -q ' $version\$' && [ \"\${BUILT_MODULE_NAME[0]}\" = pgtrace ]"
make -s -C "$REPO_DIR/kmod" dkms-source DESTDIR="$root" || bad "make dkms-source"
source=$root/usr/src/pgtrace-$version
# DKMS itself, when it can be had without installing it.
dkms=$(command -v dkms || true)
if [[ -z $dkms ]] && (cd "$work" && apt-get download dkms && dpkg -x dkms_*.deb dkms) >/dev/null 2>&1; then
    dkms=$work/dkms/usr/sbin/dkms
fi
mkdir -p "$work/path"
for name in depmod modinfo modprobe lsmod; do
    printf '#!/bin/bash\nLD_LIBRARY_PATH=%q exec -a %s %q "$@"\n' "$(tool_libs)" "$name" "$VM_CACHE/tools/bin/kmod" >"$work/path/$name"
done
chmod +x "$work/path"/*
for kernel in "${ALL_VERSIONS[@]}"; do
    if ! finished "$kernel" || ! finished tools; then
        ok "kernel $kernel: not fetched, not tried"
        continue
    fi
    headers=$VM_CACHE/$kernel/headers
    release=$(release_of "$kernel")
    compiler=()
    command -v gcc-12 >/dev/null || compiler=(CC=gcc)
    # As DKMS calls it, from the sources it would have, with the words of dkms.conf.
    cp -r "$source" "$work/build-$kernel"
    # shellcheck disable=SC1091,SC2034 # dkms.conf is in the temporary root, and uses the variable
    if build=$(kernel_source_dir=$headers; . "$source/dkms.conf" && printf '%s' "${MAKE[0]}") &&
        (cd "$work/build-$kernel" && LD_LIBRARY_PATH=$(tool_libs) bash -c "$build -s ${compiler[*]-}") >"$work/log" 2>&1; then
        ok "$kernel: builds as DKMS builds it"
    else
        bad "$kernel: does not build as DKMS builds it: $(<"$work/log")"
        continue
    fi
    if PATH=$work/path:$PATH LD_LIBRARY_PATH=$(tool_libs) make -s -C "$work/build-$kernel" KDIR="$headers" DESTDIR="$root" \
        ${compiler[@]+"${compiler[@]}"} install >"$work/log" 2>&1; then
        ok "$kernel: make install"
    else
        bad "$kernel: make install: $(<"$work/log")"
    fi
    check "$kernel: modprobe would find it" grep -q '/pgtrace.ko' "$root/lib/modules/$release/modules.dep"
    if [[ -n $dkms ]]; then
        mkdir -p "$work/dkms-$kernel" "$work/installed/$release"
        for step in add build install; do
            words=("$step" -m pgtrace -v "$version" --dkmstree "$work/dkms-$kernel" --sourcetree "$root/usr/src")
            [[ $step == add ]] || words+=(-k "$release" -a "$(uname -m)" --kernelsourcedir "$headers" --no-depmod)
            [[ $step != install ]] || words+=(--installtree "$work/installed")
            if said=$(PATH=$work/path:$PATH LD_LIBRARY_PATH=$(tool_libs) bash "$dkms" "${words[@]}" 2>&1); then
                ok "$kernel: dkms $step"
            else
                bad "$kernel: dkms $step: $said"
            fi
        done
        built=$(find "$work/installed/$release" -name 'pgtrace.ko*')
        check "$kernel: dkms put it below updates/dkms" grep -q '/updates/dkms/pgtrace.ko' <<<"$built"
    else
        ok "$kernel: dkms itself not tried, it is neither here nor to be had"
    fi
    module=$(find "$root/lib/modules/$release" -name 'pgtrace.ko*')
    kmod_as modinfo "$module" >"$work/modinfo" 2>&1
    mapfile -t parameters < <(sed -n 's/^module_param\(_named\)\?(\([a-z_]*\).*/\2/p' "$REPO_DIR"/kmod/*.c)
    for parameter in "${parameters[@]}"; do
        check "$kernel: modinfo tells of $parameter" grep -qE "^parm: +$parameter:[a-z]" "$work/modinfo"
    done
    for field in license description author version; do
        check "$kernel: modinfo has $field" grep -qE "^$field: +[^ ]" "$work/modinfo"
    done
done

printf '%s passed, %s failed\n' "$passed" "$failed"
[[ $failed == 0 ]]
