#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes a fresh Debian 12 machine ready: packages, the build, the guest, the test
# images. Everything made lies in .build/; a second run finds it all done.
#
#   setup.sh               what the demo needs
#   setup.sh PRESET...     also builds these CMake presets (sanitize, clang, fuzz)
#   setup.sh --packages    prints the list of Debian packages
. "$(dirname "$0")/lib/common.sh"

PACKAGES=(
	# build
	build-essential cmake ninja-build pkg-config libcmocka-dev
	libnl-3-dev libnl-route-3-dev libnftnl-dev libmnl-dev libcjson-dev libevent-dev
	libsqlite3-dev libseccomp-dev
	# the agent at run time
	qemu-system-x86 e2fsprogs squashfs-tools
	# guest and test images
	kmod cpio lz4 xz-utils zstd busybox-static
	# tests
	iproute2 iputils-ping nftables procps util-linux curl jq strace python3-pytest python3-jsonschema python3-yaml
	nfs-ganesha nfs-ganesha-vfs prometheus systemd containernetworking-plugins iptables tcpdump faketime
	clang clang-format clang-tidy cppcheck valgrind shellcheck
)

missing_packages() {
	local installed
	installed=$(dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' 2>/dev/null |
		sed -n 's/^installed //p')
	comm -23 <(printf '%s\n' "${PACKAGES[@]}" | sort -u) <(sort -u <<<"$installed")
}

# Debian starts and enables the services it installs. While we install, policy-rc.d
# forbids the start; afterwards those that came with this run are disabled again.
forbid_service_starts() {
	local policy=/usr/sbin/policy-rc.d
	[[ ! -e $policy ]] || return 0 # someone else's policy stays as it is
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	at_exit rm -f "$policy"
}

enabled_units() { find /etc/systemd/system -type l -name '*.service' -printf '%f\n' 2>/dev/null | sort -u; }

install_packages() {
	local missing before unit
	mapfile -t missing < <(missing_packages)
	((${#missing[@]})) || return 0
	[[ $(id -u) -eq 0 ]] || die "needs root to install: ${missing[*]}"
	progress "installing ${#missing[@]} Debian packages: ${missing[*]}"
	forbid_service_starts
	before=$(enabled_units)
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
	comm -13 <(printf '%s\n' "$before") <(enabled_units) | while read -r unit; do
		case $unit in
		nfs-ganesha*.service | prometheus*.service | rpcbind.service)
			progress "not to be started at boot: $unit"
			systemctl disable "$unit" >/dev/null 2>&1 || true
			;;
		esac
	done
}

build_preset() {
	local directory=$PENSTOCK_CACHE/$1
	if [[ ! -f $directory/build.ninja ]]; then
		progress "configuring $1"
		(cd "$PENSTOCK_ROOT" && cmake --preset "$1" >/dev/null)
	fi
	progress "building $1"
	cmake --build "$directory"
}

if [[ ${1:-} == --packages ]]; then
	printf '%s\n' "${PACKAGES[@]}"
	exit 0
fi
for preset in "$@"; do
	[[ $preset =~ ^(sanitize|clang|fuzz)$ ]] || die "no preset $preset: sanitize, clang, fuzz or --packages"
done
install_packages
mkdir -p "$PENSTOCK_CACHE"
for preset in release "$@"; do
	build_preset "$preset"
done
# Both do nothing when nothing changed.
bash "$PENSTOCK_ROOT/agent/guest/build-guest.sh" "$PENSTOCK_GUEST" "$PENSTOCK_BUILD/bin/penstock-init"
bash "$PENSTOCK_ROOT/tests/fixtures/build-images.sh" "$PENSTOCK_IMAGES"
progress "ready"
