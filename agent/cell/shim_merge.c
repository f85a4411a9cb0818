// SPDX-License-Identifier: Apache-2.0
#include "agent/cell/shim_merge.h"

#include <string.h>

// True when the state changed. The guest's clock is its own: what counts is when we heard of it.
static bool merge_container(struct guest_container_status *known,
			    const struct guest_container_status *said, int64_t now_ms)
{
	bool changed = said->state > known->state;

	if (known->state == GUEST_CONTAINER_STOPPED)
		return false;
	if (said->started_ms != 0 && known->started_ms == 0)
		known->started_ms = now_ms;
	if (changed)
		known->state = said->state;
	if (known->state == GUEST_CONTAINER_STOPPED) {
		known->exit_code = said->exit_code;
		known->finished_ms = now_ms;
	}
	known->health = said->health;
	known->memory_bytes = said->memory_bytes;
	memcpy(known->reason, said->reason, sizeof(known->reason));
	return changed;
}

static bool merge_phase(struct cell_status *status, const struct guest_status *said, int64_t now_ms)
{
	if (said->phase <= status->guest.phase)
		return false;
	status->guest.phase = said->phase;
	if (said->phase == GUEST_PHASE_RUNNING)
		status->guest_running_ms = now_ms;
	return true;
}

static bool merge_failure(struct guest_status *known, const struct guest_status *said)
{
	if (known->failure[0] != '\0' || said->failure[0] == '\0')
		return false;
	memcpy(known->failure, said->failure, sizeof(known->failure));
	return true;
}

bool cell_status_merge(struct cell_status *status, const struct guest_status *said, int64_t now_ms,
		       bool *ret_durable)
{
	struct guest_status before = status->guest;
	struct guest_status *known = &status->guest;
	bool durable = merge_phase(status, said, now_ms);

	durable |= merge_failure(known, said);
	known->disk_size_bytes = said->disk_size_bytes;
	known->disk_used_bytes = said->disk_used_bytes;
	if (said->container_count > known->container_count)
		known->container_count = said->container_count;
	for (uint32_t i = 0; i < said->container_count; i++)
		durable |= merge_container(&known->containers[i], &said->containers[i], now_ms);
	*ret_durable = durable;
	// NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): padding costs one more message
	return memcmp(&before, known, sizeof(before)) != 0;
}
