// SPDX-License-Identifier: Apache-2.0
// What a shim's snapshot means for the record of its task: pure.
//
// A guest may change its mind as often as it likes, and every change that is recorded is a row, an
// event and its metadata anew. So of what a guest may change again and again, one change is passed
// on between two sweeps; the rest is held back until the next.
#pragma once

#include <stdbool.h>

#include "agent/cell/protocol.h"
#include "agent/model/status.h"
#include "agent/model/task.h"

// The more there is to do, the larger.
enum status_change {
	STATUS_CHANGE_NONE,
	STATUS_CHANGE_DISK,   // how much of the disk is used: for the metadata alone
	STATUS_CHANGE_HEALTH, // health, the reason of a container that runs, or a silent guest
	STATUS_CHANGE_STATE,  // goes forward only: at most five for a container
};

// Takes a snapshot into the status. `before` is the last one.
enum status_change status_change_take(const struct task_spec *spec,
				      const struct cell_status *before,
				      const struct cell_status *said, struct task_status *status);

struct status_change_limit {
	bool spent;              // since the last sweep
	enum status_change held; // since then
};

// What is to be recorded now.
enum status_change status_change_pass(struct status_change_limit *limit, enum status_change change);
enum status_change status_change_sweep(struct status_change_limit *limit);
