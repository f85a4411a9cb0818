// SPDX-License-Identifier: Apache-2.0
// The connections to the cells' shims: what they say becomes the task's status, and after a
// restart of the agent they are found again.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/base/scope.h"
#include "agent/task/internal.h"

enum { STATUSES_PER_TURN = 16 }; // a shim may be hostile: others have their turn too
enum { ADOPT_RETRY_US = 200000 };

struct cell task_cell(const struct task *task)
{
	bool root = task->vmm->link == VMM_LINK_NETNS;

	return (struct cell){
		.tree = &task->engine->tree,
		.state_directory = task->engine->config->state_directory,
		.task = task->id,
		.uid = root ? 0 : task->status.uid,
		.gid = root ? 0 : task->status.uid,
	};
}

// --- What the shim says ---

static bool essential_ended(const struct task *task)
{
	for (uint32_t i = 0; i < task->spec->container_count; i++)
		if (task->spec->containers[i].essential &&
		    task->status.containers[i].last_status == CONTAINER_STOPPED)
			return true;
	return false;
}

void cell_stop_ended(struct task *task)
{
	if (task->cell.guest.failure[0])
		task_stop(task, STOP_CODE_TASK_FAILED_TO_START, task->cell.guest.failure);
	else if (essential_ended(task))
		task_stop(task, STOP_CODE_ESSENTIAL_CONTAINER_EXITED,
			  "Essential container in task exited");
	else
		task_stop(task, STOP_CODE_INFRASTRUCTURE_HEALTH, "The guest ended unexpectedly");
}

bool cell_has_ended(const struct task *task)
{
	return task->shim_gone || task->cell.vmm == VMM_EXITED ||
	       task->cell.guest.phase >= GUEST_PHASE_STOPPING;
}

static void record_change(struct task *task, enum status_change change)
{
	if (change >= STATUS_CHANGE_HEALTH)
		task_changed(task);
	else if (change == STATUS_CHANGE_DISK)
		metadata_refresh(task);
}

static void clear_shim_error(struct task *task)
{
	if (!task->status.shim_error[0])
		return;
	task->status.shim_error[0] = '\0';
	task_changed(task);
}

void cell_take_status(struct task *task, const struct cell_status *said)
{
	enum status_change change =
		status_change_take(task->spec, &task->cell, said, &task->status);

	task->cell = *said;
	task->adopting = false;
	clear_shim_error(task);
	close_fd(&task->shim.status_fd); // it was executed
	task->launched = task->launched || said->vmm != VMM_NOT_STARTED;
	record_change(task, status_change_pass(&task->change_limit, change));
	task_ready(task);
}

void cell_sweep(struct task *task)
{
	record_change(task, status_change_sweep(&task->change_limit));
}

// Why a shim that was just started did not get as far as to speak.
static void take_spawn_failure(struct task *task)
{
	struct error err = {0};

	if (task->shim.status_fd < 0 || process_wait_exec(&task->shim, &err) == 0)
		return;
	snprintf(task->cell.vmm_failure, sizeof(task->cell.vmm_failure), "penstock-shim: %.400s",
		 err.message);
}

// The shim is gone. Its file is read only for what it could not tell any more: a shim that found
// the disk full has told more than it could write, so the newer of both counts. If an adopted cell
// had not started anything, the walk starts from scratch.
static void shim_ended(struct task *task)
{
	bool adopting = task->adopting;
	struct cell cell = task_cell(task);
	struct cell_status said;
	struct error err = {0};

	take_spawn_failure(task);
	clear_shim_error(task);
	cell_disconnect(task);
	if (cell_status_read(&cell, &said, &err) == 0 && said.revision > task->cell.revision)
		cell_take_status(task, &said);
	if (adopting && task->status.progress[STEP_VMM].applied)
		task->launched = true;
	task->adopting = false;
	task->shim_gone = task->launched || !adopting;
	if (adopting && task->launched)
		cell_stop_ended(task);
	task_ready(task);
}

// An adopted shim that has not started its VMM: which of its descriptors it was given is not worth
// finding out. The step `cell` kills it and starts another.
static void start_cell_anew(struct task *task)
{
	cell_disconnect(task);
	task->adopting = false;
	task_ready(task);
}

static void on_channel(evutil_socket_t fd, short what, void *context)
{
	struct task *task = context;
	struct cell_status said;
	struct error err = {0};
	int result = 1;

	(void)what;
	for (int i = 0; i < STATUSES_PER_TURN; i++) {
		result = cell_status_receive(fd, &said, &err);
		if (result != 1)
			break;
		if (task->adopting && said.vmm == VMM_NOT_STARTED) {
			start_cell_anew(task);
			return;
		}
		cell_take_status(task, &said);
	}
	if (result != 1 && result != -EAGAIN)
		shim_ended(task);
}

int cell_connect(struct task *task, int channel_fd, struct error *err)
{
	task->channel_fd = channel_fd;
	task->shim_gone = false;
	task->channel_event =
		event_new(task->engine->base, channel_fd, EV_READ | EV_PERSIST, on_channel, task);
	if (!task->channel_event || event_add(task->channel_event, NULL) < 0)
		return error_set(err, ENOMEM, "watch the shim");
	return 0;
}

void cell_disconnect(struct task *task)
{
	if (task->channel_event)
		event_free(task->channel_event);
	task->channel_event = NULL;
	close_fd(&task->channel_fd);
}

// --- After a restart ---

// A fault of our own must not end what runs: the time of a shim that may be there counts from the
// last one.
static bool is_own_fault(int result)
{
	return result == -EMFILE || result == -ENFILE || result == -ENOMEM;
}

static int64_t silence_us(const struct task *task)
{
	return task->engine->config->guest_silence_seconds * INT64_C(1000000);
}

static void connect_again(struct task *task)
{
	const struct log_context context = {task->id, task->status.network.eni_id};
	struct cell cell = task_cell(task);
	struct error err = {0};
	int channel_fd = -1;
	int result = -ESRCH;

	if (task->status.shim.pid > 0)
		result = cell_adopt(&cell, task->status.shim.pid, task->status.shim.start_time,
				    &task->shim, &channel_fd, &err);
	if (result == 0 && cell_connect(task, channel_fd, &err) < 0) {
		result = -err.code;
		cell_disconnect(task);
		process_close(&task->shim);
	}
	if (result == -ESRCH) {
		shim_ended(task);
		return;
	}
	if (is_own_fault(result)) {
		task->adopt_report_us = clock_monotonic_us() + silence_us(task);
		task->adopt_kill_us = 0;
	}
	task->adopt_wake_us = result == 0 ? 0 : clock_monotonic_us() + ADOPT_RETRY_US;
	if (result == 0)
		log_info(&context, "connected to shim %d", task->status.shim.pid);
	else if (!task->status.shim_error[0])
		log_warning(&context, "adopt, tried again: %s", err.message);
}

static void report_silence(struct task *task)
{
	const struct log_context context = {task->id, task->status.network.eni_id};

	snprintf(
		task->status.shim_error, sizeof(task->status.shim_error),
		"shim %d does not %s since this agent started (stopped, or its cgroup is frozen?): "
		"the task goes on and is adopted as soon as it does",
		task->status.shim.pid, task->channel_fd < 0 ? "answer" : "speak");
	log_error(&context, "%s", task->status.shim_error);
	task_changed(task);
}

// A shim that is silent cannot stop its task in order, and an operator's word is not put off for
// ever.
static void kill_silent(struct task *task)
{
	const struct log_context context = {task->id, task->status.network.eni_id};
	struct error err = {0};

	log_error(&context, "it is to stop, and shim %d is silent: the cell is killed",
		  task->status.shim.pid);
	if (cgroup_kill(&task->engine->tree, task->id, &err) < 0)
		log_error(&context, "%s", err.message);
	shim_ended(task);
}

// The drain of a task that is to stop begins, or goes on, although its walk does not run.
static bool is_draining(struct task *task)
{
	struct error ignored = {0};

	return task->status.desired_status == TASK_STOPPED &&
	       task->status.progress[STEP_TARGETS].applied &&
	       targets_undo(task, &ignored) == WALK_WAIT;
}

static bool is_due(int64_t time_us, int64_t now_us)
{
	return time_us != 0 && now_us >= time_us;
}

int64_t cell_adopt_wake_us(const struct task *task)
{
	const int64_t times_us[] = {task->adopt_wake_us, task->adopt_kill_us,
				    task->status.shim_error[0] ? 0 : task->adopt_report_us};
	int64_t wake_us = INT64_MAX;

	for (size_t i = 0; i < ARRAY_LENGTH(times_us); i++)
		if (times_us[i] != 0 && times_us[i] < wake_us)
			wake_us = times_us[i];
	return wake_us;
}

// The shim may be stopped, or frozen with its cgroup: it runs no task of its own accord into the
// ground, so it is waited for without an end.
void cell_adopt_again(struct task *task)
{
	int64_t now_us = clock_monotonic_us();
	bool draining;

	if (task->channel_fd < 0 && is_due(task->adopt_wake_us, now_us))
		connect_again(task);
	if (!task->adopting)
		return;
	if (task->status.desired_status == TASK_STOPPED && task->adopt_kill_us == 0)
		task->adopt_kill_us = now_us + silence_us(task);
	draining = is_draining(task);
	if (draining && is_due(task->adopt_kill_us, now_us))
		task->adopt_kill_us = now_us + ADOPT_RETRY_US;
	if (is_due(task->adopt_kill_us, now_us))
		kill_silent(task);
	else if (!task->status.shim_error[0] && is_due(task->adopt_report_us, now_us))
		report_silence(task);
}

// What the balancers' table still serves is said again before it is made anew: no connection is
// lost. What was draining drains again, without having been served in between.
static void keep_targets(struct task *task)
{
	const struct log_context context = {task->id, task->status.network.eni_id};
	struct error err = {0};

	if (!task->status.progress[STEP_TARGETS].applied)
		return;
	if (targets_apply(task, &err) < 0 ||
	    (task->status.desired_status == TASK_STOPPED && targets_undo(task, &err) < 0))
		log_warning(&context, "targets: %s", err.message);
}

void cell_adopt_task(struct task *task)
{
	const struct log_context context = {task->id, task->status.network.eni_id};
	struct error err = {0};

	if (task->status.last_status == TASK_STOPPED)
		return;
	if (task_adopt_identities(task, &err) < 0)
		log_error(&context, "adopt: %s", err.message);
	task->walk.left = TASK_STEP_COUNT;
	if (!task_is_of_this_boot(task)) {
		task_host_rebooted(task);
		return;
	}
	keep_targets(task);
	if (task->status.desired_status == TASK_STOPPED)
		walk_turn_down(&task->walk);
	clear_shim_error(task); // a previous agent's
	task->adopting = true;
	task->adopt_wake_us = clock_monotonic_us();
	task->adopt_report_us = clock_monotonic_us() + silence_us(task);
	cell_adopt_again(task);
	task_arm_timer(task);
}
