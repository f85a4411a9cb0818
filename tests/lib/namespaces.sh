# SPDX-License-Identifier: Apache-2.0
# Runs the calling script inside network and mount namespaces of its own: what it
# makes there (links, rules, mounts, names under /run) ends with the run.
# shellcheck shell=bash

# enter_namespaces "$@": re-executes the script; returns only inside. The process
# outside waits, so PENSTOCK_OUTSIDE names a process in the machine's own namespaces.
enter_namespaces() {
	if [[ ${PENSTOCK_INSIDE:-} != yes ]]; then
		[[ $(id -u) -eq 0 ]] || die "needs root (namespaces, cgroups): sudo $0"
		PENSTOCK_INSIDE=yes PENSTOCK_OUTSIDE=$$ unshare --net --mount --propagation private \
			bash "$0" "$@"
		exit $?
	fi
	# Names under /run (namespaces, sockets, pid files) are the run's own from here on.
	mount -t tmpfs -o mode=755 penstock-test /run
	mkdir -p /run/netns /run/lock /run/penstock
	ip link set lo up
}

# A namespace NAME joined to this one by a veth pair HERE (left unconfigured, for
# an attachment) and eth0 with ADDRESS/BITS and a default route over GATEWAY.
add_neighbour_namespace() {
	local name=$1 here=$2 address=$3 gateway=$4
	ip netns add "$name"
	ip link add "$here" type veth peer name eth0 netns "$name"
	ip -n "$name" link set lo up
	ip -n "$name" address add "$address" dev eth0
	ip -n "$name" link set eth0 up
	ip -n "$name" route add default via "$gateway"
}

# in_namespace NAME COMMAND...: only the network changes (ip netns exec would also
# hide /sys with its cgroups).
in_namespace() {
	local name=$1
	shift
	nsenter --net="/run/netns/$name" -- "$@"
}
