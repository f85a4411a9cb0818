// SPDX-License-Identifier: Apache-2.0
// Volumes of file servers, mounted by the guest's NFS 4.1 client. mount(2) waits for a silent
// server without end ("hard"), and fails at once where nobody listens. So each mount has a process,
// which tries again until its deadline; past that it is killed (its wait is killable) and the task
// fails. How to mount is the nfs module's plan, made here once more from the values in the
// manifest.
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
#include "nfs/nfs.h"

enum { RETRY_US = 500000 };

static void set_read_ahead(const char *target)
{
	char path[NFS_READ_AHEAD_PATH_SIZE], value[16];
	struct error ignored;
	struct stat status;

	if (stat(target, &status) < 0)
		return;
	nfs_read_ahead_path(major(status.st_dev), minor(status.st_dev), path);
	snprintf(value, sizeof(value), "%d", NFS_READ_AHEAD_KIB);
	file_write_kernel(AT_FDCWD, path, value, &ignored);
}

static int plan_mount(const struct init_settings *settings, const struct guest_volume *volume,
		      struct nfs_mount *ret_mount, struct error *err)
{
	char ip[INET_ADDRSTRLEN];
	const struct nfs_volume plan = {
		.server = volume->server,
		.port = (uint16_t)volume->port,
		.export_path = volume->path,
		.client_address = inet_ntop(AF_INET, &settings->ip, ip, sizeof(ip)),
	};

	return nfs_mount_plan(&plan, ret_mount, err);
}

// What may pass is tried again until the deadline, and the last error is the task's reason.
static int mount_volume(const struct init_settings *settings, const struct guest_volume *volume,
			const char *target, int64_t deadline_us, struct error *err)
{
	struct nfs_mount plan;

	if (plan_mount(settings, volume, &plan, err) < 0)
		return -err->code;
	while (mount(plan.source, target, plan.type, plan.flags, plan.options) < 0) {
		nfs_mount_failure(plan.source, errno, err);
		if (!nfs_mount_may_pass(err->code) ||
		    clock_monotonic_us() + 2 * RETRY_US >= deadline_us)
			return -err->code;
		usleep(RETRY_US);
	}
	set_read_ahead(target);
	return 0;
}

static _Noreturn void mount_in_child(const struct init_settings *settings,
				     const struct guest_volume *volume, const char *target,
				     int64_t deadline_us, int error_fd)
{
	struct error err = {0};

	if (mount_volume(settings, volume, target, deadline_us, &err) == 0)
		_exit(0);
	if (write(error_fd, err.message, strlen(err.message)) < 0)
		_exit(2);
	_exit(1);
}

int init_nfs_start(const struct init_settings *settings, const struct guest_volume *volume,
		   const char *target, struct volume_mount *ret_mount, struct error *err)
{
	int64_t deadline_us = clock_monotonic_us() + (int64_t)volume->deadline_ms * 1000;
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_errno(err, "pipe");
	pid = fork();
	if (pid == 0)
		mount_in_child(settings, volume, target, deadline_us, fds[1]);
	close_fd(&fds[1]);
	if (pid < 0) {
		close_fd(&fds[0]);
		return error_errno(err, "fork");
	}
	*ret_mount = (struct volume_mount){
		.pid = pid,
		.error_fd = fds[0],
		.deadline_us = deadline_us,
	};
	return 0;
}

int init_nfs_finish(struct volume_mount *mount, int wait_status, struct error *err)
{
	scoped_fd int error_fd = take_fd(&mount->error_fd);
	char text[ERROR_MESSAGE_MAX];
	ssize_t length;

	mount->pid = 0;
	if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0)
		return 0;
	length = read(error_fd, text, sizeof(text) - 1);
	text[length > 0 ? length : 0] = '\0';
	return error_set(err, EIO, "%s", text[0] ? text : "mount failed without a word");
}

static pid_t start_flush(const char *path)
{
	pid_t pid = fork();

	if (pid == 0) {
		int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		_exit(fd < 0 || syncfs(fd) < 0);
	}
	return pid < 0 ? 0 : pid;
}

// Waits for a child's end, or for the deadline; SIGCHLD is blocked.
static void await_child(int64_t deadline_us)
{
	int64_t left_us = deadline_us - clock_monotonic_us();
	const struct timespec left = {left_us / 1000000, left_us % 1000000 * 1000};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigtimedwait(&set, NULL, &left);
}

void init_nfs_flush(const struct guest_manifest *manifest, int64_t deadline_us)
{
	pid_t pids[GUEST_VOLUMES_MAX] = {0};
	bool pending = true;

	for (uint32_t i = 0; i < manifest->volume_count; i++) {
		char path[PATH_MAX];

		init_mounts_volume_path(manifest, i, path);
		if (manifest->volumes[i].kind == GUEST_VOLUME_NFS)
			pids[i] = start_flush(path);
	}
	while (pending && clock_monotonic_us() < deadline_us) {
		pending = false;
		for (uint32_t i = 0; i < manifest->volume_count; i++) {
			if (pids[i] && waitpid(pids[i], NULL, WNOHANG) != 0)
				pids[i] = 0;
			pending |= pids[i] != 0;
		}
		if (pending)
			await_child(deadline_us);
	}
}

void init_nfs_abandon(struct volume_mount *mount)
{
	kill(mount->pid, SIGKILL);
	close_fd(&mount->error_fd);
	mount->pid = 0;
}

int init_nfs_overdue(const struct guest_volume *volume, struct error *err)
{
	char source[NFS_SOURCE_SIZE];

	snprintf(source, sizeof(source), "%s:%s", volume->server, volume->path);
	return nfs_mount_failure(source, ETIMEDOUT, err);
}
