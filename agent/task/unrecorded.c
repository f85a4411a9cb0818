// SPDX-License-Identifier: Apache-2.0
// Cells that no record of the database speaks of. Only STOPPED tasks are ever forgotten, and a
// STOPPED task has neither processes nor a record beside its cell. So a cell that has one of them
// means that the database was lost: moved away, restored from an older copy, cut short, or damaged.
//
// Such a cell is left alone with all it has (processes, disk, ENI, membership, address, uid).
// Nothing is given to others meanwhile: no new task is admitted, no load balancer gets an address,
// and what no record owns is not swept (effects_sweep), for it may be the cell's. An operator ends
// this state cell by cell: each is taken back from the record beside it (and then is a task as
// after a restart of the agent), or ended.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/log.h"
#include "agent/base/scope.h"
#include "agent/task/cell_record.h"
#include "agent/task/internal.h"

static struct unrecorded_cell *unrecorded_lookup(const struct engine *engine, const char *id)
{
	struct unrecorded_cell *cell = engine->unrecorded;

	while (cell && strcmp(cell->id, id) != 0)
		cell = cell->next;
	return cell;
}

bool is_unrecorded(const struct engine *engine, const char *id)
{
	return unrecorded_lookup(engine, id) != NULL;
}

static struct cell cell_of(struct engine *engine, const char *id)
{
	return (struct cell){.tree = &engine->tree,
			     .state_directory = engine->config->state_directory,
			     .task = id};
}

int unrecorded_check(const struct engine *engine, struct error *err)
{
	scoped(buffer_release) struct buffer names = {0};
	const struct unrecorded_cell *cell = engine->unrecorded;
	unsigned count = 0;

	if (!cell)
		return 0;
	for (; cell; cell = cell->next)
		if (count++ < 5)
			buffer_addf(&names, "%s%s", count > 1 ? ", " : "", cell->id);
	return error_set(err, EAGAIN,
			 "the database has no record of %u cell%s that may run (%s%s): it was lost "
			 "or is an old copy. They are left alone and no new task or load balancer "
			 "is taken until "
			 "each is taken back or ended: penstockctl adopt",
			 count, count > 1 ? "s" : "", buffer_text(&names),
			 count > 5 ? ", ..." : "");
}

// --- Found ---

// A record of a task that is not STOPPED, readable or not.
static bool has_record(struct engine *engine, const char *id, bool *ret_stopped)
{
	const struct task *task = task_find(engine, id);
	scoped(arena_release) struct arena arena = {0};
	struct store_object stored;
	struct error err = {0};

	*ret_stopped = task && task->status.last_status == TASK_STOPPED;
	if (task)
		return !*ret_stopped;
	return store_object_get(engine->store, "task", id, &arena, &stored, &err) != -ENOENT;
}

// What cannot be looked at is left alone as well.
static bool may_live(struct engine *engine, const char *id)
{
	const struct cell cell = cell_of(engine, id);
	struct cell_remains remains;
	struct error err = {0};

	if (cell_remains(&cell, &remains, &err) == 0)
		return remains.populated || remains.record;
	log_error(NULL, "cell %s: %s", id, err.message);
	return true;
}

static struct unrecorded_cell *unrecorded_add(struct engine *engine, const char *id)
{
	struct unrecorded_cell *cell = calloc(1, sizeof(*cell));

	if (!cell)
		abort();
	snprintf(cell->id, sizeof(cell->id), "%s", id);
	cell->next = engine->unrecorded;
	engine->unrecorded = cell;
	log_error(&(struct log_context){.task = id},
		  "its cell may run, and the database has no record of it: it is left alone "
		  "(penstockctl adopt)");
	return cell;
}

// By its id alone the cell would be taken for this task's, and killed because the recorded shim is
// gone.
bool unrecorded_replaces(struct task *task)
{
	const struct cell cell = cell_of(task->engine, task->id);

	if (task->status.last_status == TASK_STOPPED ||
	    !cell_is_of_another_task(&cell, &task->status, task->engine->boot_id, &task->arena))
		return false;
	unrecorded_add(task->engine, task->id);
	return true;
}

// One that was found at the start, or that came to light since.
static struct unrecorded_cell *unrecorded_get(struct engine *engine, const char *id)
{
	struct unrecorded_cell *cell = unrecorded_lookup(engine, id);
	bool stopped;

	if (cell || has_record(engine, id, &stopped) || !may_live(engine, id))
		return cell;
	return unrecorded_add(engine, id);
}

// What is left of a task that was being forgotten: an agent died between the commit and this.
static void remove_dead_cell(struct engine *engine, const char *id)
{
	struct error err = {0};

	cgroup_remove(&engine->tree, id, &err); // -EBUSY: at the next start
	engine_retire_cell(engine, id);
}

int unrecorded_find(struct engine *engine, struct error *err)
{
	scoped(arena_release) struct arena arena = {0};
	size_t count, dead_count = 0;
	const char **ids, **dead;

	if (cell_list(&engine->tree, engine->config->state_directory, &arena, &ids, &count, err) <
	    0)
		return -err->code;
	dead = arena_array(&arena, const char *, count + 1);
	for (size_t i = 0; i < count; i++) {
		bool stopped;

		if (is_unrecorded(engine, ids[i]) || has_record(engine, ids[i], &stopped))
			continue;
		if (may_live(engine, ids[i]))
			unrecorded_add(engine, ids[i]);
		else if (!stopped)
			dead[dead_count++] = ids[i];
	}
	// With a lost database even the logs of STOPPED tasks are worth to be kept until it is
	// restored.
	for (size_t i = 0; i < dead_count && !engine->unrecorded; i++)
		remove_dead_cell(engine, dead[i]);
	return 0;
}

// --- Taken back, or ended ---

static void add_missing(struct fault_list *missing, enum model_kind kind, const char *id)
{
	char path[128];

	snprintf(path, sizeof(path), "/v1/%s/%s", model_kind_path(kind), id);
	if (fault_list_has(missing, path))
		return;
	fault_add(missing, path, "%s/%s is lost as well: PUT it first", model_kind_name(kind), id);
}

// Each object that the task needs and that is lost as well, in the order in which they can be put.
static void find_missing(struct task *task, struct fault_list *missing)
{
	static const enum model_kind order[] = {MODEL_VPC, MODEL_SUBNET, MODEL_SECURITY_GROUP,
						MODEL_TARGET_GROUP, MODEL_FILE_SYSTEM};
	const struct model_object object = {
		.kind = MODEL_TASK, .id = task->id, {.task = task->spec}};
	const struct model_reference *references;
	size_t count;

	model_references(&object, &task->arena, &references, &count);
	for (size_t k = 0; k < ARRAY_LENGTH(order); k++) {
		if (order[k] == MODEL_VPC &&
		    !engine_object(task->engine, MODEL_VPC, task->status.network.vpc_id))
			add_missing(missing, MODEL_VPC, task->status.network.vpc_id);
		for (size_t i = 0; i < count; i++)
			if (references[i].kind == order[k] &&
			    !engine_object(task->engine, order[k], references[i].id))
				add_missing(missing, order[k], references[i].id);
	}
}

static int check_missing(struct task *task, struct fault_list *missing, struct error *err)
{
	scoped(buffer_release) struct buffer paths = {0};

	find_missing(task, missing);
	if (missing->count == 0)
		return 0;
	for (uint32_t i = 0; i < missing->count; i++)
		buffer_addf(&paths, "%s%s", i ? ", " : "", missing->faults[i].pointer);
	return error_set(err, EEXIST,
			 "task %s needs objects that are lost as well; PUT them as they were, then "
			 "adopt again: %s",
			 task->id, buffer_text(&paths));
}

// An object of the same name may be another one than it was.
static int check_address(struct task *task, struct error *err)
{
	const struct task_network *network = &task->status.network;
	const struct network_subnet *subnet = network_subnet_find(task->engine, network->subnet_id);
	char address[IPV4_TEXT_SIZE], block[IPV4_CIDR_TEXT_SIZE];

	if (!subnet)
		return error_set(err, EAGAIN, "subnet %s is not ready yet, try again",
				 network->subnet_id);
	ipv4_format(network->private_ipv4_address, address);
	if (strcmp(subnet->vpc_id, network->vpc_id) != 0 ||
	    !ipv4_cidr_contains(&subnet->block, network->private_ipv4_address) ||
	    subnet->block.prefix != network->prefix)
		return error_set(
			err, EEXIST,
			"subnet %s is %s of vpc %s, but task %s has %s/%u of vpc %s: PUT it "
			"as it was",
			subnet->id, ipv4_cidr_format(&subnet->block, block), subnet->vpc_id,
			task->id, address, network->prefix, network->vpc_id);
	if (ipam_is_leased(subnet->ipam, network->private_ipv4_address))
		return error_set(err, EEXIST, "address %s of task %s is another's by now", address,
				 task->id);
	return 0;
}

// A cell that does not say what it is can only be killed.
static int end_without_record(struct engine *engine, struct unrecorded_cell *cell,
			      struct error *err)
{
	cell->ending = true;
	if (cgroup_kill(&engine->tree, cell->id, err) < 0)
		return -err->code;
	log_warning(&(struct log_context){.task = cell->id},
		    "its cell had no record beside it and was killed on an operator's word");
	if (cgroup_watch_add(&engine->tree, engine->cgroup_watch_fd, cell->id, err) < 0)
		error_clear(err); // it is looked at in every sweep
	return 1;
}

static int take_back(struct task *task, bool end, struct fault_list *missing, struct error *err)
{
	const char *spec;

	if (cell_record_load(task, &spec, err) < 0)
		return error_wrap(err, "task %s", task->id);
	if (!end && (check_missing(task, missing, err) < 0 || check_address(task, err) < 0))
		return -err->code;
	if (end) {
		task->status.desired_status = TASK_STOPPED;
		task->status.stop_code = STOP_CODE_USER_INITIATED;
		snprintf(task->status.stopped_reason, sizeof(task->status.stopped_reason),
			 "Ended by an operator: the database had lost its record");
	}
	return task_take_back(task, spec, err);
}

int engine_cell_adopt(struct engine *engine, const char *id, bool end, struct fault_list *missing,
		      struct error *err)
{
	struct unrecorded_cell *cell = unrecorded_get(engine, id);
	struct task *task;
	int result;

	if (!cell)
		return error_set(err, ENOENT, "there is no cell %s without a record", id);
	if (cell->taken_back || cell->ending)
		return cell->ending;
	if (task_find(engine, id))
		return error_set(err, EEXIST,
				 "a record of a STOPPED task %s is there: delete it first", id);
	task = task_new(engine, id);
	result = take_back(task, end, missing, err);
	if (result == 0) {
		cell->taken_back = true;
		return 0;
	}
	task_free(task);
	if (end && (result == -ENOENT || result == -EBADMSG)) {
		error_clear(err);
		return end_without_record(engine, cell, err);
	}
	if (result == -ENOENT || result == -EBADMSG)
		return error_set(err, EEXIST,
				 "the cell does not say what it is, it can only be ended: %s",
				 strdupa(err->message));
	return result;
}

void unrecorded_undone(struct engine *engine, const char *id)
{
	unrecorded_lookup(engine, id)->taken_back = false;
}

// True when the cell is a task again, or gone.
static bool is_settled(struct engine *engine, struct unrecorded_cell *cell)
{
	struct error err = {0};
	bool empty;

	if (cell->taken_back) {
		cell_adopt_task(task_find(engine, cell->id));
		return true;
	}
	if (!cell->ending || cgroup_is_empty(&engine->tree, cell->id, &empty, &err) < 0 || !empty)
		return false;
	if (cgroup_remove(&engine->tree, cell->id, &err) < 0 ||
	    ephemeral_disk_destroy(&engine->pool, cell->id, &err) < 0)
		return false; // again in the next turn
	reaper_kick(&engine->disk_reaper);
	engine_retire_cell(engine, cell->id);
	return true;
}

void unrecorded_settle(struct engine *engine)
{
	struct unrecorded_cell **place = &engine->unrecorded;
	struct error err = {0};

	if (!engine->unrecorded)
		return;
	while (*place) {
		struct unrecorded_cell *cell = *place;

		if (!is_settled(engine, cell)) {
			place = &cell->next;
			continue;
		}
		*place = cell->next;
		free(cell);
	}
	if (engine->unrecorded)
		return;
	// Dead cells were kept until now. They are removed before a new task of the same id can use
	// their directories.
	if (unrecorded_find(engine, &err) < 0) {
		log_error(NULL, "%s", err.message);
		return;
	}
	if (engine->unrecorded)
		return;
	log_info(NULL, "every cell has a record again");
	if (effects_sweep(engine, &err) < 0)
		log_error(NULL, "sweep: %s", err.message);
}

// --- Told ---

static const char *record_word(struct task *task, struct fault_list *missing)
{
	struct error err = {0};
	const char *spec;
	int result = cell_record_load(task, &spec, &err);

	if (result == 0)
		find_missing(task, missing);
	return result == 0 ? "readable" : result == -ENOENT ? "missing" : "unreadable";
}

static void render_one(struct engine *engine, const char *id, struct buffer *out)
{
	struct task *task = task_new(engine, id);
	struct fault_list missing = {.arena = &task->arena};

	buffer_addf(out, "{\"taskId\":\"%s\",\"record\":\"%s\",\"missing\":[", id,
		    record_word(task, &missing));
	for (uint32_t i = 0; i < missing.count; i++)
		buffer_addf(out, "%s\"%s\"", i ? "," : "", missing.faults[i].pointer);
	buffer_adds(out, "]}");
	task_free(task);
}

// Ids and paths need no escaping in JSON.
void engine_unrecorded_render(struct engine *engine, struct buffer *out)
{
	buffer_adds(out, "[");
	for (const struct unrecorded_cell *cell = engine->unrecorded; cell; cell = cell->next) {
		if (cell != engine->unrecorded)
			buffer_adds(out, ",");
		render_one(engine, cell->id, out);
	}
	buffer_adds(out, "]");
}

void unrecorded_free(struct engine *engine)
{
	while (engine->unrecorded) {
		struct unrecorded_cell *cell = engine->unrecorded;

		engine->unrecorded = cell->next;
		free(cell);
	}
}
