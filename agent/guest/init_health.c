// SPDX-License-Identifier: Apache-2.0
// Health checks, as Docker counts them: the first one an interval after the start, the
// next an interval after the last ended; `retries` failures in a row make the container
// unhealthy, one success healthy; failures within the start period do not count.
// A check runs as a process inside the container: its pid, mount and ipc namespaces, user,
// environment.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "agent/guest/init.h"

#include "agent/base/scope.h"

static const int64_t second_us = 1000000;

static _Noreturn void run_check(const struct container *container)
{
	struct error unread; // as with Docker, only the exit status counts

	if (init_memory_join(container) < 0)
		_exit(INIT_CHILD_FAILED);
	init_child_prepare(-1, -1, container->pidfd);
	if (setns(INIT_CHILD_FD, CLONE_NEWNS | CLONE_NEWIPC) == 0) {
		close(INIT_CHILD_FD);
		init_identity_exec(container->spec, container->spec->health.arguments, &unread);
	}
	_exit(INIT_CHILD_FAILED);
}

// Children of init are born in the container's pid namespace while it is set for them.
static int start_check(struct container *container)
{
	scoped_fd int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	int pid;

	if (own < 0 || setns(container->pidfd, CLONE_NEWPID) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		run_check(container);
	if (pid < 0)
		pid = -errno;
	// Cannot fail: a process may always return to the namespace it lives in.
	if (setns(own, CLONE_NEWPID) < 0)
		abort();
	return pid;
}

void init_health_begin(struct container *container, int64_t now_us)
{
	container->health = (struct health_run){0};
	if (container->spec->health.argument_count)
		container->health.next_us = now_us + container->spec->health.interval_s * second_us;
}

static void conclude(struct container *container, bool success, int64_t now_us)
{
	const struct guest_health_check *check = &container->spec->health;
	struct health_run *run = &container->health;
	bool starting = now_us < container->started_us + check->start_period_s * second_us;

	run->next_us = now_us + check->interval_s * second_us;
	if (success) {
		run->failures = 0;
		container->status->health = GUEST_HEALTH_HEALTHY;
		return;
	}
	if (starting && container->status->health != GUEST_HEALTH_HEALTHY)
		return;
	if (++run->failures >= check->retries)
		container->status->health = GUEST_HEALTH_UNHEALTHY;
}

void init_health_tick(struct container *container, int64_t now_us)
{
	struct health_run *run = &container->health;
	int pid;

	if (!container->spec->health.argument_count || container->phase != CONTAINER_RUNNING)
		return;
	if (run->pid) {
		if (now_us >= run->deadline_us) {
			kill(run->pid, SIGKILL);
			kill(-run->pid, SIGKILL);     // what it started is in its session
			run->deadline_us = INT64_MAX; // once: its end comes as a signal
		}
		return;
	}
	if (now_us < run->next_us)
		return;
	pid = start_check(container);
	if (pid < 0) {
		conclude(container, false, now_us);
		return;
	}
	run->pid = pid;
	run->deadline_us = now_us + container->spec->health.timeout_s * second_us;
}

bool init_health_reaped(struct container *container, pid_t pid, int wait_status, int64_t now_us)
{
	struct health_run *run = &container->health;

	if (!run->pid || run->pid != pid)
		return false;
	run->pid = 0;
	if (container->phase == CONTAINER_RUNNING)
		conclude(container, WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0,
			 now_us);
	return true;
}

int64_t init_health_next_us(const struct container *container)
{
	if (!container->spec->health.argument_count || container->phase != CONTAINER_RUNNING)
		return INT64_MAX;
	return container->health.pid ? container->health.deadline_us : container->health.next_us;
}
