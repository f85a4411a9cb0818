// SPDX-License-Identifier: Apache-2.0
// What the API asks of the agent, answered by the task engine.
#pragma once

#include "agent/api/api.h"
#include "agent/task/task.h"

struct backend {
	struct engine *engine;
	struct metrics *metrics;
	void (*shutdown)(void *context, bool stop_tasks);
	void *context;
};

// Fills in the operations; `backend` is borrowed by them.
struct api_backend backend_operations(struct backend *backend);
