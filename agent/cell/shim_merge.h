// SPDX-License-Identifier: Apache-2.0
// What a guest says, taken into what is known: pure.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/cell/protocol.h"

// Takes a decoded status document. Phases and container states only go forward, the first
// failure, exit code and time of a change stay. Times are `now_ms`: the guest's clock may be
// anything. *ret_durable is set when something changed that must survive the shim (an exit, a
// phase, a failure). Returns whether anything changed.
bool cell_status_merge(struct cell_status *status, const struct guest_status *said, int64_t now_ms,
		       bool *ret_durable);
