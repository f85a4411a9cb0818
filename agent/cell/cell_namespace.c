// SPDX-License-Identifier: Apache-2.0
// The network namespace in which a cell's tap or veth lies, asked of the cell itself.
//
// A namespace is found by its pin, a file that is mounted in the agent's mount namespace. The pin
// may have been removed (ip netns del), and an agent that was started in another mount namespace
// does not see it at all. The namespace lives on as long as something in it is open: the shim holds
// a listening socket on 169.254.170.2 of it from the launch to the end of the cell. pidfd_getfd(2)
// copies that descriptor without the shim's help, so that a stopped or hung shim answers as well,
// and SIOCGSKNS names the socket's namespace. Both need capabilities that root has: CAP_SYS_PTRACE
// (the shim is not dumpable) and CAP_NET_ADMIN.
#include <dirent.h>
#include <errno.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/cell/cell.h"

static bool is_socket(int directory_fd, const char *name)
{
	char target[64];
	ssize_t length = readlinkat(directory_fd, name, target, sizeof(target));

	return length >= 8 && memcmp(target, "socket:[", 8) == 0;
}

// Sockets of other families were made in other namespaces; connections of the guest go away.
static bool is_guest_listener(int fd)
{
	int family = 0, listens = 0;
	socklen_t size = sizeof(int);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size) == 0 && family == AF_INET &&
	       getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens;
}

// 1: *ret_fd is the namespace. 0: this descriptor is not the listener.
static int namespace_of(int pidfd, int number, int *ret_fd, struct error *err)
{
	scoped_fd int fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);

	if (fd < 0)
		return errno == EBADF ? 0 : error_errno(err, "copy a descriptor of the shim");
	if (!is_guest_listener(fd))
		return 0;
	*ret_fd = ioctl(fd, SIOCGSKNS);
	return *ret_fd < 0 ? error_errno(err, "ask for the namespace of a socket") : 1;
}

int cell_namespace_open(pid_t pid, uint64_t start_time, int *ret_fd, struct error *err)
{
	scoped_fd int pidfd = process_open(pid, start_time);
	scoped_directory DIR *descriptors = NULL;
	struct dirent *entry;
	char path[64];
	uint32_t number;
	int result = 0;

	if (pidfd < 0)
		return error_code(err, pidfd, "shim %d", pid);
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	descriptors = opendir(path);
	if (!descriptors)
		return error_errno(err, "open %s", path);
	while (result == 0 && (entry = readdir(descriptors)))
		if (parse_u32(entry->d_name, INT32_MAX, &number) == 0 &&
		    is_socket(dirfd(descriptors), entry->d_name))
			result = namespace_of(pidfd, (int)number, ret_fd, err);
	if (result == 0)
		return error_set(err, ENOENT, "shim %d has no listener", pid);
	return result < 0 ? error_wrap(err, "shim %d", pid) : 0;
}
