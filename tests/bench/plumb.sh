#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Connecting one task to the network (steps eni, policy and link with the netns
# driver's ENIs) against Debian's CNI plugins bridge + host-local + firewall, at 0, 100
# and 1,000 existing tasks. Ends with lines `figure NAME VALUE UNIT`. About 3 minutes;
# plumb.sh --quick takes seconds and only shows that it works.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/namespaces.sh"
enter_namespaces "$@"

samples=100 existing=(0 100 1000)
if [[ ${1:-} == --quick ]]; then
	samples=10 existing=(0 20)
fi
bench=$PENSTOCK_BUILD/tests/bench/plumb
[[ -x $bench ]] || die "$bench is missing: run tests/setup.sh"
make_run_directory bench
sysctl -qw net.ipv4.ip_forward=1
timeout 600 "$bench" "$RUN_DIRECTORY" "$samples" "${existing[@]}"
