// SPDX-License-Identifier: Apache-2.0
// Kinds of objects: from text to struct, and back.
#include "agent/model/model.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/json.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/model/fields.h"

static const struct {
	const char *name, *path;
	const struct field_table *table;
} kinds[] = {
	[MODEL_VPC] = {"vpc", "vpcs", &vpc_table},
	[MODEL_SUBNET] = {"subnet", "subnets", &subnet_table},
	[MODEL_SECURITY_GROUP] = {"security-group", "security-groups", &security_group_table},
	[MODEL_LOAD_BALANCER] = {"load-balancer", "load-balancers", &load_balancer_table},
	[MODEL_TARGET_GROUP] = {"target-group", "target-groups", &target_group_table},
	[MODEL_FILE_SYSTEM] = {"file-system", "file-systems", &file_system_table},
	[MODEL_TASK] = {"task", "tasks", &task_table},
};

const char *model_kind_name(enum model_kind kind)
{
	return kinds[kind].name;
}

const char *model_kind_path(enum model_kind kind)
{
	return kinds[kind].path;
}

int model_kind_from_name(const char *name, enum model_kind *ret_kind)
{
	for (unsigned i = 0; i < MODEL_KIND_COUNT; i++) {
		if (strcmp(kinds[i].name, name) == 0) {
			*ret_kind = (enum model_kind)i;
			return 0;
		}
	}
	return -EINVAL;
}

int model_kind_from_path(const char *path, enum model_kind *ret_kind)
{
	for (unsigned i = 0; i < MODEL_KIND_COUNT; i++) {
		if (strcmp(kinds[i].path, path) == 0) {
			*ret_kind = (enum model_kind)i;
			return 0;
		}
	}
	return -EINVAL;
}

// ---------------------------------------------------------------- parse and render

static void delete_value(cJSON **value)
{
	cJSON_Delete(*value);
}

// Fills in a zeroed struct, and goes on after a fault: what has one stays empty.
static int document_fill(struct parse *parse, const struct field_table *table, const char *text,
			 size_t length, void *target)
{
	struct fault_list *faults = parse->faults;
	uint32_t faults_before = faults->count;
	scoped(delete_value) cJSON *value = NULL;
	struct json_fault fault;
	int result = json_read(text, length, &json_limits_api, &value, &fault);

	if (result < 0) {
		fault_add(faults, fault.pointer, "%s", fault.message);
		return result;
	}
	fields_parse(parse, &(const struct place){0}, table, value, target);
	return faults->count > faults_before || faults->more ? -EINVAL : 0;
}

int document_read(struct parse *parse, const struct field_table *table, const char *text,
		  size_t length, void *ret_target)
{
	void *target = arena_alloc(parse->arena, table->size);
	int result = document_fill(parse, table, text, length, target);

	if (result == 0)
		memcpy(ret_target, target, table->size);
	return result;
}

int document_parse(const struct field_table *table, const char *text, size_t length,
		   struct arena *arena, void *ret_target, struct error *err)
{
	struct fault_list faults = {.arena = arena};
	struct parse parse = {.arena = arena, .faults = &faults};

	if (document_read(&parse, table, text, length, ret_target) < 0)
		return error_set(err, EBADMSG, "%s: %s", faults.faults[0].pointer,
				 faults.faults[0].message);
	return 0;
}

int model_parse(enum model_kind kind, const char *id, const char *text, size_t length,
		struct arena *arena, struct model_object *object, struct fault_list *faults)
{
	struct parse parse = {.arena = arena, .faults = faults, .id = id};
	void *spec = arena_alloc(arena, kinds[kind].table->size);
	bool good_id = !complain_id(id);
	int result;

	if (!good_id)
		fault_add(faults, "", "the id \"%.80s\" %s", id, complain_id(id));
	result = document_fill(&parse, kinds[kind].table, text, length, spec);
	*object = (struct model_object){.kind = kind, .id = arena_strdup(arena, id), .spec = spec};
	return result == 0 && !good_id ? -EINVAL : result;
}

void model_render(const struct model_object *object, enum model_render how, struct buffer *out)
{
	struct json_writer writer = {.out = out};

	fields_render(&writer, NULL, kinds[object->kind].table, object->spec,
		      how == MODEL_RENDER_REDACTED ? FIELDS_REDACTED : 0);
}

int model_diff(enum model_kind kind, const char *one, const char *other, struct arena *arena,
	       const char *const **ret_pointers, size_t *ret_count, struct error *err)
{
	return document_diff(kinds[kind].table, one, other, arena, ret_pointers, ret_count, err);
}

bool model_field_is_mutable(enum model_kind kind, const char *pointer)
{
	const struct field_table *table = kinds[kind].table;
	size_t length = *pointer == '/' ? strcspn(++pointer, "/") : 0;

	if (kind == MODEL_TASK)
		return false;
	for (size_t i = 0; i < table->count; i++) {
		const char *name = table->fields[i].name;

		if (strlen(name) == length && strncmp(name, pointer, length) == 0)
			return !(table->fields[i].flags & FIELD_IMMUTABLE);
	}
	return false;
}

// ---------------------------------------------------------------- references

struct reference_list {
	struct arena *arena;
	struct model_reference *references; // NULL while they are counted
	size_t count;
};

static void note_reference(void *context, const struct place *place, enum model_kind kind,
			   const char *id)
{
	struct reference_list *list = context;

	if (list->references)
		list->references[list->count] = (struct model_reference){
			.kind = kind, .id = id, .pointer = place_pointer(list->arena, place)};
	list->count++;
}

void model_references(const struct model_object *object, struct arena *arena,
		      const struct model_reference **ret_references, size_t *ret_count)
{
	const struct field_table *table = kinds[object->kind].table;
	struct reference_list list = {.arena = arena};

	fields_references(&(const struct place){0}, table, object->spec, note_reference, &list);
	list.references = arena_array(arena, struct model_reference, list.count);
	list.count = 0;
	fields_references(&(const struct place){0}, table, object->spec, note_reference, &list);
	*ret_references = list.references;
	*ret_count = list.count;
}
