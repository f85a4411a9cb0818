// SPDX-License-Identifier: Apache-2.0
// Tasks: put once, stop, delete. What they get and how they run is the backend's.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/api/internal.h"
#include "agent/base/scope.h"

static struct fault_list *faults_new(struct exchange *exchange)
{
	struct fault_list *faults = arena_new(&exchange->arena, struct fault_list);

	faults->arena = &exchange->arena;
	return faults;
}

// The task as this turn wrote it. When it cannot be read nobody may be promised anything, and what
// was written goes with the turn.
static bool load_written(struct exchange *exchange, struct store_object *ret_stored)
{
	exchange->acknowledges = true;
	if (object_load(exchange, ret_stored))
		return true;
	store_turn_refuse(exchange->api->store);
	return false;
}

// The same document again is 200 with the task as it is; another one is a conflict.
static void reply_existing(struct exchange *exchange, const struct store_object *stored,
			   const char *spec)
{
	struct fault_list *differences = faults_new(exchange);
	struct error err = {0};

	if (document_differences(exchange, stored->spec, spec, true, differences, &err) < 0) {
		reply_errno(exchange, -EBADMSG, NULL, &err);
	} else if (differences->count > 0) {
		reply_error(exchange, REPLY_CONFLICT, differences,
			    "task/%s exists with another specification", exchange->id);
	} else if (exchange->dry_run) {
		exchange->wait.wanted = false;
		buffer_adds(reply_json(exchange, 200),
			    "{\"dryRun\":true,\"action\":\"none\",\"changes\":[]}");
	} else {
		exchange->acknowledges = true;
		reply_object(exchange, 200, stored);
	}
}

static void plan(struct exchange *exchange, const struct model_object *task)
{
	const struct api_backend *backend = exchange->api->backend;
	struct fault_list *faults = faults_new(exchange);
	scoped(buffer_release) struct buffer text = {0};
	struct error err = {0};
	int result = backend->task_plan(backend->context, task, &text, faults, &err);

	exchange->wait.wanted = false;
	if (result < 0)
		reply_errno(exchange, result, faults, &err);
	else
		buffer_addf(reply_json(exchange, 200),
			    "{\"dryRun\":true,\"action\":\"create\",\"changes\":[],\"plan\":%s}",
			    buffer_text(&text));
}

static void create(struct exchange *exchange, const struct model_object *task, const char *spec)
{
	const struct api_backend *backend = exchange->api->backend;
	struct fault_list *faults = faults_new(exchange);
	struct store_object stored;
	struct error err = {0};
	int result = backend->task_create(backend->context, task, spec, faults, &err);

	if (result < 0)
		reply_errno(exchange, result, faults, &err);
	else if (load_written(exchange, &stored))
		reply_object(exchange, 201, &stored);
}

void handle_task_put(struct exchange *exchange)
{
	struct model_object task;
	struct store_object stored;
	const char *spec;
	struct error err = {0};
	int result;

	if (!wait_read(exchange))
		return;
	result = object_find(exchange, &stored, &err);
	if (result < 0 && result != -ENOENT) {
		reply_errno(exchange, result, NULL, &err);
		return;
	}
	// What a STOPPED task refers to may be gone: that does not make its document another one.
	if (!document_check(exchange, result == 0 ? CHECK_FORM : CHECK_LINKS, &task, &spec) ||
	    !object_revision_matches(exchange, result == 0 ? &stored : NULL))
		return;
	if (result == 0)
		reply_existing(exchange, &stored, spec);
	else if (exchange->dry_run)
		plan(exchange, &task);
	else
		create(exchange, &task, spec);
}

void handle_task_stop(struct exchange *exchange)
{
	const struct api_backend *backend = exchange->api->backend;
	struct fault_list *faults = faults_new(exchange);
	struct task_stop_request stop;
	struct store_object stored;
	struct error err = {0};
	int result;

	if (!wait_read(exchange) || !object_load(exchange, &stored) ||
	    !object_revision_matches(exchange, &stored))
		return;
	if (task_stop_parse(exchange->body, exchange->body_length, &exchange->arena, &stop,
			    faults) < 0) {
		reply_errno(exchange, -EINVAL, faults, &err);
		return;
	}
	result = backend->task_stop(backend->context, exchange->id, &stop, &err);
	if (result < 0)
		reply_errno(exchange, result, NULL, &err);
	else if (load_written(exchange, &stored))
		reply_object(exchange, 200, &stored);
}

void handle_task_adopt(struct exchange *exchange)
{
	const struct api_backend *backend = exchange->api->backend;
	struct fault_list *missing = faults_new(exchange);
	struct store_object stored;
	struct error err = {0};
	bool end = false;
	int result;

	if (!wait_read(exchange) || !exchange_query_flag(exchange, "end", &end))
		return;
	result = backend->cell_adopt(backend->context, exchange->id, end, missing, &err);
	exchange->acknowledges = result >= 0;
	if (result < 0) {
		reply_errno(exchange, result, missing, &err);
	} else if (result > 0) {
		exchange->wait.wanted = false;
		reply_begin(exchange, 204, NULL);
	} else if (object_load(exchange, &stored)) {
		reply_object(exchange, 200, &stored);
	}
}

void handle_task_delete(struct exchange *exchange)
{
	const struct api_backend *backend = exchange->api->backend;
	struct store_object stored;
	struct error err = {0};
	int result;

	if (!object_load(exchange, &stored) || !object_revision_matches(exchange, &stored))
		return;
	result = backend->task_delete(backend->context, exchange->id, exchange->dry_run, &err);
	if (result < 0) {
		reply_errno(exchange, result, NULL, &err);
	} else if (exchange->dry_run) {
		buffer_adds(reply_json(exchange, 200),
			    "{\"dryRun\":true,\"action\":\"delete\",\"changes\":[]}");
	} else {
		exchange->acknowledges = true;
		reply_begin(exchange, 204, NULL);
	}
}
