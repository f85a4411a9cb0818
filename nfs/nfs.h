// SPDX-License-Identifier: Apache-2.0
// The door of the nfs module: file system volumes of tasks.
//
// Transport `direct`: the guest's kernel mounts NFS 4.1 over the task's own ENI. This
// module plans the mount(2) call: the agent, to refuse what cannot be, before anything is started;
// penstock-init, to make it, from the server, port and path in the manifest. All functions are pure
// and never block. (Semantics: EFS volumes of ECS tasks.)
//
//     struct nfs_volume volume = {.server = "10.0.3.5", .port = 2049, .export_path = "/fs-1",
//                                 .root_directory = "/web", .client_address = "10.0.1.7"};
//     struct nfs_mount mount;
//     if (nfs_mount_plan(&volume, &mount, err) < 0) ...
//     // mount(mount.source, target, mount.type, mount.flags, mount.options)
//     //   "10.0.3.5:/fs-1/web", "nfs4", MS_NOSUID | MS_NODEV, "nfsvers=4.1,...,addr=10.0.3.5,..."
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/error.h"

enum {
	NFS_PORT_DEFAULT = 2049,
	NFS_PATH_MAX = 1024,    // export path and root directory together, with the NUL
	NFS_SOURCE_SIZE = 1056, // "255.255.255.255:" and the path
	NFS_OPTIONS_SIZE = 256,
	NFS_TRANSFER_BYTES = 1048576,                          // rsize and wsize
	NFS_READ_AHEAD_KIB = 15 * (NFS_TRANSFER_BYTES / 1024), // kernels since 5.4 default to 128
	NFS_READ_AHEAD_PATH_SIZE = 64,
};

struct nfs_volume {
	const char *server; // IPv4 address of the mount target
	uint16_t port;
	const char *export_path;    // on the server, absolute
	const char *root_directory; // below the export, absolute; NULL or "/": the export itself
	const char *client_address; // the task's private IPv4 address
	bool read_only;
};

// The arguments of mount(2).
struct nfs_mount {
	const char *type; // "nfs4", constant
	char source[NFS_SOURCE_SIZE];
	char options[NFS_OPTIONS_SIZE];
	unsigned long flags; // MS_* of <sys/mount.h>
};

// -EINVAL with what is wrong and what would be right. The result never names anything
// above the export: "." and ".." are refused in both paths.
int nfs_mount_plan(const struct nfs_volume *volume, struct nfs_mount *ret_mount, struct error *err);

// `what` names the field in the message ("rootDirectory"). Absolute, at most NFS_PATH_MAX - 1
// bytes, no empty, "." or ".." component, no control characters; one trailing "/" is allowed.
int nfs_path_validate(const char *what, const char *path, struct error *err);

// The file of a mounted file system's read-ahead (write NFS_READ_AHEAD_KIB to it), by
// the device number that stat(2) tells.
void nfs_read_ahead_path(unsigned device_major, unsigned device_minor,
			 char ret_path[NFS_READ_AHEAD_PATH_SIZE]);

// Whether a mount that failed with this errno of mount(2) is worth another try: the server may
// restart, or its network come up. What it refused, it refuses again.
bool nfs_mount_may_pass(int code);

// Says what a mount that failed means to the owner of the task: "mount 10.0.3.5:/fs-1/web: no such
// directory on the server (exportPath, rootDirectory)". `code` is the errno of mount(2); ETIMEDOUT
// also stands for a mount that passed its deadline. Returns -code.
int nfs_mount_failure(const char *source, int code, struct error *err);
