#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `cmake --install` into a directory of the run's own: every program starts from there, and those
# that the agent starts lie where its default configuration looks for them.
. "$(dirname "$0")/common.sh"

make_run_directory install
DESTDIR=$RUN_DIRECTORY cmake --install "$PENSTOCK_BUILD" >"$RUN_DIRECTORY/log"
cat "$RUN_DIRECTORY/log"

installed() { # installed NAME: the one program of this name
	local found
	found=$(find "$RUN_DIRECTORY" -type f -name "$1" -executable)
	[[ -n $found && $found != *$'\n'* ]] || die "$1: installed at \"$found\""
	say "$found"
}

penstockd=$(installed penstockd)
penstockctl=$(installed penstockctl)
[[ $penstockd == */sbin/* && $penstockctl == */bin/* ]]
"$penstockd" --version | grep -x 'penstockd [0-9.]*'
"$penstockctl" --help | grep -w apply
"$penstockd" --explain-config >"$RUN_DIRECTORY/penstock.conf"
programs=$(sed -n 's/^program_directory = //p' "$RUN_DIRECTORY/penstock.conf")
for name in penstock-shim penstock-probe penstock-init build-guest.sh; do
	[[ $(installed "$name") == "$RUN_DIRECTORY$programs/$name" ]] || die "$name is not in $programs"
done
bash -n "$RUN_DIRECTORY$programs/build-guest.sh"
