// SPDX-License-Identifier: Apache-2.0
// The record beside a cell: two lines of JSON, the spec and the status, just as the database has
// them. The database is the truth while it has the task. The copy is written before the shim may
// run, and again when the task's state changes: it always holds the identities (address, MAC, uid,
// shim), which never change while the shim lives.
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "agent/base/log.h"
#include "agent/base/scope.h"
#include "agent/task/cell_record.h"
#include "agent/task/internal.h"

int cell_record_put(struct task *task, struct error *err)
{
	const struct model_object object = {
		.kind = MODEL_TASK, .id = task->id, {.task = task->spec}};
	scoped(buffer_release) struct buffer text = {0};
	struct cell cell = task_cell(task);

	model_render(&object, MODEL_RENDER_PLAIN, &text);
	assert(!memchr(text.data, '\n', text.length));
	buffer_adds(&text, "\n");
	task_status_render(&task->status, &text);
	buffer_adds(&text, "\n");
	if (cell_record_write(&cell, text.data, text.length, err) < 0)
		return -err->code;
	task->copied = true;
	task->copied_last = task->status.last_status;
	task->copied_desired = task->status.desired_status;
	return 0;
}

// A copy that could not be refreshed is only older: the task is taken back from it all the same.
void cell_record_refresh(struct task *task)
{
	const struct log_context context = {task->id, task->status.network.eni_id};
	struct error err = {0};

	if (!task->copied || task->status.last_status == TASK_STOPPED ||
	    task->walk.standing <= STEP_CELL ||
	    (task->copied_last == task->status.last_status &&
	     task->copied_desired == task->status.desired_status))
		return;
	if (cell_record_put(task, &err) < 0)
		log_warning(&context, "%s", err.message);
}

// Splits the text at its newlines.
static int split_record(char *text, char **ret_spec, char **ret_status, struct error *err)
{
	char *rest = text;

	*ret_spec = strsep(&rest, "\n");
	*ret_status = strsep(&rest, "\n");
	if (!*ret_status || !rest)
		return error_set(err, EBADMSG, "cell record: it is not whole");
	return 0;
}

int cell_record_parse(const char *state_directory, const char *id, struct arena *arena,
		      const char **ret_spec, struct task_status *ret_status, struct error *err)
{
	const struct cell cell = {.state_directory = state_directory, .task = id};
	scoped_free char *text = NULL;
	char *spec = NULL, *status = NULL;
	int result = cell_record_read(&cell, &text, NULL, err);

	if (result == 0)
		result = split_record(text, &spec, &status, err);
	if (result == 0)
		result = task_status_parse(status, strlen(status), arena, ret_status, err);
	if (result < 0)
		return result;
	if (ret_spec)
		*ret_spec = arena_strdup(arena, spec);
	return 0;
}

bool cell_is_of_another_task(const struct cell *cell, const struct task_status *status,
			     const char *boot_id, struct arena *arena)
{
	struct error ignored = {0};
	struct task_status beside = {0};
	struct cell_remains remains;

	if (cell_record_parse(cell->state_directory, cell->task, arena, NULL, &beside, &ignored) <
		    0 ||
	    beside.created_ms == status->created_ms || !beside.boot_id ||
	    strcmp(beside.boot_id, boot_id) != 0)
		return false;
	return cell_remains(cell, &remains, &ignored) < 0 || remains.populated;
}

int cell_record_load(struct task *task, const char **ret_spec, struct error *err)
{
	struct fault_list faults = {.arena = &task->arena};
	struct model_object object;
	const char *spec;

	if (cell_record_parse(task->engine->config->state_directory, task->id, &task->arena, &spec,
			      &task->status, err) < 0)
		return -err->code;
	if (model_parse(MODEL_TASK, task->id, spec, strlen(spec), &task->arena, &object, &faults) <
	    0)
		return error_set(err, EBADMSG, "cell record: spec: %s",
				 faults.count ? faults.faults[0].message : "too large");
	task->vmm = vmm_find(task->status.driver ? task->status.driver : "");
	if (!task->vmm || !task->status.boot_id || !task->status.network.eni_id)
		return error_set(err, EBADMSG, "cell record: it is not whole");
	task->spec = object.task;
	*ret_spec = spec;
	return 0;
}

void cell_record_prefer(struct task *task)
{
	const struct log_context context = {task->id, task->status.network.eni_id};
	struct error ignored = {0}; // there is none, or one that says less than the database
	struct task_status status = {0};
	const char *spec;

	if (task->status.last_status == TASK_STOPPED ||
	    cell_record_parse(task->engine->config->state_directory, task->id, &task->arena, &spec,
			      &status, &ignored) < 0 ||
	    status.created_ms != task->status.created_ms || status.version <= task->status.version)
		return;
	log_warning(&context,
		    "the database has version %llu of this record, the copy beside the cell "
		    "version %llu: the last commits were lost, the copy counts",
		    (unsigned long long)task->status.version, (unsigned long long)status.version);
	task->status = status;
	task_changed(task);
}
