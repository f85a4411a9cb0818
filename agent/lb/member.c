// SPDX-License-Identifier: Apache-2.0
// Targets.
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/lb/internal.h"

static const char *target_text(const struct lb_target *target, char text[INET_ADDRSTRLEN])
{
	struct in_addr address = {.s_addr = htonl(target->address)};

	return inet_ntop(AF_INET, &address, text, INET_ADDRSTRLEN);
}

struct lb_member *lb_member_find(const struct lb_group_entry *group, uint32_t address,
				 uint16_t port)
{
	for (size_t i = 0; i < group->count; i++)
		if (group->members[i]->target.address == address &&
		    group->members[i]->target.port == port)
			return group->members[i];
	return NULL;
}

void lb_member_event(struct lb_member *member, enum lb_health_event event, enum lb_reason reason)
{
	const struct lb_check *check = &member->group->group.check;
	const struct lb_thresholds thresholds = {check->healthy_threshold,
						 check->unhealthy_threshold};

	if (!lb_health_handle(&member->health, &thresholds, event, reason))
		return;
	member->group->changed = true;
	lb_event_member(member->group->vpc->lb, LB_EVENT_TARGET_STATE, member);
}

static bool is_served(const struct lb_member *member)
{
	const struct lb_vpc *vpc = member->group->vpc;
	const struct lb_endpoint endpoint = {member->target.address, member->target.port};

	return vpc->lb->provider->serves(vpc->provider, member->group->group.id, &endpoint);
}

void lb_member_use(struct lb_member *member)
{
	const struct lb_group_entry *group = member->group;

	lb_member_event(member, group->used ? LB_HEALTH_USE : LB_HEALTH_DISUSE, LB_REASON_NONE);
	// Only before the first flush can the kernel serve one that is still initial: it does
	// since an earlier life of the agent.
	if (group->used && is_served(member))
		lb_member_event(member, LB_HEALTH_ADOPT, LB_REASON_NONE);
	lb_check_changed(member);
}

static void member_add(struct lb_group_entry *group, struct lb_member *member)
{
	if (group->count == group->capacity) {
		group->capacity = group->capacity ? group->capacity * 2 : 4;
		group->members =
			reallocarray(group->members, group->capacity, sizeof(struct lb_member *));
		if (!group->members)
			abort();
	}
	group->members[group->count++] = member;
	group->changed = true;
}

static void take_back(struct lb_member *member, const struct lb_target *target)
{
	bool draining = member->health.state == LB_STATE_DRAINING;

	if (!draining && strcmp(member->target.task_id, target->task_id) == 0)
		return;
	if (draining)
		member->group->vpc->draining_count--;
	member->target = *target;
	member->health = lb_health_new();
	member->withdrawn = member->counting = false;
	member->group->changed = true;
	lb_event_member(member->group->vpc->lb, LB_EVENT_TARGET_STATE, member);
	lb_member_use(member);
}

// NULL: not there, and `err` says so.
static struct lb_group_entry *group_get(const struct lb *lb, const char *group_id,
					struct error *err)
{
	struct lb_group_entry *group = lb_group_find(lb, group_id);

	if (!group)
		error_set(err, ENOENT, "target group %s: not known to load balancing", group_id);
	return group;
}

int lb_target_register(struct lb *lb, const char *group_id, const struct lb_target *target,
		       struct error *err)
{
	struct lb_group_entry *group = group_get(lb, group_id, err);
	struct lb_member *member;

	if (!group)
		return -err->code;
	member = lb_member_find(group, target->address, target->port);
	if (member) {
		take_back(member, target);
		return 0;
	}
	if (target->address == 0 || target->port == 0)
		return error_set(err, EINVAL, "target group %s: target without address or port",
				 group_id);
	if (group->count >= LB_TARGETS_MAX)
		return error_set(err, ENOSPC, "target group %s: has %d targets already", group_id,
				 LB_TARGETS_MAX);
	member = lb_allocate(1, sizeof(*member));
	*member = (struct lb_member){
		.target = *target, .group = group, .health = lb_health_new(), .check = LB_NO_CHECK};
	if (lb_check_take(member, err) < 0) {
		free(member);
		return error_wrap(err, "target group %s", group_id);
	}
	member_add(group, member);
	lb_event_member(lb, LB_EVENT_TARGET_STATE, member);
	lb_member_use(member);
	return 0;
}

static struct lb_member *member_get(const struct lb *lb, const char *group_id,
				    const struct lb_target *target, struct error *err)
{
	const struct lb_group_entry *group = group_get(lb, group_id, err);
	struct lb_member *member;
	char text[INET_ADDRSTRLEN];

	if (!group)
		return NULL;
	member = lb_member_find(group, target->address, target->port);
	if (!member)
		error_set(err, ENOENT, "target group %s: no target %s:%u", group_id,
			  target_text(target, text), target->port);
	return member;
}

int lb_target_deregister(struct lb *lb, const char *group_id, const struct lb_target *target,
			 struct lb_drain drain, struct error *err)
{
	struct lb_member *member = member_get(lb, group_id, target, err);

	if (!member)
		return -err->code;
	if (drain.delay_ms < 0)
		drain.delay_ms = (int64_t)member->group->group.drain_seconds * 1000;
	lb_drain_begin(member, drain.delay_ms - drain.elapsed_ms);
	lb_check_changed(member);
	return 0;
}

void lb_member_remove(struct lb_member *member)
{
	struct lb_group_entry *group = member->group;
	size_t place = 0;

	if (member->health.state == LB_STATE_DRAINING)
		group->vpc->draining_count--;
	lb_check_release(member);
	while (group->members[place] != member)
		place++;
	group->count--;
	memmove(&group->members[place], &group->members[place + 1],
		(group->count - place) * sizeof(struct lb_member *));
	group->changed = true;
	free(member);
}

// ---- Status

static struct lb_target_status member_status(const struct lb_member *member)
{
	return (struct lb_target_status){
		.target = member->target,
		.state = member->health.state,
		.reason = member->health.reason,
		.in_service = member->in_service,
		.open_connections = member->open_connections,
		.http_status = member->http_status,
		.check_failure = member->check_failure,
		.check_latency_us = member->check_latency_us,
	};
}

int lb_group_status(const struct lb *lb, const char *group_id,
		    struct lb_target_status **ret_targets, size_t *ret_count, struct error *err)
{
	const struct lb_group_entry *group = group_get(lb, group_id, err);
	struct lb_target_status *targets;

	if (!group)
		return -err->code;
	targets = lb_allocate(group->count, sizeof(*targets));
	for (size_t i = 0; i < group->count; i++)
		targets[i] = member_status(group->members[i]);
	*ret_targets = targets;
	*ret_count = group->count;
	return 0;
}

int lb_target_status(const struct lb *lb, const char *group_id, const struct lb_target *target,
		     struct lb_target_status *ret_status, struct error *err)
{
	struct lb_member *member = member_get(lb, group_id, target, err);

	if (!member)
		return -err->code;
	*ret_status = member_status(member);
	return 0;
}

const char *lb_target_describe(const struct lb_target_status *status,
			       char description[LB_DESCRIPTION_SIZE])
{
	description[0] = '\0';
	switch (status->reason) {
	case LB_REASON_RESPONSE_CODE_MISMATCH:
		snprintf(description, LB_DESCRIPTION_SIZE, "got %u", status->http_status);
		break;
	case LB_REASON_TIMEOUT:
		snprintf(description, LB_DESCRIPTION_SIZE,
			 "no answer in time: is its port open to the balancer?");
		break;
	case LB_REASON_FAILED_HEALTH_CHECKS:
		snprintf(description, LB_DESCRIPTION_SIZE, "%s",
			 status->check_failure ? strerror(status->check_failure)
					       : "no HTTP answer, or one that was cut short");
		break;
	case LB_REASON_DEREGISTRATION_IN_PROGRESS:
		snprintf(description, LB_DESCRIPTION_SIZE, "%u open connections",
			 status->open_connections);
		break;
	default:
		break;
	}
	return description;
}
