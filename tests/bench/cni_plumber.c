// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>

#include "agent/base/scope.h"
#include "tests/bench/cni.h"
#include "tests/bench/plumber.h"

enum { NAME_SIZE = 64 };

static void task_names(unsigned index, char container[NAME_SIZE], char netns_path[NAME_SIZE])
{
	snprintf(container, NAME_SIZE, "bench-%u", index);
	snprintf(netns_path, NAME_SIZE, "/run/netns/bench-%u", index);
}

// A pinned network namespace, as a container runtime makes one before it calls CNI.
static int prepare(void *context, unsigned index, struct error *err)
{
	scoped_fd int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	char container[NAME_SIZE], path[NAME_SIZE];
	scoped_fd int pin = -1;

	(void)context;
	task_names(index, container, path);
	pin = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (home < 0 || pin < 0)
		return error_errno(err, "make %s", path);
	if (unshare(CLONE_NEWNET) < 0)
		return error_errno(err, "new network namespace");
	if (mount("/proc/thread-self/ns/net", path, NULL, MS_BIND, NULL) < 0)
		return error_errno(err, "pin %s", path);
	if (setns(home, CLONE_NEWNET) < 0)
		return error_errno(err, "return to the host's namespace");
	return 0;
}

static int add(void *context, unsigned index, struct error *err)
{
	char container[NAME_SIZE], path[NAME_SIZE];

	task_names(index, container, path);
	return cni_add(context, container, path, err);
}

static int delete (void *context, unsigned index, struct error *err)
{
	char container[NAME_SIZE], path[NAME_SIZE];

	task_names(index, container, path);
	if (cni_delete(context, container, path, err) < 0)
		return -err->code;
	if (umount2(path, MNT_DETACH) < 0 || unlink(path) < 0)
		return error_errno(err, "remove %s", path);
	return 0;
}

int cni_plumber_open(const char *directory, struct plumber *ret_plumber, struct error *err)
{
	static struct cni_chain chain = {.plugin_directory = "/usr/lib/cni"};

	if (access("/usr/lib/cni/bridge", X_OK) < 0)
		return error_errno(err,
				   "/usr/lib/cni/bridge (package containernetworking-plugins)");
	chain.state_directory = directory;
	*ret_plumber = (struct plumber){
		.name = "cni", .context = &chain, .add = add, .delete = delete, .prepare = prepare};
	return 0;
}
