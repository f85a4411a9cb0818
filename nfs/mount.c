// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "nfs/nfs.h"

// Also refuses forms that inet_aton() would take: "10.1", "010.0.0.1".
static int validate_address(const char *what, const char *address, struct error *err)
{
	struct in_addr parsed;

	if (address && inet_pton(AF_INET, address, &parsed) == 1)
		return 0;
	return error_set(err, EINVAL, "%s \"%.64s\": must be an IPv4 address", what,
			 address ? address : "");
}

static int validate(const struct nfs_volume *volume, struct error *err)
{
	if (validate_address("mount target", volume->server, err) < 0 ||
	    validate_address("client address", volume->client_address, err) < 0 ||
	    nfs_path_validate("exportPath", volume->export_path, err) < 0)
		return -err->code;
	if (volume->root_directory &&
	    nfs_path_validate("rootDirectory", volume->root_directory, err) < 0)
		return -err->code;
	if (volume->port == 0)
		return error_set(err, EINVAL, "mount target port 0: must be 1 to 65535");
	return 0;
}

static size_t length_without_slash(const char *path)
{
	size_t length = strlen(path);

	return length > 0 && path[length - 1] == '/' ? length - 1 : length;
}

// Both paths were validated: each is "/" or a chain of plain names.
static int join_source(const struct nfs_volume *volume, char source[NFS_SOURCE_SIZE],
		       struct error *err)
{
	const char *root = volume->root_directory ? volume->root_directory : "/";
	size_t export_length = length_without_slash(volume->export_path);
	size_t root_length = length_without_slash(root);

	if (export_length + root_length >= NFS_PATH_MAX)
		return error_set(err, EINVAL,
				 "exportPath and rootDirectory: %zu bytes together, at most %d "
				 "are allowed",
				 export_length + root_length, NFS_PATH_MAX - 1);
	snprintf(source, NFS_SOURCE_SIZE, "%s:%.*s%.*s%s", volume->server, (int)export_length,
		 volume->export_path, (int)root_length, root,
		 export_length + root_length == 0 ? "/" : "");
	return 0;
}

// EFS's recommended options. mount(2) without mount.nfs needs the addresses too; timeo is
// in tenths of a second; noresvport lets the client reconnect from any port.
static void format_options(const struct nfs_volume *volume, char options[NFS_OPTIONS_SIZE])
{
	snprintf(options, NFS_OPTIONS_SIZE,
		 "nfsvers=4.1,proto=tcp,rsize=%d,wsize=%d,hard,timeo=600,retrans=2,noresvport,"
		 "port=%u,addr=%s,clientaddr=%s",
		 NFS_TRANSFER_BYTES, NFS_TRANSFER_BYTES, volume->port, volume->server,
		 volume->client_address);
}

int nfs_mount_plan(const struct nfs_volume *volume, struct nfs_mount *ret_mount, struct error *err)
{
	struct nfs_mount mount = {.type = "nfs4", .flags = MS_NOSUID | MS_NODEV};

	if (validate(volume, err) < 0 || join_source(volume, mount.source, err) < 0)
		return -err->code;
	format_options(volume, mount.options);
	if (volume->read_only)
		mount.flags |= MS_RDONLY;
	*ret_mount = mount;
	return 0;
}

void nfs_read_ahead_path(unsigned device_major, unsigned device_minor,
			 char ret_path[NFS_READ_AHEAD_PATH_SIZE])
{
	snprintf(ret_path, NFS_READ_AHEAD_PATH_SIZE, "/sys/class/bdi/%u:%u/read_ahead_kb",
		 device_major, device_minor);
}
