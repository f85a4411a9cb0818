#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes what every microVM boots: Debian's cloud kernel and an initramfs with penstock-init and
# the kernel modules it loads.
#
#     build-guest.sh DIRECTORY PENSTOCK_INIT
#
# DIRECTORY then holds vmlinux, initramfs.cpio and guest.version. Files are replaced by
# rename; running VMs keep the ones they opened. When nothing changed, nothing is done. The kernel
# package is kept in DIRECTORY/package: remove that to fetch a newer one.
# Needs apt-get (network, once), dpkg, kmod, cpio, lz4.
set -euo pipefail
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin

# Loaded at every boot, in this order, dependencies first.
BOOT_MODULES=(virtio_mmio virtio_blk virtio_net squashfs overlay ext4 virtio_rng button evdev)
# Loaded only when the task has an NFS volume.
NFS_MODULES=(nfsv4)

say() { printf 'guest: %s\n' "$*"; }
die() { printf 'guest: %s\n' "$*" >&2; exit 1; }

[ $# -eq 2 ] || die "usage: build-guest.sh DIRECTORY PENSTOCK_INIT"
init=$(realpath -e "$2") || die "no penstock-init at $2 (build the target penstock-init first)"
mkdir -p "$1"
out=$(realpath -e "$1")
self=$(realpath -e "${BASH_SOURCE[0]}")

work=
cleanup() { [ -z "$work" ] || rm -rf "$work"; }
trap cleanup EXIT

package_file() { find "$out/package" -maxdepth 1 -name '*.deb' 2>/dev/null | sort -V | tail -n 1; }

# The name of the package that linux-image-cloud-amd64 depends on today.
package_name() {
	apt-cache depends --important linux-image-cloud-amd64 2>/dev/null |
		sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1
}

fetch_package() {
	local name
	name=$(package_name)
	if [ -z "$name" ]; then
		say "updating the package lists"
		apt-get update -qq
		name=$(package_name)
	fi
	[ -n "$name" ] || die "apt knows no linux-image-cloud-amd64: is this Debian on amd64?"
	say "fetching $name (about 30 MB)"
	rm -rf "$out/package.new"
	mkdir "$out/package.new"
	(cd "$out/package.new" && apt-get download -q "$name" 2>&1 | sed 's/^/guest:   /') ||
		die "apt-get download $name failed"
	rm -rf "$out/package"
	mv "$out/package.new" "$out/package"
}

number_at() { od -A n -t "u$3" -j "$2" -N "$3" --endian=little "$1" | tr -d ' '; }

# A packaged kernel unpacks itself at every boot, on the guest's CPU: half a second under emulation.
# Unpacked once, here, it is started by its PVH entry. Where the payload lies is said by the setup
# header (Documentation/x86/boot.rst: setup_sects, payload_offset, payload_length); its last four
# bytes are the size of what it unpacks to.
unpack_kernel() { # VMLINUZ VMLINUX
	local start length size
	start=$((($(number_at "$1" $((0x1f1)) 1) + 1) * 512 + $(number_at "$1" $((0x248)) 4)))
	length=$(($(number_at "$1" $((0x24c)) 4) - 4))
	size=$(number_at "$1" $((start + length)) 4)
	head -c "$((start + length))" "$1" | tail -c "$length" >"$work/payload"
	case $(od -A n -t x1 -N 4 "$work/payload" | tr -d ' ') in
	02214c18) lz4 -dc "$work/payload" ;;
	fd377a58) xz -dc <"$work/payload" ;;
	28b52ffd) zstd -dc "$work/payload" ;;
	*) die "$(basename "$1"): neither lz4 nor xz nor zstd" ;;
	esac >"$2"
	[ "$(stat -c %s "$2")" -eq "$size" ] || die "$(basename "$1") did not unpack to $size bytes"
}

# Prints the files of the modules, in load order, each once; built-in ones are skipped.
module_files() {
	local module
	for module in "$@"; do
		modprobe --config /dev/null -d "$work/kernel" -S "$release" --show-depends "$module" ||
			die "the kernel package has no module $module"
	done | sed -n 's/^insmod \([^ ]*\).*$/\1/p' | awk '!seen[$0]++'
}

pack_modules() { # LIST FILES...
	local list=$1 file
	shift
	for file in "$@"; do
		cp -n "$file" "$work/root/modules/"
		basename "$file"
	done >"$work/root/modules/$list"
}

mkdir -p "$out"
exec 9>"$out/.lock"
flock 9
[ -n "$(package_file)" ] || fetch_package
package=$(package_file)
build=$({ sha256sum <"$package"; sha256sum <"$init"; sha256sum <"$self"; } | sha256sum | cut -c1-64)
if [ -s "$out/vmlinux" ] && [ -s "$out/initramfs.cpio" ] &&
	grep -qsx "build $build" "$out/guest.version"; then
	say "up to date ($(sed -n 's/^kernel //p' "$out/guest.version"))"
	exit 0
fi

work=$(mktemp -d "$out/.work.XXXXXX")
say "unpacking $(basename "$package")"
dpkg -x "$package" "$work/kernel"
release=$(basename "$(find "$work/kernel/lib/modules" -mindepth 1 -maxdepth 1)")
depmod -b "$work/kernel" "$release"

say "collecting modules of $release"
mkdir -p "$work/root/modules" "$work/root/dev" "$work/root/proc" "$work/root/sys" "$work/root/run"
mapfile -t boot < <(module_files "${BOOT_MODULES[@]}")
mapfile -t nfs < <(module_files "${BOOT_MODULES[@]}" "${NFS_MODULES[@]}" | tail -n "+$((${#boot[@]} + 1))")
if [ ${#boot[@]} -eq 0 ] || [ ${#nfs[@]} -eq 0 ]; then
	die "no modules found in $(basename "$package")"
fi
pack_modules boot.list "${boot[@]}"
pack_modules nfs.list "${nfs[@]}"
install -m 0755 "$init" "$work/root/init"

say "packing the initramfs"
unpack_kernel "$work/kernel/boot/vmlinuz-$release" "$work/vmlinux"
(cd "$work/root" && find . -mindepth 1 | sort | cpio --quiet -o -H newc -R 0:0 --reproducible) \
	>"$work/initramfs.cpio"
printf 'kernel %s\nbuild %s\n' "$release" "$build" >"$work/guest.version"
chmod 0644 "$work/vmlinux" "$work/initramfs.cpio" "$work/guest.version"
sync "$work/vmlinux" "$work/initramfs.cpio" "$work/guest.version"
# The version goes last: it vouches for the other two.
mv "$work/vmlinux" "$work/initramfs.cpio" "$out/"
mv "$work/guest.version" "$out/"
say "ready: $out (kernel $release, initramfs $(du -h "$out/initramfs.cpio" | cut -f1))"
