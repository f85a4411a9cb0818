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

static enum status_change take_container(const struct guest_container_status *said,
					 struct container_status *container)
{
	const struct container_status before = *container;

	// An exit that is known stays known: a snapshot that was saved before it may be read later.
	if (before.last_status == CONTAINER_STOPPED && before.exit_code != CONTAINER_EXIT_NONE)
		return STATUS_CHANGE_NONE;
	container->last_status = state_of_guest(said->state);
	container->health = health_of_guest(said->health);
	container->exit_code =
		said->state == GUEST_CONTAINER_STOPPED && said->exit_code != GUEST_EXIT_NONE
			? said->exit_code
			: CONTAINER_EXIT_NONE;
	container->started_ms = said->started_ms;
	container->finished_ms = said->finished_ms;
	snprintf(container->reason, sizeof(container->reason), "%s", said->reason);
	if (container->last_status != before.last_status ||
	    container->exit_code != before.exit_code ||
	    container->started_ms != before.started_ms ||
	    container->finished_ms != before.finished_ms)
		return STATUS_CHANGE_STATE;
	return container->health != before.health || strcmp(container->reason, before.reason) != 0
		       ? STATUS_CHANGE_HEALTH
		       : STATUS_CHANGE_NONE;
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
