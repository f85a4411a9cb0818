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
enum news {
	NEWS_NONE,
	NEWS_DISK,   // how much of the disk is used: for the metadata alone
	NEWS_HEALTH, // health, or the reason of a container that runs
	NEWS_STATE,  // goes forward only
};

// Takes a snapshot into the status. `before` is the last one.
enum news news_take(const struct task_spec *spec, const struct cell_status *before,
		    const struct cell_status *said, struct task_status *status);

struct news_limit {
	bool spent;     // since the last sweep
	enum news held; // since then
};

// What is to be told now.
enum news news_pass(struct news_limit *limit, enum news news);
enum news news_sweep(struct news_limit *limit);
