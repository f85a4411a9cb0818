// SPDX-License-Identifier: Apache-2.0
// The documents of the API around objects: errors, envelopes, events, lists.
#include "agent/model/model.h"
#include "agent/model/writer.h"

void model_error_render(const char *code, const char *message, const struct fault_list *faults,
			struct buffer *out)
{
	struct json_writer writer = {.out = out};

	json_object_begin(&writer, NULL);
	json_string(&writer, "code", code);
	json_string(&writer, "message", message);
	json_array_begin(&writer, "details");
	for (uint32_t i = 0; faults && i < faults->count; i++) {
		json_object_begin(&writer, NULL);
		json_string(&writer, "pointer", faults->faults[i].pointer);
		json_string(&writer, "message", faults->faults[i].message);
		json_object_end(&writer);
	}
	json_array_end(&writer);
	if (faults && faults->more)
		json_boolean(&writer, "more", true);
	json_object_end(&writer);
}

static void envelope_write(struct json_writer *writer, const char *name,
			   const struct model_envelope *envelope)
{
	json_object_begin(writer, name);
	json_string(writer, "kind", envelope->kind);
	json_string(writer, "id", envelope->id);
	json_number(writer, "revision", (int64_t)envelope->revision);
	json_time(writer, "createdAt", envelope->created_ms);
	json_time(writer, "changedAt", envelope->changed_ms);
	json_raw(writer, "spec", envelope->spec);
	if (envelope->status)
		json_raw(writer, "status", envelope->status);
	if (envelope->error)
		json_string(writer, "error", envelope->error);
	json_object_end(writer);
}

void model_envelope_render(const struct model_envelope *envelope, struct buffer *out)
{
	envelope_write(&(struct json_writer){.out = out}, NULL, envelope);
}

void model_event_render(const struct model_envelope *object, bool deleted, uint64_t revision,
			int64_t time_ms, struct buffer *out)
{
	struct json_writer writer = {.out = out};

	json_object_begin(&writer, NULL);
	json_string(&writer, "type", deleted ? "DELETE" : "PUT");
	json_number(&writer, "revision", (int64_t)revision);
	json_time(&writer, "time", time_ms);
	envelope_write(&writer, "object", object);
	json_object_end(&writer);
}

void model_list_begin(struct model_list *list, uint64_t revision, struct buffer *out)
{
	list->writer = (struct json_writer){.out = out};
	json_object_begin(&list->writer, NULL);
	json_number(&list->writer, "revision", (int64_t)revision);
	json_array_begin(&list->writer, "items");
}

void model_list_add(struct model_list *list, const struct model_envelope *envelope)
{
	envelope_write(&list->writer, NULL, envelope);
}

void model_list_end(struct model_list *list)
{
	json_array_end(&list->writer);
	json_object_end(&list->writer);
}
