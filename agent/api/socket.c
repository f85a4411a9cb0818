// SPDX-License-Identifier: Apache-2.0
#include "agent/api/socket.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/scope.h"

enum {
	// As many as the kernel lets be (net.core.somaxconn): a client whose connect() fails with
	// EAGAIN gets no answer, one that waits here does.
	LISTEN_BACKLOG = 4096,
	CONNECT_ATTEMPTS = 200,
	CONNECT_PAUSE_NS = 10000000,
};

static int address_of(const char *path, struct sockaddr_un *ret_address, struct error *err)
{
	*ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(ret_address->sun_path))
		return error_set(err, ENAMETOOLONG, "api: socket path %s is longer than %zu bytes",
				 path, sizeof(ret_address->sun_path) - 1);
	memcpy(ret_address->sun_path, path, strlen(path) + 1);
	return 0;
}

// The kernel names the process that called listen(). A child that an agent had just forked still
// holds its listener for a moment after the agent was killed: connections are taken, but by nobody.
static bool listener_lives(int connected_fd, pid_t *ret_pid)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (getsockopt(connected_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return true;
	*ret_pid = peer.pid;
	return peer.pid <= 0 || kill(peer.pid, 0) == 0 || errno != ESRCH;
}

// 0: nobody is there any more. -EAGAIN: its queue is full, it cannot be told.
static int try_listener(const struct sockaddr_un *address, struct error *err)
{
	scoped_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	pid_t pid = 0;

	if (fd < 0)
		return error_errno(err, "api: socket");
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		return errno == EAGAIN ? -EAGAIN : 0;
	if (!listener_lives(fd, &pid))
		return 0;
	return error_set(err, EADDRINUSE, "api: another process (%d) answers on %s", (int)pid,
			 address->sun_path);
}

static int stale_socket_remove(const struct sockaddr_un *address, struct error *err)
{
	static const struct timespec pause = {.tv_nsec = CONNECT_PAUSE_NS};
	struct stat status;
	int result = -EAGAIN;

	if (lstat(address->sun_path, &status) < 0)
		return errno == ENOENT ? 0 : error_errno(err, "api: %s", address->sun_path);
	if (!S_ISSOCK(status.st_mode))
		return error_set(err, EEXIST, "api: %s exists and is not a socket",
				 address->sun_path);
	for (int i = 0; i < CONNECT_ATTEMPTS && result == -EAGAIN; i++) {
		if (i > 0)
			nanosleep(&pause, NULL);
		result = try_listener(address, err);
	}
	if (result == -EAGAIN)
		return error_set(err, EADDRINUSE, "api: the queue of another process on %s is full",
				 address->sun_path);
	if (result < 0)
		return result;
	if (unlink(address->sun_path) < 0 && errno != ENOENT)
		return error_errno(err, "api: remove %s", address->sun_path);
	return 0;
}

// With one group the file's mode keeps others out; with two only the credentials can tell.
static int socket_permit(const struct api_options *options, struct error *err)
{
	mode_t mode = options->reader_gid != API_NO_GROUP ? 0666 : 0660;

	if (options->writer_gid != API_NO_GROUP &&
	    chown(options->socket_path, (uid_t)-1, options->writer_gid) < 0)
		return error_errno(err, "api: give %s to group %u", options->socket_path,
				   (unsigned)options->writer_gid);
	if (chmod(options->socket_path, mode) < 0)
		return error_errno(err, "api: change the mode of %s", options->socket_path);
	return 0;
}

static int note_file(const char *path, struct api_socket *ret_socket, struct error *err)
{
	struct stat status;

	if (lstat(path, &status) < 0)
		return error_errno(err, "api: %s", path);
	*ret_socket = (struct api_socket){.device = status.st_dev, .inode = status.st_ino};
	memcpy(ret_socket->path, path, strlen(path) + 1); // it fits into an address
	return 0;
}

int socket_listen(const struct api_options *options, struct api_socket *ret_socket, int *ret_fd,
		  struct error *err)
{
	struct sockaddr_un address;
	scoped_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return error_errno(err, "api: socket");
	if (address_of(options->socket_path, &address, err) < 0 ||
	    stale_socket_remove(&address, err) < 0)
		return -err->code;
	// The mode of an unbound socket becomes that of its file: no moment of openness.
	if (fchmod(fd, 0600) < 0 ||
	    bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return error_errno(err, "api: bind %s", options->socket_path);
	if (socket_permit(options, err) < 0)
		return -err->code;
	if (listen(fd, LISTEN_BACKLOG) < 0)
		return error_errno(err, "api: listen on %s", options->socket_path);
	if (note_file(options->socket_path, ret_socket, err) < 0)
		return -err->code;
	*ret_fd = take_fd(&fd);
	return 0;
}

bool socket_is_there(const struct api_socket *socket)
{
	struct stat status;

	return lstat(socket->path, &status) == 0 && status.st_dev == socket->device &&
	       status.st_ino == socket->inode;
}

// Not the file of another: an agent that started meanwhile has its own there.
void socket_remove(struct api_socket *socket)
{
	if (socket->path[0] && socket_is_there(socket))
		unlink(socket->path);
	socket->path[0] = '\0';
}
