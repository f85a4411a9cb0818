// SPDX-License-Identifier: Apache-2.0
// The steps that make a task's place: cell and disk, with the janitors that steps wait for.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "agent/base/scope.h"
#include "agent/task/internal.h"

static void on_janitor(void *owner, const struct error *err)
{
	struct task *task = owner;

	task->janitor_running = false;
	task->janitor_error = *err;
	task_ready(task);
}

int task_wait_for_janitor(struct task *task, const char *argument, int kept_fd, janitor_work work,
			  struct error *err)
{
	if (task->janitor_running)
		return WALK_WAIT;
	if (task->janitor_error.code) {
		*err = task->janitor_error;
		error_clear(&task->janitor_error);
		return -err->code;
	}
	if (janitor_start(&task->engine->janitors, argument, kept_fd, work, on_janitor, task, err) <
	    0)
		return -err->code;
	task->janitor_running = true;
	return WALK_WAIT;
}

// --- cell ---

enum { STARTING_CPU_UNITS = 1024, CELL_PIDS_MAX = 4096 };

uint64_t cell_memory_bytes(const struct task *task)
{
	struct vmm_request request;

	task_vmm_request(task->engine, task->spec, &request);
	return ((uint64_t)task->spec->memory_mib + task->vmm->overhead_mib(&request) +
		CELL_SHIM_OVERHEAD_MIB)
	       << 20;
}

// Booting the guest is our own overhead, not the task's work: until its containers run, a task of
// less than one CPU is not held to its share.
static int limit_cell(struct task *task, struct error *err)
{
	struct cgroup_limits limits = {.cpu_units = task->spec->cpu_units, .pids = CELL_PIDS_MAX};

	limits.memory_bytes = cell_memory_bytes(task);
	if (limits.cpu_units < STARTING_CPU_UNITS)
		limits.cpu_units = STARTING_CPU_UNITS;
	return cgroup_ensure(&task->engine->tree, task->id, &limits, err);
}

int cell_limit_cpu(struct task *task, struct error *err)
{
	uint32_t cpu_units = task->spec->cpu_units;

	if (cpu_units >= STARTING_CPU_UNITS)
		return 0; // as it was from the start
	return cgroup_cpu_set(&task->engine->tree, task->id, cpu_units, err);
}

static int spawn_shim(struct task *task, struct error *err)
{
	char path[CONFIG_PATH_MAX + 16];
	struct cell cell = task_cell(task);
	struct cell_shim_options options = {.shim_path = path,
					    .log_max_mib = task->engine->config->log_file_mib,
					    .kvm = task->engine->accelerator ==
						   VMM_ACCELERATOR_KVM};
	struct process shim;
	int channel_fd;

	snprintf(path, sizeof(path), "%s/penstock-shim", task->engine->config->program_directory);
	if (cell_shim_spawn(&cell, &options, &shim, &channel_fd, err) < 0)
		return -err->code;
	task->shim = shim;
	task->status.shim = (struct task_shim){shim.pid, shim.start_time};
	task->after_commit = true; // it may run once it is recorded
	task_changed(task);
	return cell_connect(task, channel_fd, err);
}

int cell_apply(void *object, struct error *err)
{
	struct task *task = object;
	struct cell cell = task_cell(task);
	int result;

	if (task->shim_gone)
		return error_set(err, ESRCH,
				 "ResourceInitializationError: cell: the shim ended%s%s",
				 task->cell.vmm_failure[0] ? ": " : "", task->cell.vmm_failure);
	if (task->channel_fd < 0) {
		result = cell_kill(task, err); // what an earlier agent began
		if (result == WALK_WAIT)
			return result;
		if (result < 0 || cell_directory_ensure(&cell, err) < 0 ||
		    limit_cell(task, err) < 0 || spawn_shim(task, err) < 0)
			return error_wrap(err, "ResourceInitializationError: cell");
		return WALK_WAIT;
	}
	if (task->dirty && task->shim.gate_fd >= 0)
		return WALK_WAIT; // not recorded yet
	if (task->shim.gate_fd >= 0 &&
	    (cell_record_put(task, err) < 0 || process_release(&task->shim, err) < 0))
		return error_wrap(err, "ResourceInitializationError: cell");
	return 0;
}

// Everything in the cell is dead: this does not block. Ours to wait for only until the first
// restart.
static void collect_shim(struct task *task)
{
	if (task->shim.pidfd >= 0)
		waitid(P_PIDFD, (id_t)task->shim.pidfd, &(siginfo_t){0}, WEXITED);
	process_close(&task->shim);
	cell_disconnect(task);
	task->status.shim.pid = 0;
}

// A host without a v2 tree says nobody when a cgroup became empty: the undo is tried again then.
static int watch_cell(struct task *task, struct error *err)
{
	struct engine *engine = task->engine;
	int result = cgroup_watch_add(&engine->tree, engine->cgroup_watch_fd, task->id, err);

	if (result == -EOPNOTSUPP)
		return error_set(err, EAGAIN, "processes are left in the cell");
	return result;
}

static bool shim_lives(const struct task *task)
{
	struct pollfd ended = {.fd = task->shim.pidfd, .events = POLLIN};

	return task->shim.pidfd >= 0 && poll(&ended, 1, 0) == 0;
}

// While it is, it is called again with every cgroup that becomes empty.
static void set_dying(struct task *task, bool dying)
{
	if (dying && !task->dying)
		TAILQ_INSERT_TAIL(&task->engine->dying_tasks, task, dying_link);
	else if (!dying && task->dying)
		TAILQ_REMOVE(&task->engine->dying_tasks, task, dying_link);
	task->dying = dying;
}

// Kills what is left in the cell's cgroup; 0 when it is empty.
int cell_kill(struct task *task, struct error *err)
{
	struct engine *engine = task->engine;
	bool empty;

	if (cgroup_is_empty(&engine->tree, task->id, &empty, err) < 0)
		return -err->code;
	if (!empty || shim_lives(task)) {
		if (cgroup_kill(&engine->tree, task->id, err) < 0)
			return -err->code;
		if (shim_lives(task)) // where there are no cgroups, its death takes the VMM with it
			pidfd_send_signal(task->shim.pidfd, SIGKILL, NULL, 0);
		if (watch_cell(task, err) < 0 ||
		    cgroup_is_empty(&engine->tree, task->id, &empty, err) < 0)
			return -err->code;
	}
	set_dying(task, !empty);
	if (!empty)
		return WALK_WAIT;
	collect_shim(task);
	return 0;
}

// The directory stays, with the logs, until the stopped task is forgotten.
int cell_undo(void *object, struct error *err)
{
	struct task *task = object;
	struct cell cell = task_cell(task);
	int result = cell_kill(task, err);

	if (result == 0)
		result = cgroup_remove(&task->engine->tree, task->id, err);
	if (result == 0)
		result = cell_record_remove(&cell, err);
	return result == 0 ? cell_directory_seal(&cell, err) : result;
}

// --- disk ---

// In a janitor: "<GiB> <state>".
static int template_work(const char *argument, struct error *err)
{
	scoped(ephemeral_close) struct ephemeral pool = EPHEMERAL_NONE;
	unsigned size_gib;
	int offset;

	if (sscanf(argument, "%u %n", &size_gib, &offset) != 1)
		return error_set(err, EINVAL, "template: bad argument");
	if (ephemeral_open(argument + offset, &pool, err) < 0)
		return -err->code;
	return ephemeral_template_build(&pool, size_gib, err);
}

int disk_apply(void *object, struct error *err)
{
	struct task *task = object;
	char argument[JANITOR_ARGUMENT_MAX];
	uint32_t size_gib = task->spec->ephemeral_storage_gib;
	uid_t uid = task_cell(task).uid;
	int result = ephemeral_disk_create(&task->engine->pool, task->id, size_gib, uid, uid, err);

	if (result == -ENOMEDIUM) {
		snprintf(argument, sizeof(argument), "%u %s", size_gib,
			 task->engine->config->state_directory);
		result = task_wait_for_janitor(task, argument, -1, template_work, err);
	}
	return result < 0 ? error_wrap(err, "ResourceInitializationError: ephemeral disk") : result;
}

int disk_undo(void *object, struct error *err)
{
	struct task *task = object;

	return ephemeral_disk_destroy(&task->engine->pool, task->id, err);
}
