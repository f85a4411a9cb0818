// SPDX-License-Identifier: Apache-2.0
// What a turn did to tasks before its commit, and what becomes of it.
//
// A request changes the store, and the engine's memory only as far as later requests of the same
// turn must see it: a new task is in the ledger, a deleted one is not found any more, a stop has
// not begun. turn_committed() makes the rest true; turn_undone() makes the memory equal to the
// store again, so that a client who was told that nothing was changed was told the truth. What the
// engine itself had to say of a task (its shim's pid, STOPPED) is written again with the next turn
// that can be committed.
#include <errno.h>
#include <stdio.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/task/internal.h"

enum { RECORD_RETRY_US = 1000000 };

void turn_enter(struct task *task)
{
	if (task->turn.entered)
		return;
	task->turn.entered = true;
	TAILQ_INSERT_TAIL(&task->engine->turn_tasks, task, turn.link);
}

void turn_leave(struct task *task)
{
	if (task->turn.entered)
		TAILQ_REMOVE(&task->engine->turn_tasks, task, turn.link);
	task->turn.entered = false;
}

// --- Stopped ---

static uint32_t shorter_drain(uint32_t one, uint32_t other)
{
	return one < other ? one : other; // TASK_DRAIN_DEFAULT is the largest
}

// Merges a stop into a status: its first reason stays, a later one may shorten the drain.
static void apply_stop(const struct task_stop_asked *asked, struct task_status *status)
{
	if (!asked->wanted)
		return;
	status_stop(status, asked->code, asked->reason);
	if (asked->drain_seconds < status->drain_seconds ||
	    status->boot_times.drain_started.ms == 0)
		status->boot_times.drain_started = asked->time;
	status->drain_seconds = shorter_drain(asked->drain_seconds, status->drain_seconds);
	if (status->boot_times.stop_requested.ms == 0)
		status->boot_times.stop_requested = asked->time;
}

static void ask_to_stop(struct task_stop_asked *asked, const struct task_stop_request *stop)
{
	bool untold = !*stop->reason && stop->code == STOP_CODE_USER_INITIATED;

	if (asked->wanted) {
		asked->drain_seconds = shorter_drain(stop->drain_seconds, asked->drain_seconds);
		return;
	}
	asked->wanted = true;
	asked->code = stop->code;
	asked->drain_seconds = stop->drain_seconds;
	asked->time = clock_boot();
	snprintf(asked->reason, sizeof(asked->reason), "%s",
		 untold ? "Task stopped by user" : stop->reason);
}

int engine_task_stop(struct engine *engine, const char *id, const struct task_stop_request *stop,
		     struct error *err)
{
	struct task *task = task_find_or_fail(engine, id, err);
	struct task_stop_asked asked;
	struct task_status status;

	if (!task)
		return -err->code;
	if (task->status.last_status == TASK_STOPPED)
		return 0;
	asked = task->turn.stop;
	ask_to_stop(&asked, stop);
	status = task->status;
	status.version++;
	apply_stop(&asked, &status);
	if (task_put(task, &status, NULL, err) < 0)
		return -err->code;
	task->turn.stop = asked;
	turn_enter(task);
	return 0;
}

// --- Forgotten ---

// Its directory goes after the commit; if the agent dies before, it has no record any more and
// goes at the next start.
static int forget(struct task *task, struct error *err)
{
	if (store_object_delete(task->engine->store, "task", task->id, NULL, err) < 0)
		return -err->code;
	task->engine->recorded = true;
	task->turn.deleted = true;
	turn_enter(task);
	return 0;
}

int engine_task_delete(struct engine *engine, const char *id, bool dry_run, struct error *err)
{
	struct task *task = task_find_or_fail(engine, id, err);

	if (!task)
		return -err->code;
	if (task->status.last_status != TASK_STOPPED)
		return error_set(err, EBUSY, "task %s is %s: stop it first", id,
				 task_state_name(task->status.last_status));
	return dry_run ? 0 : forget(task, err);
}

void tasks_sweep(struct engine *engine)
{
	uint64_t retention_ms = engine->config->stopped_retention_seconds * UINT64_C(1000);
	struct boot_time now = clock_boot();
	struct error err = {0};

	for (struct task *task = engine->tasks, *next; task; task = next) {
		next = task->next;
		if (task->turn.deleted)
			continue;
		cell_sweep(task);
		if (task->status.last_status == TASK_STOPPED &&
		    boot_time_since_ms(now, task->retained_since) > retention_ms &&
		    forget(task, &err) < 0)
			log_error(NULL, "sweep: %s", err.message);
	}
}

// --- The end of the turn ---

static void commit_task(struct task *task)
{
	if (task->turn.deleted) {
		if (!is_unrecorded(task->engine, task->id)) // else it is another task's cell
			engine_retire_cell(task->engine, task->id);
		task_free(task);
		return;
	}
	turn_leave(task);
	if (task->turn.stop.wanted) {
		apply_stop(&task->turn.stop, &task->status);
		task->status.version++;
		task_turn_down(task);
	}
	task->turn = (struct task_turn){0};
}

static void undo_task(struct task *task)
{
	bool recorded = task->turn.recorded;

	if (task->turn.created || task->turn.taken_back) {
		metrics_forget(task->engine->metrics, "task_id", task->id);
		if (task->turn.created)
			task_return_address(task);
		else
			unrecorded_undone(task->engine, task->id);
		task_free(task);
		return;
	}
	turn_leave(task);
	task->turn = (struct task_turn){0};
	if (!recorded)
		return;
	task_changed(task);
	task->after_commit = task->shim.gate_fd >= 0; // a shim waits for its record
}

void engine_turn_committed(struct engine *engine)
{
	struct task *task;

	while ((task = TAILQ_FIRST(&engine->turn_tasks)))
		commit_task(task);
	effects_said_end(engine, true);
	engine->recorded = false;
	room_regained(engine);
}

void engine_turn_undone(struct engine *engine, const struct error *failure)
{
	struct task *task;

	while ((task = TAILQ_FIRST(&engine->turn_tasks)))
		undo_task(task);
	effects_said_end(engine, false);
	engine->recorded = false;
	engine->record_retry_us = clock_monotonic_us() + RECORD_RETRY_US;
	timer_arm(engine->record_timer, engine->record_retry_us);
	room_lost(engine, failure);
}
