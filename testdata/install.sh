#!/bin/bash
# install.sh COMMAND:PACKAGE..: installs the Debian package of every command that cannot be run.
set -euo pipefail
missing=()
for pair in "$@"; do
    command=${pair%:*} package=${pair##*:}
    if [[ $command == *' '* ]]; then
        bash -c "$command" >/dev/null 2>&1 || missing+=("$package")
    else
        command -v "$command" >/dev/null || missing+=("$package")
    fi
done
[[ ${#missing[@]} -gt 0 ]] || exit 0
echo "installing: ${missing[*]}" >&2
if [[ $EUID != 0 ]]; then
    echo "error: not root, cannot install packages. Run as root: apt-get install ${missing[*]}" >&2
    exit 2
fi
export DEBIAN_FRONTEND=noninteractive
if ! apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1; then
    apt-get update -qq # the lists may be missing or old
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || {
        echo "error: apt-get could not install ${missing[*]}" >&2
        exit 2
    }
fi
