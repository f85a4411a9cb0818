// SPDX-License-Identifier: Apache-2.0
#include "agent/model/stop.h"

#include <errno.h>

#include "agent/model/fields.h"

// Who may ask for it, in the order of enum stop_code; the other codes are the agent's findings.
static const char *const code_words[] = {"UserInitiated", "ServiceSchedulerInitiated",
					 "SpotInterruption", "TerminationNotice", NULL};

static const struct field stop_fields[] = {
	{.name = "reason",
	 .type = FIELD_TEXT,
	 .max = STOP_REASON_MAX,
	 .text = "",
	 FIELD_AT(task_stop_request, reason)},
	{.name = "stopCode",
	 .type = FIELD_ENUM,
	 .words = code_words,
	 FIELD_AT(task_stop_request, code)},
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
	if (document_read(&parse, &stop_table, text, length, ret_stop) < 0)
		return -EINVAL;
	ret_stop->code += STOP_CODE_USER_INITIATED;
	return 0;
}
