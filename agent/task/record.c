// SPDX-License-Identifier: Apache-2.0
// A task's life as data: created, changed, recorded, stopped, forgotten.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/base/scope.h"
#include "agent/task/internal.h"

static struct log_context task_log(const struct task *task)
{
	return (struct log_context){.task = task->id, .eni = task->status.network.eni_id};
}

struct task *task_find(struct engine *engine, const char *id)
{
	struct task *task = engine->tasks;

	while (task && (task->turn.deleted || strcmp(task->id, id) != 0))
		task = task->next;
	return task;
}

struct task *task_find_or_fail(struct engine *engine, const char *id, struct error *err)
{
	struct task *task = task_find(engine, id);

	if (!task)
		error_set(err, ENOENT, "there is no task %s", id);
	return task;
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
	(void)fd;
	(void)what;
	task_ready(context);
}

struct task *task_new(struct engine *engine, const char *id)
{
	struct task *task = calloc(1, sizeof(*task));

	if (!task)
		abort();
	task->engine = engine;
	snprintf(task->id, sizeof(task->id), "%s", id);
	task->walk = (struct walk){
		.steps = task_steps, .count = TASK_STEP_COUNT, .clock_us = clock_monotonic_us};
	task->shim = PROCESS_NONE;
	task->channel_fd = task->link_fd = task->listener_fd = -1;
	task->timer = evtimer_new(engine->base, on_timer, task);
	if (!task->timer)
		abort();
	return task;
}

// Since when a stopped task is kept. A record of an earlier boot counts from this boot on: kept too
// long rather than not at all.
static struct boot_time retained_since(const struct task *task)
{
	if (!task_is_of_this_boot(task))
		return (struct boot_time){0};
	return task->status.boot_times.stopped.ms ? task->status.boot_times.stopped : clock_boot();
}

// From here on it counts: in the ledger, in lists, at a restart.
static void task_link(struct task *task)
{
	// Times of an earlier boot, or of an agent that recorded none: its timeline begins here.
	task->created_us = clock_monotonic_us();
	if (task_is_of_this_boot(task)) {
		const struct task_boot_times *times = &task->status.boot_times;

		if (times->created.ms)
			task->created_us = boot_time_monotonic_us(times->created);
		if (times->stop_requested.ms)
			task->stop_us = boot_time_monotonic_us(times->stop_requested);
	}
	task->retained_since = retained_since(task);
	task->next = task->engine->tasks;
	task->engine->tasks = task;
	if (task->status.last_status != TASK_STOPPED)
		task_expose_state(task, task->status.last_status);
}

static void leave_queues(struct task *task)
{
	if (task->ready)
		TAILQ_REMOVE(&task->engine->ready_tasks, task, ready_link);
	if (task->dirty)
		TAILQ_REMOVE(&task->engine->dirty_tasks, task, dirty_link);
	if (task->dying)
		TAILQ_REMOVE(&task->engine->dying_tasks, task, dying_link);
	task->ready = task->dirty = task->dying = false;
}

void task_free(struct task *task)
{
	struct task **place = &task->engine->tasks;

	while (*place && *place != task)
		place = &(*place)->next;
	if (*place)
		*place = task->next;
	if (task->engine->task_to_measure == task)
		task->engine->task_to_measure = task->next;
	leave_queues(task);
	turn_leave(task);
	janitor_forget(&task->engine->janitors, task);
	cell_disconnect(task);
	process_close(&task->shim);
	images_close(task);
	close_fd(&task->link_fd);
	close_fd(&task->listener_fd);
	event_free(task->timer);
	arena_release(&task->arena);
	free(task);
}

void task_ready(struct task *task)
{
	if (task->ready)
		return;
	task->ready = true;
	TAILQ_INSERT_TAIL(&task->engine->ready_tasks, task, ready_link);
}

void task_changed(struct task *task)
{
	if (task->dirty)
		return;
	task->dirty = true;
	TAILQ_INSERT_TAIL(&task->engine->dirty_tasks, task, dirty_link);
}

// --- What is stored ---

static int put_references(struct task *task, struct error *err)
{
	scoped(arena_release) struct arena arena = {0};
	struct model_object object = {.kind = MODEL_TASK, .id = task->id, {.task = task->spec}};
	const struct model_reference *references;
	struct store_reference *stored;
	size_t count;

	model_references(&object, &arena, &references, &count);
	if (task->status.last_status == TASK_STOPPED)
		count = 0; // what only a stopped task names may be deleted
	stored = arena_array(&arena, struct store_reference, count + 1);
	for (size_t i = 0; i < count; i++)
		stored[i] = (struct store_reference){model_kind_name(references[i].kind),
						     references[i].id};
	return store_references_set(task->engine->store, "task", task->id, stored, count, err);
}

int task_put(struct task *task, const struct task_status *status, const char *spec,
	     struct error *err)
{
	scoped(buffer_release) struct buffer text = {0};
	struct store_change change = {.kind = "task", .id = task->id, .spec = spec};

	task_status_render(status, &text);
	change.status = buffer_text(&text);
	if (store_object_put(task->engine->store, &change, NULL, err) < 0)
		return -err->code;
	task->engine->recorded = true;
	if ((spec || status->last_status == TASK_STOPPED) && put_references(task, err) < 0)
		return -err->code;
	return 0;
}

static int put_status(struct task *task, const char *spec, struct error *err)
{
	task->status.version++;
	if (task_put(task, &task->status, spec, err) < 0)
		return -err->code;
	// The lease that was put when the task stopped may have gone with a turn that was rolled
	// back; put again, it is the same.
	if (task->status.last_status == TASK_STOPPED)
		task_record_lease(task);
	task->turn.recorded = true;
	turn_enter(task);
	if (task->dirty)
		TAILQ_REMOVE(&task->engine->dirty_tasks, task, dirty_link);
	task->dirty = false;
	return 0;
}

// A write that fails in a turn fails its commit. When no turn can be begun (somebody else holds the
// database) all stay dirty, for the next; what waits for its record goes on waiting.
void tasks_record(struct engine *engine)
{
	struct task *task;

	while ((task = TAILQ_FIRST(&engine->dirty_tasks))) {
		struct log_context context = task_log(task);
		struct error err = {0};

		metadata_refresh(task);
		if (put_status(task, NULL, &err) < 0) {
			log_error(&context, "record: %s", err.message);
			return;
		}
		cell_record_refresh(task);
		if (task->after_commit)
			task_ready(task); // which is looked at when the commit is done
		task->after_commit = false;
	}
}

// --- Created ---

// Once nothing writes them any more.
static void measure_logs(struct task *task)
{
	struct cell cell = task_cell(task);

	task->log_mib = (uint32_t)((cell_log_bytes(&cell) + (1 << 20) - 1) >> 20);
}

int engine_task_create(struct engine *engine, const struct model_object *object, const char *spec,
		       struct error *err)
{
	struct task *task = task_new(engine, object->id);
	struct fault_list faults = {.arena = &task->arena};
	struct model_object own;
	int result;

	// A copy of its own: the request's arena goes with the request.
	result = model_parse(MODEL_TASK, task->id, spec, strlen(spec), &task->arena, &own, &faults);
	if (result < 0)
		error_set(err, EINVAL, "task %s: canonical form is refused", object->id);
	else
		result = task_admit(engine, &own, &task->arena, &task->status, err);
	if (result < 0) {
		task_free(task);
		return -err->code;
	}
	task->spec = own.task;
	task->vmm = engine->vmm;
	task->leased = true;
	if (put_status(task, spec, err) < 0) {
		task_return_address(task);
		task_free(task);
		return -err->code;
	}
	task->turn.created = true;
	task_link(task);
	task_ready(task);
	return 0;
}

int task_take_back(struct task *task, const char *spec, struct error *err)
{
	if (put_status(task, spec, err) < 0)
		return -err->code;
	task->turn.taken_back = true;
	task->may_be_linked = true;
	task_link(task);
	return 0;
}

static int load_task(const struct store_object *stored, void *context)
{
	struct engine *engine = context;
	struct task *task = task_new(engine, stored->id);
	struct fault_list faults = {.arena = &task->arena};
	struct model_object object;
	struct error err = {0};

	if (model_parse(MODEL_TASK, task->id, stored->spec, strlen(stored->spec), &task->arena,
			&object, &faults) < 0)
		error_set(&err, EBADMSG, "spec: %s", faults.count ? faults.faults[0].message : "");
	else
		task_status_parse(stored->status, strlen(stored->status), &task->arena,
				  &task->status, &err);
	task->vmm = vmm_find(task->status.driver ? task->status.driver : "");
	if (!err.code && !task->vmm)
		error_set(&err, EBADMSG, "status: there is no driver %s", task->status.driver);
	if (err.code) { // never touched: an operator has to look
		log_error(&(struct log_context){.task = task->id}, "record: %s", err.message);
		snprintf(engine->unreadable, sizeof(engine->unreadable), "%s", task->id);
		task_free(task);
		return 0;
	}
	task->spec = object.task;
	if (unrecorded_replaces(task)) {
		task_free(task);
		return 0;
	}
	cell_record_prefer(task);
	if (task->status.last_status == TASK_STOPPED)
		measure_logs(task);
	task->may_be_linked = true;
	task_link(task);
	return 0;
}

int tasks_load(struct engine *engine, struct error *err)
{
	return store_object_each(engine->store, "task", load_task, engine, err);
}

// --- Walked ---

static const enum task_state states_up[TASK_STEP_COUNT + 1] = {
	[STEP_IMAGE] = TASK_PROVISIONING,  [STEP_CELL] = TASK_PROVISIONING,
	[STEP_DISK] = TASK_PROVISIONING,   [STEP_ENI] = TASK_PROVISIONING,
	[STEP_POLICY] = TASK_PROVISIONING, [STEP_LINK] = TASK_PENDING,
	[STEP_VOLUMES] = TASK_PENDING,     [STEP_VMM] = TASK_PENDING,
	[STEP_GUEST] = TASK_PENDING,       [STEP_TARGETS] = TASK_ACTIVATING,
	[TASK_STEP_COUNT] = TASK_RUNNING,
};

// A state never goes back while the steps are looked over again.
static enum task_state state_up(const struct task *task)
{
	enum task_state state = states_up[task->walk.standing];

	return state > task->status.last_status ? state : task->status.last_status;
}

// By the number of steps that stand on the way down.
static enum task_state state_down(const struct task *task)
{
	size_t standing = task->walk.standing;

	if (standing == 0)
		return TASK_STOPPED;
	if (standing > STEP_TARGETS)
		return TASK_DEACTIVATING;
	return standing > STEP_GUEST ? TASK_STOPPING : TASK_DEPROVISIONING;
}

// A guest that was killed, or never spoke, does not say what became of its containers.
static void close_containers(struct task *task)
{
	for (uint32_t i = 0; i < task->status.container_count; i++) {
		struct container_status *container = &task->status.containers[i];

		if (container->last_status == CONTAINER_RUNNING)
			container->finished_ms = task->status.execution_stopped_ms;
		container->last_status = CONTAINER_STOPPED;
	}
}

static void finish(struct task *task)
{
	struct log_context context = task_log(task);

	task->status.stopped_ms = clock_wall_ms();
	task->status.boot_times.stopped = task->retained_since = clock_boot();
	close_containers(task);
	task_release_address(task);
	measure_logs(task);
	task_observe_stop(task);
	metrics_forget(task->engine->metrics, "task_id", task->id);
	reaper_kick(&task->engine->disk_reaper);
	effects_retry(task->engine); // an object may wait for the end of its last user
	log_info(&context, "stopped: %s: %s", stop_code_name(task->status.stop_code),
		 task->status.stopped_reason);
}

static void set_state(struct task *task, enum task_state state)
{
	struct log_context context = task_log(task);

	if (task->status.last_status == state)
		return;
	log_info(&context, "%s -> %s", task_state_name(task->status.last_status),
		 task_state_name(state));
	task_expose_state(task, state);
	task->status.last_status = state;
	task_changed(task);
	if (state == TASK_RUNNING && task->status.started_ms == 0) {
		task->status.started_ms = clock_wall_ms();
		task->status.boot_times.started = clock_boot();
		task_observe_start(task);
	}
	// On its way down a task may pass through STOPPING in no time.
	if (state >= TASK_STOPPING && task->status.stopping_ms == 0)
		task->status.stopping_ms = clock_wall_ms();
	if (state == TASK_STOPPED)
		finish(task);
}

// It ran, or was to, and waits at a step below: a table to be mended, say.
static bool is_looked_over(const struct task *task)
{
	bool waits_below = task->launched && task->walk.standing < STEP_VMM;

	return task->walk.direction == WALK_UP && (task->status.started_ms != 0 || waits_below);
}

void task_advance(struct task *task)
{
	if (task->adopting)
		cell_adopt_again(task);
	if (task->adopting)
		policy_keep(task);
	if (task->status.last_status == TASK_STOPPED || task->adopting) {
		task_arm_timer(task);
		return;
	}
	walk_advance(&task->walk, task, &task_observer);
	if ((walk_is_up(&task->walk) || is_looked_over(task)) && cell_has_ended(task))
		cell_stop_ended(task);
	set_state(task, task->walk.direction == WALK_DOWN ? state_down(task) : state_up(task));
	if (task->walk.direction == WALK_DOWN)
		task->status.desired_status = TASK_STOPPED;
	task_arm_timer(task);
}

// The first reason stays.
void status_stop(struct task_status *status, enum stop_code code, const char *reason)
{
	status->desired_status = TASK_STOPPED;
	if (status->stop_code != STOP_CODE_NONE)
		return;
	status->stop_code = code;
	snprintf(status->stopped_reason, sizeof(status->stopped_reason), "%s", reason);
}

void task_turn_down(struct task *task)
{
	if (task->stop_us == 0) {
		task->stop_us = clock_monotonic_us();
		task->status.boot_times.stop_requested = clock_boot();
	}
	if (task->status.boot_times.drain_started.ms == 0)
		task->status.boot_times.drain_started = clock_boot();
	walk_turn_down(&task->walk);
	task_ready(task);
}

void task_stop(struct task *task, enum stop_code code, const char *reason)
{
	status_stop(&task->status, code, reason);
	task_turn_down(task);
	task_changed(task);
}

bool engine_stop_all(struct engine *engine, const char *reason)
{
	bool stopped = true;

	engine->stopping = true;
	for (struct task *task = engine->tasks; task; task = task->next) {
		if (task->status.desired_status != TASK_STOPPED)
			task_stop(task, STOP_CODE_TERMINATION_NOTICE, reason);
		stopped = stopped && task->status.last_status == TASK_STOPPED;
	}
	if (stopped)
		network_reap_all(engine);
	return stopped && engine->janitors.running == 0;
}

const struct task_status *engine_task_status(struct engine *engine, const char *id)
{
	struct task *task = task_find(engine, id);

	return task ? &task->status : NULL;
}

const struct task_spec *engine_task_spec(struct engine *engine, const char *id)
{
	struct task *task = task_find(engine, id);

	return task ? task->spec : NULL;
}

int engine_task_log_open(struct engine *engine, const char *id, const char *container, bool rotated,
			 int *ret_fd, struct error *err)
{
	struct task *task = task_find_or_fail(engine, id, err);
	struct cell cell;

	if (!task)
		return -err->code;
	cell = task_cell(task);
	return cell_log_open(&cell, container, rotated, ret_fd, err);
}

void engine_tasks_each(struct engine *engine, engine_task_fn *function, void *context)
{
	for (struct task *task = engine->tasks; task; task = task->next)
		if (function(context, task->id, task->spec, &task->status) != 0)
			return;
}
