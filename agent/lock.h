// SPDX-License-Identifier: Apache-2.0
// One agent per install and runtime directory.
#pragma once

#include "agent/base/error.h"

// Takes the lock at `path`, and holds it until the descriptor is closed. While an agent that holds
// it is ending, waits for the end of that process, at most half a minute: whoever saw the agent's
// last reply may start the next one at once. -EAGAIN: another agent has it.
int agent_lock_take(const char *path, int *ret_fd, struct error *err);

// The holder ends: from now on a successor waits for it instead of giving up.
void agent_lock_ending(int fd);
