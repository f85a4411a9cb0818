// SPDX-License-Identifier: Apache-2.0
// The body of POST /v1/tasks/{id}/stop: {"reason":…,"stopCode":…,"drainSeconds":…}, all optional.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "agent/base/arena.h"
#include "agent/model/fault.h"
#include "agent/model/status.h"

enum { STOP_REASON_MAX = 255, STOP_DRAIN_SECONDS_MAX = 3600 };

struct task_stop_request {
	const char *reason;     // "" when absent
	enum stop_code code;    // STOP_CODE_USER_INITIATED when absent
	uint32_t drain_seconds; // TASK_DRAIN_DEFAULT when absent (status.h)
};

// 0, or -EINVAL with at least one fault. An empty text is an empty document.
int task_stop_parse(const char *text, size_t length, struct arena *arena,
		    struct task_stop_request *ret_stop, struct fault_list *faults);
