// SPDX-License-Identifier: Apache-2.0
// Reading the record beside a cell, for the engine and for fsck: two lines, spec and status.
#pragma once

#include "agent/base/arena.h"
#include "agent/base/error.h"
#include "agent/cell/cell.h"
#include "agent/model/status.h"

// `ret_spec` may be NULL; texts live in the arena. -ENOENT: there is none. -EBADMSG: it is no
// record.
int cell_record_parse(const char *state_directory, const char *id, struct arena *arena,
		      const char **ret_spec, struct task_status *ret_status, struct error *err);

// The cell lives in this boot, and its record is of another creation of the task than `status`: the
// database is an old copy and has an earlier task of the same id, which has ended since. A cell
// that cannot be looked at counts as living.
bool cell_is_of_another_task(const struct cell *cell, const struct task_status *status,
			     const char *boot_id, struct arena *arena);
