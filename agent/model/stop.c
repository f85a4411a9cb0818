// SPDX-License-Identifier: Apache-2.0
#include "agent/model/stop.h"

#include "agent/model/fields.h"

static const struct field stop_fields[] = {
	{.name = "reason",
	 .type = FIELD_TEXT,
	 .max = STOP_REASON_MAX,
	 .text = "",
	 FIELD_AT(task_stop_request, reason)},
	{.name = "drainSeconds",
	 .type = FIELD_U32,
	 .max = STOP_DRAIN_SECONDS_MAX,
	 .number = TASK_DRAIN_DEFAULT,
	 FIELD_AT(task_stop_request, drain_seconds)},
};
static const struct field_table stop_table = {FIELD_TABLE(task_stop_request, stop_fields)};

int task_stop_parse(const char *text, size_t length, struct arena *arena,
		    struct task_stop_request *ret_stop, struct fault_list *faults)
{
	struct parse parse = {.arena = arena, .faults = faults};

	if (length == 0) {
		text = "{}";
		length = 2;
	}
	return document_read(&parse, &stop_table, text, length, ret_stop);
}
