// SPDX-License-Identifier: Apache-2.0
#include "agent/task/status_change.h"

#include <stdio.h>
#include <string.h>

static enum health_state health_of_guest(enum guest_health health)
{
	static const enum health_state states[] = {
		[GUEST_HEALTH_UNKNOWN] = HEALTH_UNKNOWN,
		[GUEST_HEALTH_HEALTHY] = HEALTH_HEALTHY,
		[GUEST_HEALTH_UNHEALTHY] = HEALTH_UNHEALTHY,
	};

	return states[health];
}

static enum container_state state_of_guest(enum guest_container_state state)
{
	static const enum container_state states[] = {
		[GUEST_CONTAINER_PENDING] = CONTAINER_PENDING,
		[GUEST_CONTAINER_RUNNING] = CONTAINER_RUNNING,
		[GUEST_CONTAINER_STOPPED] = CONTAINER_STOPPED,
	};

	return states[state];
}

static bool set_once(int64_t *known_ms, int64_t said_ms)
{
	if (*known_ms != 0 || said_ms == 0)
		return false;
	*known_ms = said_ms;
	return true;
}

// The state of a container goes forward, and each time and the exit code are set once. An honest
// shim sees to that itself; here it bounds what a shim that was taken over can have recorded: each
// of these changes is an event, and without a bound they would push all others out of the history.
static bool advance_container(const struct guest_container_status *said,
			      struct container_status *container)
{
	enum container_state state = state_of_guest(said->state);
	bool changed = state > container->last_status;

	if (changed)
		container->last_status = state;
	changed |= set_once(&container->started_ms, said->started_ms);
	changed |= set_once(&container->finished_ms, said->finished_ms);
	if (said->state == GUEST_CONTAINER_STOPPED && said->exit_code != GUEST_EXIT_NONE &&
	    container->exit_code == CONTAINER_EXIT_NONE) {
		container->exit_code = said->exit_code;
		changed = true;
	}
	return changed;
}

static enum status_change take_container(const struct guest_container_status *said,
					 struct container_status *container)
{
	const struct container_status before = *container;
	enum status_change change =
		advance_container(said, container) ? STATUS_CHANGE_STATE : STATUS_CHANGE_NONE;

	// What is said of a container whose exit is known is final as well.
	if (before.last_status == CONTAINER_STOPPED && before.exit_code != CONTAINER_EXIT_NONE)
		return change;
	container->health = health_of_guest(said->health);
	snprintf(container->reason, sizeof(container->reason), "%s", said->reason);
	if (change == STATUS_CHANGE_NONE &&
	    (container->health != before.health || strcmp(container->reason, before.reason) != 0))
		change = STATUS_CHANGE_HEALTH;
	return change;
}

// UNHEALTHY if an essential container with a check is; HEALTHY once all of those are.
static enum health_state task_health(const struct task_spec *spec, const struct task_status *status)
{
	enum health_state health = HEALTH_UNKNOWN;

	for (uint32_t i = 0; i < spec->container_count; i++) {
		if (!spec->containers[i].health_check || !spec->containers[i].essential)
			continue;
		if (status->containers[i].health != HEALTH_HEALTHY)
			return status->containers[i].health;
		health = HEALTH_HEALTHY;
	}
	return health;
}

static enum status_change more(enum status_change left, enum status_change right)
{
	return left > right ? left : right;
}

// As the metadata say it.
static uint64_t disk_used_mib(const struct cell_status *status)
{
	return status->guest.disk_used_bytes >> 20;
}

enum status_change status_change_take(const struct task_spec *spec,
				      const struct cell_status *before,
				      const struct cell_status *said, struct task_status *status)
{
	enum status_change change = disk_used_mib(before) != disk_used_mib(said)
					    ? STATUS_CHANGE_DISK
					    : STATUS_CHANGE_NONE;

	for (uint32_t i = 0; i < said->guest.container_count && i < status->container_count; i++)
		change = more(change,
			      take_container(&said->guest.containers[i], &status->containers[i]));
	status->health = task_health(spec, status);
	if (status->guest_silent_since_ms != said->guest_silent_since_ms) {
		status->guest_silent_since_ms = said->guest_silent_since_ms;
		change = more(change, STATUS_CHANGE_HEALTH);
	}
	return change;
}

enum status_change status_change_pass(struct status_change_limit *limit, enum status_change change)
{
	if (change == STATUS_CHANGE_STATE) {
		limit->held = STATUS_CHANGE_NONE; // told along with it
		return change;
	}
	if (limit->spent) {
		limit->held = more(limit->held, change);
		return STATUS_CHANGE_NONE;
	}
	limit->spent = change != STATUS_CHANGE_NONE;
	return change;
}

enum status_change status_change_sweep(struct status_change_limit *limit)
{
	enum status_change held = limit->held;

	*limit = (struct status_change_limit){.spent = held != STATUS_CHANGE_NONE};
	return held;
}
