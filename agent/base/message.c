// SPDX-License-Identifier: Apache-2.0
#include "agent/base/message.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "agent/base/scope.h"

union fd_control {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int) * MESSAGE_FDS_MAX)];
};

int message_send(int socket_fd, const void *message, size_t size, const int *fds, size_t fd_count,
		 struct error *err)
{
	struct iovec part = {.iov_base = (void *)(uintptr_t)message, .iov_len = size};
	struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
	union fd_control control = {0};
	ssize_t sent;

	if (fd_count > MESSAGE_FDS_MAX)
		return error_set(err, EINVAL, "send message: %zu descriptors, at most %d", fd_count,
				 MESSAGE_FDS_MAX);
	if (fd_count > 0) {
		header.msg_control = control.space;
		header.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * fd_count);
	}
	do
		sent = sendmsg(socket_fd, &header, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? error_errno(err, "send message") : 0;
}

static size_t collect_fds(struct msghdr *header, int fds[MESSAGE_FDS_MAX])
{
	size_t count = 0;

	for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
			continue;
		count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(part), count * sizeof(int));
	}
	return count;
}

int message_receive(int socket_fd, void *message, size_t size, int *ret_fds, size_t fd_max,
		    struct error *err)
{
	struct iovec part = {.iov_base = message, .iov_len = size};
	union fd_control control = {0};
	struct msghdr header = {.msg_iov = &part,
				.msg_iovlen = 1,
				.msg_control = control.space,
				.msg_controllen = sizeof(control.space)};
	int fds[MESSAGE_FDS_MAX];
	size_t fd_count;
	ssize_t received;

	do
		received = recvmsg(socket_fd, &header, MSG_CMSG_CLOEXEC);
	while (received < 0 && errno == EINTR);
	if (received < 0)
		return error_errno(err, "receive message");
	fd_count = collect_fds(&header, fds);
	if (received == 0 && fd_count == 0)
		return 0;
	if ((size_t)received != size || (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) ||
	    fd_count > fd_max) {
		for (size_t i = 0; i < fd_count; i++)
			close_fd(&fds[i]);
		return error_set(
			err, EBADMSG,
			"message of %zd bytes with %zu descriptors, expected %zu and at most %zu",
			received, fd_count, size, fd_max);
	}
	for (size_t i = 0; i < fd_max; i++)
		ret_fds[i] = i < fd_count ? fds[i] : -1;
	return 1;
}

static int address_of(int directory_fd, const char *name, struct sockaddr_un *ret_address,
		      struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int length = snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s",
			      directory_fd, name);

	if (length < 0 || (size_t)length >= sizeof(address.sun_path))
		return error_set(err, ENAMETOOLONG, "socket name %s is too long", name);
	*ret_address = address;
	return 0;
}

int message_listen(int directory_fd, const char *name, int *ret_fd, struct error *err)
{
	scoped_fd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address;

	if (fd < 0)
		return error_errno(err, "create socket %s", name);
	if (address_of(directory_fd, name, &address, err) < 0)
		return -err->code;
	if (unlinkat(directory_fd, name, 0) < 0 && errno != ENOENT)
		return error_errno(err, "remove old socket %s", name);
	fchmod(fd, 0600); // taken over by the file that bind() makes
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 8) < 0)
		return error_errno(err, "listen on %s", name);
	*ret_fd = take_fd(&fd);
	return 0;
}

int message_connect(int directory_fd, const char *name, int *ret_fd, struct error *err)
{
	scoped_fd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address;

	if (fd < 0)
		return error_errno(err, "create socket for %s", name);
	if (address_of(directory_fd, name, &address, err) < 0)
		return -err->code;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return error_errno(err, "connect to %s", name);
	*ret_fd = take_fd(&fd);
	return 0;
}
