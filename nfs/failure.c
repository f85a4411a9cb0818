// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "nfs/nfs.h"

enum outcome { FINAL, PASSING };

// What the errno of an NFS mount means to the owner of the task, and whether it may pass: a server
// that restarts, or whose network comes up. What the server has decided is final, as it is for
// mount.nfs(8).
static const struct {
	int code;
	enum outcome outcome;
	const char *meaning;
} failures[] = {
	{ENOENT, FINAL, "no such directory on the server (exportPath, rootDirectory)"},
	{ENOTDIR, FINAL, "not a directory on the server (exportPath, rootDirectory)"},
	{EACCES, FINAL, "access denied by the server"},
	{EPERM, FINAL, "operation not permitted"},
	{ETIMEDOUT, PASSING,
	 "no answer in time (is port 2049 allowed by the security groups of both "
	 "ends, and the server running?)"},
	{ECONNREFUSED, PASSING, "connection refused (is the server running on this port?)"},
	{ECONNRESET, PASSING, "connection reset by the server"},
	{ECONNABORTED, PASSING, "connection aborted"},
	{ENOTCONN, PASSING, "connection lost"},
	{EPIPE, PASSING, "connection closed by the server"},
	{EHOSTUNREACH, PASSING, "no route to the mount target"},
	{ENETUNREACH, PASSING, "no route to the mount target"},
	{ESTALE, PASSING, "the server does not know its own directory (does it restart?)"},
	{EAGAIN, PASSING, "the server is busy"},
	{EIO, PASSING, "input/output error while talking to the server"},
	{EPROTONOSUPPORT, FINAL, "the server does not speak NFS 4.1"},
	{ENODEV, FINAL, "the guest's kernel has no NFS 4 client"},
	{EINVAL, FINAL, "the guest's kernel refuses the mount options"},
};

static const char *failure_meaning(int code)
{
	for (size_t i = 0; i < ARRAY_LENGTH(failures); i++)
		if (failures[i].code == code)
			return failures[i].meaning;
	return strerror(code);
}

bool nfs_mount_may_pass(int code)
{
	for (size_t i = 0; i < ARRAY_LENGTH(failures); i++)
		if (failures[i].code == abs(code))
			return failures[i].outcome == PASSING;
	return false;
}

int nfs_mount_failure(const char *source, int code, struct error *err)
{
	return error_set(err, abs(code), "mount %s: %s", source, failure_meaning(abs(code)));
}
