// SPDX-License-Identifier: Apache-2.0
// A container's first process: pid 1 of its own pid namespace, in its own mount and ipc
// namespaces; network and hostname are the task's. Its pidfd is the handle for signals and health
// checks.
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "agent/guest/init.h"

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/scope.h"

// The child is born in the cgroup: none of its memory is charged to another one.
static int clone_with_pidfd(uint64_t flags, int cgroup_fd, int *ret_pidfd)
{
	struct clone_args arguments = {
		.flags = flags | CLONE_PIDFD | (cgroup_fd < 0 ? 0 : CLONE_INTO_CGROUP),
		.pidfd = (uint64_t)(uintptr_t)ret_pidfd,
		.exit_signal = SIGCHLD,
		.cgroup = cgroup_fd < 0 ? 0 : (unsigned)cgroup_fd,
	};

	return (int)syscall(SYS_clone3, &arguments, sizeof(arguments));
}

void init_child_prepare(int stdout_fd, int stderr_fd, int kept_fd)
{
	struct error ignored;
	sigset_t none;
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	umask(022);
	file_write_kernel(AT_FDCWD, "/proc/self/oom_score_adj", "0",
			  &ignored); // init's is not theirs
	dup2(null_fd, STDIN_FILENO);
	dup2(stdout_fd < 0 ? null_fd : stdout_fd, STDOUT_FILENO);
	dup2(stderr_fd < 0 ? null_fd : stderr_fd, STDERR_FILENO);
	if (kept_fd != INIT_CHILD_FD)
		dup3(kept_fd, INIT_CHILD_FD, O_CLOEXEC);
	syscall(SYS_close_range, INIT_CHILD_FD + 1, ~0u, 0);
}

static _Noreturn void run_child(const struct container_plan *plan, int stdout_fd, int stderr_fd,
				int start_fd)
{
	struct error err = {0};

	init_child_prepare(stdout_fd, stderr_fd, start_fd);
	if (init_rootfs_enter(plan, &err) == 0)
		init_identity_exec(plan->spec, plan->spec->arguments, &err);
	dprintf(INIT_CHILD_FD, "%s", err.message);
	_exit(INIT_CHILD_FAILED);
}

struct pipe_pair {
	int read_fd, write_fd;
};

static void close_pipes(struct pipe_pair pipes[3])
{
	for (int i = 0; i < 3; i++) {
		close_fd(&pipes[i].read_fd);
		close_fd(&pipes[i].write_fd);
	}
}

static int open_pipes(struct pipe_pair pipes[3], struct error *err)
{
	for (int i = 0; i < 3; i++) {
		int fds[2];

		if (pipe2(fds, O_CLOEXEC) < 0)
			return error_errno(err, "pipe");
		pipes[i] = (struct pipe_pair){fds[0], fds[1]};
		fcntl(fds[0], F_SETFL, O_NONBLOCK);
		// The write ends belong to whatever user the container runs as: it may open
		// /dev/stdout.
		fchmod(fds[1], 0622);
	}
	return 0;
}

int init_container_start(struct container *container, const struct guest_manifest *manifest,
			 uint32_t index, struct error *err)
{
	const struct container_plan plan = {container->spec, manifest, index};
	struct pipe_pair pipes[3] = {{-1, -1}, {-1, -1}, {-1, -1}};
	int result = open_pipes(pipes, err);

	if (result == 0) {
		container->pid = clone_with_pidfd(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC,
						  container->cgroup_fd, &container->pidfd);
		if (container->pid == 0)
			run_child(&plan, pipes[0].write_fd, pipes[1].write_fd, pipes[2].write_fd);
		if (container->pid < 0)
			result = error_errno(err, "clone");
	}
	if (result < 0) {
		container->pid = 0;
		close_pipes(pipes);
		return result;
	}
	container->phase = CONTAINER_STARTING;
	for (int i = 0; i < 2; i++)
		init_log_open(&container->streams[i], take_fd(&pipes[i].read_fd));
	container->start_fd = take_fd(&pipes[2].read_fd);
	close_pipes(pipes);
	return 0;
}

int init_container_started(struct container *container, struct error *err)
{
	char text[ERROR_MESSAGE_MAX];
	ssize_t length = read(container->start_fd, text, sizeof(text) - 1);

	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	close_fd(&container->start_fd);
	if (length <= 0)
		return container->killed_us ? -ECANCELED : 0;
	text[length] = '\0';
	return error_set(err, ENOEXEC, "%s", text);
}

static void send_signal(const struct container *container, int number)
{
	syscall(SYS_pidfd_send_signal, container->pidfd, number, NULL, 0);
}

void init_container_stop(struct container *container, int64_t now_us)
{
	send_signal(container, (int)container->spec->stop_signal);
	container->kill_us = now_us + (int64_t)container->spec->stop_timeout_s * 1000000;
}

void init_container_kill(struct container *container, int64_t now_us)
{
	send_signal(container, SIGKILL);
	container->killed_us = now_us;
}
