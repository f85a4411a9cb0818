// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "nfs/nfs.h"

// What the errno of an NFS mount means to the owner of the task.
static const struct {
	int code;
	const char *meaning;
} failures[] = {
	{ENOENT, "no such directory on the server (exportPath, rootDirectory)"},
	{ENOTDIR, "not a directory on the server (exportPath, rootDirectory)"},
	{EACCES, "access denied by the server"},
	{EPERM, "operation not permitted"},
	{ETIMEDOUT, "no answer in time (is port 2049 allowed by the security groups of both "
		    "ends, and the server running?)"},
	{ECONNREFUSED, "connection refused (is the server running on this port?)"},
	{EHOSTUNREACH, "no route to the mount target"},
	{ENETUNREACH, "no route to the mount target"},
	{EPROTONOSUPPORT, "the server does not speak NFS 4.1"},
	{ENODEV, "the guest's kernel has no NFS 4 client"},
	{EINVAL, "the guest's kernel refuses the mount options"},
	{EIO, "input/output error while talking to the server"},
};

static const char *failure_meaning(int code)
{
	for (size_t i = 0; i < ARRAY_LENGTH(failures); i++)
		if (failures[i].code == code)
			return failures[i].meaning;
	return strerror(code);
}

int nfs_mount_failure(const char *source, int code, struct error *err)
{
	return error_set(err, abs(code), "mount %s: %s", source, failure_meaning(abs(code)));
}
