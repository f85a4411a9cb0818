// SPDX-License-Identifier: Apache-2.0
// Reading the record beside a cell, for the engine and for fsck: two lines, spec and status.
#pragma once

#include "agent/base/arena.h"
#include "agent/base/error.h"
#include "agent/model/status.h"

// `ret_spec` may be NULL; texts live in the arena. -ENOENT: there is none. -EBADMSG: it is no
// record.
int cell_record_parse(const char *state_directory, const char *id, struct arena *arena,
		      const char **ret_spec, struct task_status *ret_status, struct error *err);
