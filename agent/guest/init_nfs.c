// SPDX-License-Identifier: Apache-2.0
// Volumes of file servers, mounted by the guest's NFS 4.1 client. mount(2) waits for a server
// without end ("hard"), so each mount has a process; past the deadline that is killed
// (its wait is killable) and the task fails.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "agent/guest/init.h"

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/scope.h"

enum { TRANSFER_BYTES = 1048576, READ_AHEAD_TRANSFERS = 15 };

// The kernel's default read-ahead of 128 KiB starves a transfer size of 1 MiB.
static void set_read_ahead(const char *target)
{
	struct error ignored;
	struct stat status;
	char path[96], value[16];

	if (stat(target, &status) < 0)
		return;
	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(status.st_dev),
		 minor(status.st_dev));
	snprintf(value, sizeof(value), "%d", READ_AHEAD_TRANSFERS * TRANSFER_BYTES / 1024);
	file_write_kernel(AT_FDCWD, path, value, &ignored);
}

static int mount_volume(const struct init_settings *settings, const struct guest_volume *volume,
			const char *target, struct error *err)
{
	char source[PATH_MAX], options[512], ip[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &settings->ip, ip, sizeof(ip));
	snprintf(source, sizeof(source), "%s:%s", volume->server, volume->path);
	snprintf(options, sizeof(options),
		 "vers=4.1,proto=tcp,port=%u,rsize=%d,wsize=%d,hard,timeo=600,retrans=2,"
		 "noresvport,addr=%s,clientaddr=%s",
		 volume->port, TRANSFER_BYTES, TRANSFER_BYTES, volume->server, ip);
	if (mount(source, target, "nfs4", MS_NOSUID | MS_NODEV, options) < 0)
		return error_errno(err, "mount %s", source);
	set_read_ahead(target);
	return 0;
}

static _Noreturn void mount_in_child(const struct init_settings *settings,
				     const struct guest_volume *volume, const char *target,
				     int error_fd)
{
	struct error err = {0};

	if (mount_volume(settings, volume, target, &err) == 0)
		_exit(0);
	if (write(error_fd, err.message, strlen(err.message)) < 0)
		_exit(2);
	_exit(1);
}

int init_nfs_start(const struct init_settings *settings, const struct guest_volume *volume,
		   const char *target, struct nfs_mount *ret_mount, struct error *err)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_errno(err, "pipe");
	pid = fork();
	if (pid == 0)
		mount_in_child(settings, volume, target, fds[1]);
	close_fd(&fds[1]);
	if (pid < 0) {
		close_fd(&fds[0]);
		return error_errno(err, "fork");
	}
	*ret_mount = (struct nfs_mount){
		.pid = pid,
		.error_fd = fds[0],
		.deadline_us = clock_monotonic_us() + (int64_t)volume->deadline_ms * 1000,
	};
	return 0;
}

int init_nfs_finish(struct nfs_mount *mount, int wait_status, struct error *err)
{
	scoped_fd int error_fd = take_fd(&mount->error_fd);
	char text[512];
	ssize_t length;

	mount->pid = 0;
	if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0)
		return 0;
	length = read(error_fd, text, sizeof(text) - 1);
	text[length > 0 ? length : 0] = '\0';
	return error_set(err, EIO, "%s", text[0] ? text : "mount failed without a word");
}

void init_nfs_abandon(struct nfs_mount *mount)
{
	kill(mount->pid, SIGKILL);
	close_fd(&mount->error_fd);
	mount->pid = 0;
}
