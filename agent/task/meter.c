// SPDX-License-Identifier: Apache-2.0
// What a task is billed for. The bill begins with the step `image` and is written by its undo, the
// last of all: a task is STOPPED when its record is on the disk, not before. One sync serves
// everybody who stops in a round.
#include <assert.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/task/internal.h"

static uint64_t ran_ms(const struct task *task)
{
	const struct task_boot_times *times = &task->status.boot_times;
	int64_t wall_ms = task->status.execution_stopped_ms - task->status.pull_started_ms;

	if (times->pull_started.ms && times->execution_stopped.ms)
		return boot_time_since_ms(times->execution_stopped, times->pull_started);
	// The task began under an agent that did not record boot times: its labels are all there
	// is.
	return wall_ms > 0 ? (uint64_t)wall_ms : 0;
}

static struct metering_record record_of(const struct task *task)
{
	return (struct metering_record){
		.task_id = task->id,
		.family = task->spec->family,
		.cpu_units = task->spec->cpu_units,
		.memory_mib = task->spec->memory_mib,
		.extra_storage_gib = task->spec->ephemeral_storage_gib - EPHEMERAL_DEFAULT_GIB,
		.started_wall_ms = task->status.pull_started_ms,
		.stopped_wall_ms = task->status.execution_stopped_ms,
		.ran_ms = ran_ms(task),
	};
}

static int take_result(struct task *task, struct error *err)
{
	task->meter = METER_IDLE;
	if (!task->meter_error.code)
		return 0;
	*err = task->meter_error;
	return -err->code;
}

int meter_task(struct task *task, struct error *err)
{
	struct engine *engine = task->engine;
	struct metering_record record;

	if (task->meter == METER_APPENDED)
		return WALK_WAIT;
	if (task->meter == METER_SYNCED)
		return take_result(task, err);
	task_note_execution_stopped(task); // a task that ended before its guest began
	record = record_of(task);
	if (record.started_wall_ms == 0)
		return 0; // it ended before its images were looked at
	assert(record.stopped_wall_ms != 0);
	if (metering_append(engine->metering, &record, err) < 0)
		return -err->code;
	task->meter = METER_APPENDED;
	task->next_metered = engine->metered;
	engine->metered = task;
	return WALK_WAIT;
}

void meter_sync(struct engine *engine)
{
	struct error err = {0};

	if (engine->metered && metering_sync(engine->metering, &err) < 0)
		log_error(NULL, "%s", err.message);
	while (engine->metered) {
		struct task *task = engine->metered;

		engine->metered = task->next_metered;
		task->meter_error = err;
		task->meter = METER_SYNCED;
		task_ready(task);
	}
}

// Somebody may have removed the directory, with the records in it. The file follows with the next
// record (metrics/metering.c).
void meter_check(struct engine *engine)
{
	char path[CONFIG_PATH_MAX + 16];
	struct error err = {0};

	snprintf(path, sizeof(path), "%s/metering", engine->config->state_directory);
	if (access(path, F_OK) == 0)
		return;
	if (directory_make(path, 0750, &err) < 0)
		log_error(NULL, "%s is gone: %s", path, err.message);
	else
		log_warning(NULL, "%s was removed: made again, the records in it are lost", path);
}
