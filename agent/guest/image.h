// SPDX-License-Identifier: Apache-2.0
// Container images on the host: `<images>/<name>.squashfs` and, beside it, an optional
// `<name>.json` (an OCI image configuration, read by agent/model).
//
// A task's image reference is untrusted text: [host[:port]/]path[:tag], characters
// [A-Za-z0-9._-] in components, '/' between. It names the file so: "busybox" and
// "busybox:latest" are busybox.squashfs (or busybox:latest.squashfs when that exists: it is
// tried first), "busybox:1.36" is busybox:1.36.squashfs, "registry.example/x/y:tag" is
// registry.example/x/y:tag.squashfs in folders. A digest ("@sha256:...") is refused by name.
// Files are opened beneath the image directory (openat2 with RESOLVE_BENEATH and
// RESOLVE_NO_MAGICLINKS): a reference never leaves it, not even through a link.
//
// Calls block on the local disk, briefly (open, fstat, at most 1 MiB of JSON).
//
// The netns driver wants directories: image_unpack_prepare() makes the command for a janitor
// process, into `<state>/images/<identity>.part`; image_unpack_commit() renames it when the janitor
// succeeded. A directory `<state>/images/<identity>` is always whole. `<state>/images` is root's
// alone: images hold set-uid programs.
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "agent/base/error.h"

enum {
	IMAGE_REFERENCE_MAX = 256, // with the NUL
	IMAGE_IDENTITY_SIZE = 33,
	IMAGE_CONFIG_MAX = 1024 * 1024,
	IMAGE_UNPACK_ARGUMENTS = 12,
};

struct image {
	int fd;                             // the squashfs file, read-only; owned
	char identity[IMAGE_IDENTITY_SIZE]; // hex, of size, mtime, inode and device: a changed file
					    // is another image
	char *config; // text of `<name>.json`, NULL when there is none; owned
	size_t config_length;
	unsigned long long size_bytes;
};

#define IMAGE_NONE                                                                                 \
	(struct image)                                                                             \
	{                                                                                          \
		.fd = -1                                                                           \
	}

// -EINVAL with what is wrong with the text.
int image_reference_check(const char *reference, struct error *err);

// -EINVAL, or -ENOENT "image busybox:1.37: no busybox:1.37.squashfs in <images>".
int image_open(const char *directory, const char *reference, struct image *ret_image,
	       struct error *err);
void image_close(struct image *image);

// Directory of the unpacked image; *ret_ready: it is there already.
int image_unpacked(const char *state_directory, const char *identity, char ret_path[PATH_MAX],
		   bool *ret_ready, struct error *err);

// The command of the janitor that unpacks it. The image reaches it as descriptor `child_fd`.
struct image_unpack {
	const char *argv[IMAGE_UNPACK_ARGUMENTS];
	char source[32];
	char partial[PATH_MAX];
};
// Removes what an interrupted unpacking left and makes `<state>/images`.
int image_unpack_prepare(const char *state_directory, const char *identity, int child_fd,
			 struct image_unpack *ret_unpack, struct error *err);
int image_unpack_commit(const char *state_directory, const char *identity, struct error *err);

// The kernel and initramfs of the microVMs, made by build-guest.sh in one directory.
struct guest_bundle {                // files vmlinux, initramfs.cpio, guest.version
	int kernel_fd, initramfs_fd; // owned
	char kernel_release[64];     // "6.1.0-40-cloud-amd64"
	char build[65];              // identity of the whole bundle
};

#define GUEST_BUNDLE_NONE                                                                          \
	(struct guest_bundle)                                                                      \
	{                                                                                          \
		.kernel_fd = -1, .initramfs_fd = -1                                                \
	}

// -ENOENT names the missing file and the script that makes it.
int guest_bundle_open(const char *directory, struct guest_bundle *ret_bundle, struct error *err);
void guest_bundle_close(struct guest_bundle *bundle);
