#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# clang-tidy over every source that changed, itself or in what it includes, since it
# last passed (the settings changing means all of them), two at a time.
. "$(dirname "$0")/common.sh"

export PASSED=$PENSTOCK_CACHE/tidy
mkdir -p "$PASSED"
cd "$PENSTOCK_CACHE/clang"
SETTINGS=$(cat "$PENSTOCK_ROOT"/{.clang-tidy,tests/lib/analyzer.h,tests/lib/tidy.sh})
export SETTINGS

tidy_one() { # tidy_one SOURCE COMPILE-COMMAND
	local source=$1 key about_errors=(--extra-arg=-include "--extra-arg=$PENSTOCK_ROOT/tests/lib/analyzer.h")
	key=$PASSED/$( (echo "$SETTINGS" && eval "$2 -E -C -o -") | sha256sum | cut -c 1-40)
	[[ ! -e $key ]] || return 0
	[[ $source != */agent/base/error.c ]] || about_errors=()
	timeout 600 clang-tidy --quiet -p . "${about_errors[@]}" "$source" 2>/dev/null || return 1
	touch "$key"
}
export -f tidy_one
# shellcheck disable=SC2016 # the inner shell expands them
jq -j 'unique_by(.file)[] | .file, "\u0000", .command, "\u0000"' compile_commands.json |
	xargs -0 -P 2 -n 2 bash -c 'set -euo pipefail; tidy_one "$@"' -
