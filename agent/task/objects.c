// SPDX-License-Identifier: Apache-2.0
// The network objects of the store, parsed once and kept: what the engine and the API's
// link checks look at.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/log.h"
#include "agent/base/scope.h"
#include "agent/task/internal.h"

static struct object **object_place(struct engine *engine, enum model_kind kind, const char *id)
{
	struct object **place = &engine->objects[kind];

	while (*place && strcmp((*place)->model.id, id) != 0)
		place = &(*place)->next;
	return place;
}

static void object_free(struct object *object)
{
	arena_release(&object->arena);
	free(object);
}

const struct model_object *engine_object(struct engine *engine, enum model_kind kind,
					 const char *id)
{
	struct object *object = *object_place(engine, kind, id);

	return object ? &object->model : NULL;
}

const struct object_status *object_status(struct engine *engine, enum model_kind kind,
					  const char *id)
{
	struct object *object = *object_place(engine, kind, id);

	return object ? &object->status : NULL;
}

static int object_parse(enum model_kind kind, const struct store_object *stored,
			struct object **ret_object, struct error *err)
{
	struct object *object = calloc(1, sizeof(*object));
	struct fault_list faults = {0};
	const char *id;
	int result;

	if (!object)
		return error_set(err, ENOMEM, "%s %s: out of memory", stored->kind, stored->id);
	faults.arena = &object->arena;
	id = arena_strdup(&object->arena, stored->id);
	if (model_parse(kind, id, stored->spec, strlen(stored->spec), &object->arena,
			&object->model, &faults) < 0) {
		result = error_set(err, EBADMSG, "%s %s in the store: %s: %s", stored->kind,
				   stored->id, faults.count ? faults.faults[0].pointer : "",
				   faults.count ? faults.faults[0].message : "too large");
		object_free(object);
		return result;
	}
	result = object_status_parse(stored->status, &object->arena, &object->status, err);
	if (result < 0) {
		object_free(object);
		return error_wrap(err, "%s %s in the store: status", stored->kind, stored->id);
	}
	*ret_object = object;
	return 0;
}

static void object_replace(struct engine *engine, enum model_kind kind, const char *id,
			   struct object *replacement)
{
	struct object **place = object_place(engine, kind, id);
	struct object *old = *place;

	if (replacement) {
		replacement->next = old ? old->next : NULL;
		*place = replacement;
	} else if (old) {
		*place = old->next;
	}
	if (old)
		object_free(old);
}

int object_refresh(struct engine *engine, enum model_kind kind, const char *id, struct error *err)
{
	scoped(arena_release) struct arena arena = {0};
	struct store_object stored;
	struct object *object = NULL;
	int result =
		store_object_get(engine->store, model_kind_name(kind), id, &arena, &stored, err);

	if (result == 0)
		result = object_parse(kind, &stored, &object, err);
	else if (result == -ENOENT)
		result = 0;
	if (result == 0)
		object_replace(engine, kind, id, object);
	return result;
}

static int put_error(struct engine *engine, struct object *object, const char *message,
		     struct error *err)
{
	scoped(buffer_release) struct buffer text = {0};
	struct object_status status = object->status;
	struct store_change change = {.kind = model_kind_name(object->model.kind),
				      .id = object->model.id};

	status.error = message;
	object_status_render(&status, &text);
	change.status = buffer_text(&text);
	if (store_object_put(engine->store, &change, NULL, err) < 0)
		return -err->code;
	engine->recorded = true;
	effects_said(engine, object->model.kind, object->model.id);
	return object_refresh(engine, object->model.kind, object->model.id, err);
}

bool object_set_error(struct engine *engine, enum model_kind kind, const char *id,
		      const char *message)
{
	struct object *object = *object_place(engine, kind, id);
	const char *before = object && object->status.error ? object->status.error : "";
	struct error err = {0};

	if (strcmp(before, message) == 0)
		return true;
	if (*message)
		log_error(NULL, "%s %s: %s", model_kind_name(kind), id, message);
	else
		log_info(NULL, "%s %s: effective again", model_kind_name(kind), id);
	if (object && put_error(engine, object, message, &err) < 0)
		log_error(NULL, "%s %s: %s", model_kind_name(kind), id, err.message);
	return err.code == 0;
}

struct load {
	struct engine *engine;
	enum model_kind kind;
	struct error *err;
};

static int load_one(const struct store_object *stored, void *context)
{
	struct load *load = context;
	struct object *object = NULL;
	int result = object_parse(load->kind, stored, &object, load->err);

	if (result == 0)
		object_replace(load->engine, load->kind, object->model.id, object);
	return result;
}

int objects_load(struct engine *engine, struct error *err)
{
	for (enum model_kind kind = 0; kind < MODEL_KIND_COUNT; kind++) {
		struct load load = {engine, kind, err};

		if (kind == MODEL_TASK)
			continue;
		if (store_object_each(engine->store, model_kind_name(kind), load_one, &load, err) <
		    0)
			return -err->code;
	}
	return 0;
}

void objects_free(struct engine *engine)
{
	for (size_t kind = 0; kind < MODEL_KIND_COUNT; kind++) {
		while (engine->objects[kind]) {
			struct object *object = engine->objects[kind];

			engine->objects[kind] = object->next;
			object_free(object);
		}
	}
}
