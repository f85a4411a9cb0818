#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Connecting one task to the network (steps eni, policy and link): a VMM's tap at 0, 100,
# 1,000 and 4,000 existing tasks; the netns driver's veth at the same; and the latter
# against Debian's CNI plugins bridge + host-local + firewall, up to 1,000. At the end of each,
# disconnecting a hundred. Ends with lines `figure NAME VALUE UNIT`. About 3 minutes; plumb.sh --quick takes seconds and only shows
# that it works.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/namespaces.sh"

samples=100 levels=(0 100 1000) many=4000
if [[ ${!#} == --quick ]]; then
	samples=10 levels=(0 20) many=40
fi
if [[ ${1:-} != part-* ]]; then
	# Each in namespaces of its own, so that it begins with nothing.
	for part in part-tap part-cni part-veth; do
		bash "$0" "$part" "$@"
	done
	exit
fi
enter_namespaces "$@"

bench=$PENSTOCK_BUILD/tests/bench/plumb
[[ -x $bench ]] || die "$bench is missing: run tests/setup.sh"
make_run_directory bench
sysctl -qw net.ipv4.ip_forward=1
case $1 in
part-tap) timeout 600 "$bench" tap "$samples" "${levels[@]}" "$many" ;;
part-veth) timeout 600 "$bench" veth "$samples" "$many" ;;
part-cni) timeout 600 "$bench" "$RUN_DIRECTORY" "$samples" "${levels[@]}" ;;
esac
