// SPDX-License-Identifier: Apache-2.0
// Which container may start, which must stop. Everything follows from the phases of the
// containers and the clock: each tick looks at all of them (at most ten) and does what is due.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "agent/guest/init.h"

#include "agent/base/clock.h"
#include "agent/base/scope.h"

static const int64_t second_us = 1000000;
static const int64_t kill_grace_us = 3000000;  // what a killed process may take to end
static const int64_t flush_least_us = 1000000; // what file servers have in any case

// ---------------------------------------------------------------- ends

static void note(struct task *task)
{
	task->status_changed = true;
}

// A text that does not fit is cut: the reason's beginning says most.
__attribute__((format(printf, 2, 3))) static void set_reason(struct guest_container_status *status,
							     const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(status->reason, sizeof(status->reason), format, arguments);
	va_end(arguments);
}

// A container that will not run; its reason is set.
static void fail_container(struct task *task, struct container *container)
{
	container->phase = CONTAINER_STOPPED;
	container->status->state = GUEST_CONTAINER_STOPPED;
	container->status->finished_ms = clock_wall_ms();
	note(task);
	if (container->spec->essential)
		init_task_stop(task);
}

static void set_phase(struct task *task, enum guest_phase phase)
{
	if (task->status.phase >= phase)
		return;
	task->status.phase = phase;
	if (phase == GUEST_PHASE_STOPPING)
		task->stopping_us = clock_monotonic_us();
	note(task);
}

void init_task_stop(struct task *task)
{
	set_phase(task, GUEST_PHASE_STOPPING);
}

__attribute__((format(printf, 2, 3))) static void fail_task(struct task *task, const char *format,
							    ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(task->status.failure, sizeof(task->status.failure), format, arguments);
	va_end(arguments);
	note(task);
	init_task_stop(task);
}

// ---------------------------------------------------------------- volumes

static int open_volumes(struct task *task, struct error *err)
{
	struct guest_manifest *manifest = &task->manifest;
	bool nfs = false;
	int result = 0;

	for (uint32_t i = 0; i < manifest->volume_count; i++)
		nfs |= manifest->volumes[i].kind == GUEST_VOLUME_NFS;
	if (nfs)
		result = init_boot_load_nfs(err);
	init_boot_drop_modules();
	for (uint32_t i = 0; result == 0 && i < manifest->volume_count; i++) {
		char target[PATH_MAX];

		result = init_mounts_volume(manifest, i, err);
		if (result < 0 || manifest->volumes[i].kind != GUEST_VOLUME_NFS)
			continue;
		init_mounts_volume_path(manifest, i, target);
		result = init_nfs_start(&task->settings, &manifest->volumes[i], target,
					&task->nfs[i], err);
	}
	return result;
}

static void fail_volume(struct task *task, const struct guest_volume *volume, const char *message)
{
	fail_task(task,
		  "ResourceInitializationError: failed to invoke EFS utils commands to set up EFS "
		  "volumes: volume %s: %s",
		  volume->name, message);
}

static void tick_volumes(struct task *task, int64_t now_us)
{
	bool waiting = false;

	for (uint32_t i = 0; i < task->manifest.volume_count; i++) {
		const struct guest_volume *volume = &task->manifest.volumes[i];
		struct volume_mount *mount = &task->nfs[i];
		struct error err = {0};

		if (!mount->pid)
			continue;
		if (now_us >= mount->deadline_us) {
			init_nfs_overdue(volume, &err);
			fail_volume(task, volume, err.message);
		}
		if (task->status.phase >= GUEST_PHASE_STOPPING)
			init_nfs_abandon(mount);
		waiting |= mount->pid != 0;
	}
	task->volumes_ready = !waiting;
}

static bool volume_reaped(struct task *task, pid_t pid, int wait_status)
{
	for (uint32_t i = 0; i < task->manifest.volume_count; i++) {
		struct error err;

		if (!task->nfs[i].pid || task->nfs[i].pid != pid)
			continue;
		if (init_nfs_finish(&task->nfs[i], wait_status, &err) < 0)
			fail_volume(task, &task->manifest.volumes[i], err.message);
		return true;
	}
	return false;
}

// ---------------------------------------------------------------- start

enum readiness { READY, NOT_YET, NEVER };

static enum readiness dependency_state(const struct container *other,
				       enum guest_condition condition, int64_t now_us)
{
	bool stopped = other->phase == CONTAINER_STOPPED;
	bool ran = other->status->started_ms != 0;
	bool overdue =
		ran && now_us >= other->started_us + other->spec->start_timeout_s * second_us;

	switch (condition) {
	case GUEST_CONDITION_START:
		return ran ? READY : stopped ? NEVER : NOT_YET;
	case GUEST_CONDITION_COMPLETE:
		return stopped ? (ran ? READY : NEVER) : overdue ? NEVER : NOT_YET;
	case GUEST_CONDITION_SUCCESS:
		if (stopped)
			return ran && other->status->exit_code == 0 ? READY : NEVER;
		return overdue ? NEVER : NOT_YET;
	case GUEST_CONDITION_HEALTHY:
		if (stopped)
			return NEVER;
		if (other->status->health == GUEST_HEALTH_HEALTHY)
			return READY;
		// As with ECS an UNHEALTHY one may still become HEALTHY within its startTimeout.
		return overdue ? NEVER : NOT_YET;
	}
	return NEVER;
}

static enum readiness container_readiness(struct task *task, struct container *container,
					  int64_t now_us)
{
	static const char *const conditions[] = {"START", "COMPLETE", "SUCCESS", "HEALTHY"};
	enum readiness whole = READY;

	for (uint32_t i = 0; i < container->spec->dependency_count; i++) {
		const struct guest_dependency *dependency = &container->spec->dependencies[i];
		const struct container *other = &task->containers[dependency->container];
		enum readiness one = dependency_state(other, dependency->condition, now_us);

		if (one == NEVER) {
			set_reason(container->status,
				   "TaskDependencyError: container %s did not reach %s",
				   other->spec->name, conditions[dependency->condition]);
			fail_container(task, container);
			return NEVER;
		}
		if (one == NOT_YET)
			whole = NOT_YET;
	}
	return whole;
}

static void start_container(struct task *task, uint32_t index)
{
	struct container *container = &task->containers[index];
	struct error err = {0};

	if (init_mounts_container(&task->settings, &task->manifest, index, &err) < 0 ||
	    init_memory_container(&task->settings, container, index, &err) < 0)
		set_reason(container->status, "CannotCreateContainerError: %s", err.message);
	else if (init_container_start(container, &task->manifest, index, &err) < 0)
		set_reason(container->status, "CannotStartContainerError: %s", err.message);
	else
		return;
	fail_container(task, container);
}

static void check_started(struct task *task, struct container *container, int64_t now_us)
{
	struct error err = {0};
	int result = init_container_started(container, &err);

	if (result == -EAGAIN || result == -ECANCELED)
		return;
	if (result < 0) {
		// Its process ends by itself; that the reason stands is what counts then.
		set_reason(container->status, "CannotStartContainerError: %s", err.message);
		return;
	}
	container->phase = CONTAINER_RUNNING;
	container->started_us = now_us;
	container->status->state = GUEST_CONTAINER_RUNNING;
	container->status->started_ms = clock_wall_ms();
	note(task);
	init_health_begin(container, now_us);
}

static void tick_starting(struct task *task, int64_t now_us)
{
	bool all_started = true;

	for (uint32_t i = 0; i < task->manifest.container_count; i++) {
		struct container *container = &task->containers[i];

		if (container->start_fd >= 0)
			check_started(task, container, now_us);
		if (container->phase == CONTAINER_WAITING && task->volumes_ready &&
		    task->status.phase < GUEST_PHASE_STOPPING &&
		    container_readiness(task, container, now_us) == READY)
			start_container(task, i);
		if (container->phase < CONTAINER_RUNNING)
			all_started = false;
	}
	if (all_started)
		set_phase(task, GUEST_PHASE_RUNNING);
}

// ---------------------------------------------------------------- stop

static bool has_live_dependents(const struct task *task, uint32_t index)
{
	for (uint32_t i = 0; i < task->manifest.container_count; i++) {
		const struct container *other = &task->containers[i];

		if (other->phase != CONTAINER_STARTING && other->phase != CONTAINER_RUNNING)
			continue;
		for (uint32_t k = 0; k < other->spec->dependency_count; k++)
			if (other->spec->dependencies[k].container == index)
				return true;
	}
	return false;
}

// Of a container whose process has ended, or will not: what is known of it by now.
static void settle_container(struct task *task, struct container *container)
{
	container->pid = 0;
	container->phase = CONTAINER_STOPPED;
	container->status->state = GUEST_CONTAINER_STOPPED;
	container->status->finished_ms = clock_wall_ms();
	container->status->memory_bytes = 0;
	close_fd(&container->start_fd);
	close_fd(&container->pidfd);
	close_fd(&container->cgroup_fd);
	note(task);
	if (container->spec->essential)
		init_task_stop(task);
}

static void container_ended(struct task *task, struct container *container, int wait_status)
{
	struct guest_container_status *status = container->status;

	if (container->start_fd >= 0)
		check_started(task, container, clock_monotonic_us());
	if (status->started_ms)
		status->exit_code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status)
							   : 128 + WTERMSIG(wait_status);
	// The kernel counts a kill before it sends the signal, so the count is there already.
	if (status->exit_code > 0 && !container->killed_us && init_memory_killed(container))
		set_reason(status, "OutOfMemoryError: Container killed due to memory usage");
	settle_container(task, container);
}

// A process that waits for a silent file server may not end by SIGKILL either (writeback is not
// always killable). It ends with the machine: nobody waits for it, nor for what it holds.
static void abandon_container(struct task *task, struct container *container)
{
	for (int i = 0; i < 2; i++) {
		if (container->streams[i].fd >= 0 && init_log_has_room(&container->streams[i]))
			init_log_read(&container->streams[i]);
		close_fd(&container->streams[i].fd);
	}
	if (container->status->started_ms)
		container->status->exit_code = 128 + SIGKILL;
	set_reason(container->status,
		   "CannotStopContainerError: killed, but a process does not end: it waits for a "
		   "file server or a disk");
	settle_container(task, container);
}

static void tick_stopping(struct task *task, int64_t now_us)
{
	bool all_stopped = true;

	for (uint32_t i = 0; i < task->manifest.container_count; i++) {
		struct container *container = &task->containers[i];

		if (container->phase == CONTAINER_WAITING) {
			container->phase = CONTAINER_STOPPED;
			container->status->state = GUEST_CONTAINER_STOPPED;
			note(task);
		}
		if (container->phase == CONTAINER_STOPPED)
			continue;
		all_stopped = false;
		// It has not become its program yet, and would not hear a signal.
		if (container->phase == CONTAINER_STARTING && !container->killed_us)
			init_container_kill(container, now_us);
		else if (!container->kill_us && !has_live_dependents(task, i))
			init_container_stop(container, now_us);
		if (container->kill_us && now_us >= container->kill_us && !container->killed_us)
			init_container_kill(container, now_us);
		if (container->killed_us && now_us >= container->killed_us + kill_grace_us)
			abandon_container(task, container);
	}
	if (all_stopped && task->volumes_ready)
		set_phase(task, GUEST_PHASE_ENDED);
}

void init_task_reaped(struct task *task, pid_t pid, int wait_status, int64_t now_us)
{
	if (volume_reaped(task, pid, wait_status))
		return;
	for (uint32_t i = 0; i < task->manifest.container_count; i++) {
		struct container *container = &task->containers[i];
		enum guest_health before = container->status->health;

		if (container->pid && container->pid == pid) {
			container_ended(task, container, wait_status);
			return;
		}
		if (init_health_reaped(container, pid, wait_status, now_us)) {
			if (container->status->health != before)
				note(task);
			return;
		}
	}
}

// ---------------------------------------------------------------- the whole

int init_task_open(struct task *task, struct error *err)
{
	task->status.container_count = task->manifest.container_count;
	for (uint32_t i = 0; i < task->manifest.container_count; i++) {
		task->status.containers[i].exit_code = GUEST_EXIT_NONE;
		task->containers[i] = (struct container){
			.spec = &task->manifest.containers[i],
			.status = &task->status.containers[i],
			.pidfd = -1,
			.start_fd = -1,
			.cgroup_fd = -1,
			.streams = {{.fd = -1}, {.fd = -1}},
		};
	}
	note(task);
	if (sethostname(task->manifest.hostname, strlen(task->manifest.hostname)) < 0)
		return error_errno(err, "set the host name");
	if (init_mounts_disk(&task->settings, err) < 0 ||
	    init_memory_open(&task->settings, err) < 0)
		return -err->code;
	return open_volumes(task, err);
}

void init_task_fail(struct task *task, const struct error *err)
{
	fail_task(task, "ResourceInitializationError: %s", err->message);
}

void init_task_tick(struct task *task, int64_t now_us)
{
	init_usage_tick(task, now_us);
	tick_volumes(task, now_us);
	tick_starting(task, now_us);
	for (uint32_t i = 0; i < task->manifest.container_count; i++)
		init_health_tick(&task->containers[i], now_us);
	if (task->status.phase >= GUEST_PHASE_STOPPING)
		tick_stopping(task, now_us);
}

bool init_task_ended(const struct task *task)
{
	if (task->status.phase != GUEST_PHASE_ENDED)
		return false;
	for (uint32_t i = 0; i < task->manifest.container_count; i++)
		for (int k = 0; k < 2; k++)
			if (task->containers[i].streams[k].fd >= 0)
				return false;
	return true;
}

static int64_t container_next_us(const struct container *container, int64_t now_us)
{
	int64_t next_us = init_health_next_us(container);

	if (container->phase != CONTAINER_STOPPED && (container->kill_us || container->killed_us)) {
		int64_t kill_us = container->killed_us ? container->killed_us + kill_grace_us
						       : container->kill_us;

		if (kill_us < next_us)
			next_us = kill_us;
	}
	// Someone may wait for it no longer than this.
	if (container->phase == CONTAINER_RUNNING) {
		int64_t overdue_us =
			container->started_us + container->spec->start_timeout_s * second_us;

		if (overdue_us > now_us && overdue_us < next_us)
			next_us = overdue_us;
	}
	return next_us;
}

int64_t init_task_next_us(const struct task *task, int64_t now_us)
{
	int64_t next_us = task->usage_us;

	for (uint32_t i = 0; i < task->manifest.volume_count; i++)
		if (task->nfs[i].pid && task->nfs[i].deadline_us < next_us)
			next_us = task->nfs[i].deadline_us;
	for (uint32_t i = 0; i < task->manifest.container_count; i++) {
		int64_t container_us = container_next_us(&task->containers[i], now_us);

		if (container_us < next_us)
			next_us = container_us;
	}
	return next_us;
}

// A task whose containers end early has what is left of the longest stopTimeout to get written
// data to its servers.
int64_t init_task_flush_deadline_us(const struct task *task, int64_t now_us)
{
	int64_t deadline_us = now_us + flush_least_us;

	for (uint32_t i = 0; i < task->manifest.container_count; i++) {
		int64_t stop_us =
			task->stopping_us + task->manifest.containers[i].stop_timeout_s * second_us;

		if (stop_us > deadline_us)
			deadline_us = stop_us;
	}
	return deadline_us;
}
