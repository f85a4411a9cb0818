// SPDX-License-Identifier: Apache-2.0
// Whether the disk under the state directory takes more. While it does not, no new task or object
// is taken; what runs goes on, and its records are written into the store's reserve (agent/store).
//
// The disk counts as full a little before it is: a new task needs a cell, logs and a disk, and the
// guests of running tasks fill their disks at the same time. It counts as free again with twice
// that room, so that a disk at the edge does not change its state with every file.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/scope.h"
#include "agent/task/internal.h"

enum {
	FREE_MIB_MIN = 16,
	FREE_FILES_MIN = 64,
	LOOK_AGAIN_US = 1000000, // while it is full
};

// -EDQUOT when there are fewer free than `factor` times the minimum.
static int look_at_disk(const struct engine *engine, unsigned factor, struct error *err)
{
	const char *path = engine->config->state_directory;
	struct statvfs disk;
	uint64_t free_mib;

	if (statvfs(path, &disk) < 0)
		return error_errno(err, "state_directory %s", path);
	free_mib = ((uint64_t)disk.f_bavail * disk.f_frsize) >> 20;
	if (free_mib < FREE_MIB_MIN * factor)
		return error_set(
			err, EDQUOT,
			"the disk of %s is full (%llu MiB free, %u wanted): running tasks go "
			"on, new ones are refused until there is room",
			path, (unsigned long long)free_mib, FREE_MIB_MIN * factor);
	// A file system without a fixed number of files says 0 of 0.
	if (disk.f_files > 0 && disk.f_favail < FREE_FILES_MIN * factor)
		return error_set(err, EDQUOT,
				 "the disk of %s takes no more files (%llu left): running tasks go "
				 "on, new ones are refused until there is room",
				 path, (unsigned long long)disk.f_favail);
	return 0;
}

static void set_short(struct engine *engine, const struct error *failure)
{
	struct room *room = &engine->room;
	bool is_short = failure != NULL;

	if (is_short)
		timer_arm(engine->record_timer, clock_monotonic_us() + LOOK_AGAIN_US);
	store_set_short(engine->store, is_short);
	if (room->is_short == is_short)
		return;
	room->is_short = is_short;
	room->unrecorded = true;
	if (is_short) {
		snprintf(room->why, sizeof(room->why), "%s", failure->message);
		log_error(NULL, "%s", room->why);
	} else {
		log_info(NULL, "the disk of %s has room again: new tasks are taken",
			 engine->config->state_directory);
	}
}

void room_check(struct engine *engine)
{
	struct error err = {0};
	int result = look_at_disk(engine, engine->room.is_short ? 2 : 1, &err);

	if (result == 0)
		result = store_reserve(engine->store, &err);
	if (result < 0 && result != -EDQUOT)
		log_error(NULL, "%s", err.message);
	else
		set_short(engine, result < 0 ? &err : NULL);
}

int room_admits(const struct engine *engine, struct error *err)
{
	if (engine->room.is_short)
		return error_set(err, EDQUOT, "%s", engine->room.why);
	if (look_at_disk(engine, 1, err) != -EDQUOT)
		return 0;
	timer_arm(engine->record_timer, 0); // so that it is also said, and watched
	return -EDQUOT;
}

void room_lost(struct engine *engine, const struct error *failure)
{
	engine->room.put = false;
	if (failure->code == EDQUOT)
		set_short(engine, failure);
}

void room_regained(struct engine *engine)
{
	if (engine->room.put)
		engine->room.unrecorded = false;
	engine->room.put = false;
}

// --- In the event history: the object host/<install> ---

void room_start(struct engine *engine)
{
	scoped(arena_release) struct arena arena = {0};
	struct store_object stored;
	struct error ignored = {0};

	// A previous agent may have said that the disk is full.
	engine->room.unrecorded = store_object_get(engine->store, "host", engine->config->install,
						   &arena, &stored, &ignored) == 0;
	room_check(engine);
}

void room_record(struct engine *engine)
{
	scoped(arena_release) struct arena arena = {0};
	scoped(buffer_release) struct buffer text = {0};
	struct store_change change = {.kind = "host", .id = engine->config->install, .spec = "{}"};
	struct room *room = &engine->room;
	struct object_status status = {.error = room->is_short ? room->why : NULL};
	struct store_object stored;
	struct error err = {0};
	int result;

	if (!room->unrecorded)
		return;
	object_status_render(&status, &text);
	change.status = buffer_text(&text);
	result = store_object_get(engine->store, change.kind, change.id, &arena, &stored, &err);
	if (result == 0 && strcmp(stored.status ? stored.status : "", change.status) == 0) {
		room->unrecorded = false;
		return;
	}
	if (result == 0)
		change.spec = NULL;
	error_clear(&err);
	if (store_object_put(engine->store, &change, NULL, &err) < 0) {
		log_error(NULL, "record of the disk: %s", err.message);
		return;
	}
	engine->recorded = true;
	room->put = true;
}
