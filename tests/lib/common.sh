# SPDX-License-Identifier: Apache-2.0
# Sourced by every test script: places, words for people, clean-up by what the run made.
# shellcheck shell=bash
set -euo pipefail

PENSTOCK_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PENSTOCK_CACHE=$PENSTOCK_ROOT/.build
PENSTOCK_BUILD=${PENSTOCK_BUILD:-$PENSTOCK_CACHE/release}
PENSTOCK_IMAGES=${PENSTOCK_IMAGES:-$PENSTOCK_CACHE/images}
PENSTOCK_GUEST=${PENSTOCK_GUEST:-$PENSTOCK_CACHE/guest}
# A pyenv or conda python3 in front of Debian's does not see Debian's modules.
PYTHON=/usr/bin/python3
export PENSTOCK_ROOT PENSTOCK_CACHE PENSTOCK_BUILD PENSTOCK_IMAGES PENSTOCK_GUEST PYTHON

say() { printf '%s\n' "$*"; }
progress() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }
die() {
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
	exit 1
}

# Clean-up commands run in reverse order at exit, whatever the way out.
_at_exit=()
at_exit() { _at_exit+=("$(printf '%q ' "$@")"); }
_run_at_exit() {
	local status=$? index
	set +e
	for ((index = ${#_at_exit[@]} - 1; index >= 0; index--)); do
		eval "${_at_exit[index]}"
	done
	return "$status"
}
trap _run_at_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# make_run_directory NAME: sets RUN_DIRECTORY, whose path also marks every process of the run.
make_run_directory() {
	RUN_DIRECTORY=$(mktemp -d "/var/tmp/penstock-$1.XXXXXX")
	at_exit rm -rf --one-file-system "$RUN_DIRECTORY"
	export RUN_DIRECTORY
}

# The program NAME of the build tree.
program() {
	local path=$PENSTOCK_BUILD/bin/$1
	[[ -x $path ]] || die "$path is missing: run tests/setup.sh"
	printf '%s\n' "$path"
}

# Ends a child of ours and waits for its end: end_process PID [SIGNAL].
end_process() {
	kill -s "${2:-TERM}" "$1" 2>/dev/null || return 0
	wait "$1" 2>/dev/null || true
}
