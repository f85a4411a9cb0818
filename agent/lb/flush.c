// SPDX-License-Identifier: Apache-2.0
// From health to the provider's plan.
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/lb/internal.h"

enum { RETRY_AFTER_US = 1000000 };

bool lb_vpc_is_changed(const struct lb_vpc *vpc)
{
	if (vpc->services_changed || vpc->removed_count > 0)
		return true;
	for (const struct lb_group_entry *group = vpc->groups; group; group = group->next)
		if (group->changed)
			return true;
	return false;
}

// Sets in_service of each member; true when it is not what it was.
static bool group_select(struct lb_group_entry *group)
{
	scoped_free const struct lb_health **health =
		lb_allocate(group->count, sizeof(const struct lb_health *));
	scoped_free bool *in_service = lb_allocate(group->count, sizeof(*in_service));
	bool differs = false;

	for (size_t i = 0; i < group->count; i++)
		health[i] = &group->members[i]->health;
	lb_health_select(health, (unsigned)group->count, in_service);
	for (size_t i = 0; i < group->count; i++) {
		differs |= group->members[i]->in_service != in_service[i];
		group->members[i]->in_service = in_service[i];
	}
	return differs;
}

static struct lb_plan_group plan_group(const struct lb_group_entry *group)
{
	struct lb_endpoint *endpoints = lb_allocate(group->count, sizeof(*endpoints));
	size_t count = 0;

	for (size_t i = 0; i < group->count; i++)
		if (group->members[i]->in_service)
			endpoints[count++] = (struct lb_endpoint){group->members[i]->target.address,
								  group->members[i]->target.port};
	return (struct lb_plan_group){
		.id = group->group.id, .endpoints = endpoints, .count = count};
}

struct plan_parts {
	struct lb_plan_group *groups;
	struct lb_plan_service *services;
	const char **removed;
	size_t group_count, service_count;
};

static void parts_release(struct plan_parts *parts)
{
	for (size_t i = 0; i < parts->group_count; i++)
		free((void *)(uintptr_t)parts->groups[i].endpoints);
	free(parts->groups);
	free(parts->services);
	free(parts->removed);
}

static size_t count_groups(const struct lb_vpc *vpc)
{
	size_t count = 0;

	for (const struct lb_group_entry *group = vpc->groups; group; group = group->next)
		count++;
	return count;
}

// A removed member leaves no trace in in_service: `changed` alone sends the group again. The
// provider itself drops what is no change.
static void plan_groups(struct lb_vpc *vpc, struct plan_parts *parts)
{
	parts->groups = lb_allocate(count_groups(vpc), sizeof(*parts->groups));
	for (struct lb_group_entry *group = vpc->groups; group; group = group->next) {
		if (!group->changed && vpc->synced)
			continue;
		group_select(group);
		parts->groups[parts->group_count++] = plan_group(group);
	}
}

static void plan_balancer(const struct lb_vpc *vpc, const struct lb_balancer *balancer,
			  struct plan_parts *parts)
{
	for (size_t i = 0; i < balancer->listener_count; i++) {
		const struct lb_listener *listener = &balancer->listeners[i];
		const struct lb_group_entry *group = lb_vpc_group_find(vpc, listener->group_id);

		if (!group)
			continue; // listens once the group is there
		parts->services[parts->service_count++] = (struct lb_plan_service){
			balancer->address, listener->port, group->group.id, balancer->id};
	}
}

static void plan_services(const struct lb_vpc *vpc, struct plan_parts *parts)
{
	size_t count = 0;

	if (!vpc->services_changed && vpc->synced)
		return;
	for (struct lb_balancer_entry *entry = vpc->balancers; entry; entry = entry->next)
		count += entry->balancer.listener_count;
	parts->services = lb_allocate(count, sizeof(*parts->services));
	for (struct lb_balancer_entry *entry = vpc->balancers; entry; entry = entry->next)
		plan_balancer(vpc, &entry->balancer, parts);
}

static void plan_removed(const struct lb_vpc *vpc, struct plan_parts *parts)
{
	parts->removed = lb_allocate(vpc->removed_count, sizeof(*parts->removed));
	for (size_t i = 0; i < vpc->removed_count; i++)
		parts->removed[i] = vpc->removed[i].text;
}

static void mark_applied(struct lb_vpc *vpc)
{
	for (struct lb_group_entry *group = vpc->groups; group; group = group->next)
		group->changed = false;
	vpc->services_changed = false;
	vpc->removed_count = 0;
	vpc->synced = true;
	vpc->retry_us = 0;
	error_clear(&vpc->failure);
}

static void mark_failed(struct lb_vpc *vpc, struct error *err, int64_t now_us)
{
	error_wrap(err, "vpc %s: %s load balancer", vpc->id, vpc->lb->provider->name);
	if (strcmp(vpc->failure.message, err->message) != 0)
		lb_event_error(vpc, err);
	vpc->failure = *err;
	vpc->synced = false;
	vpc->services_changed = true; // changed until it succeeds
	vpc->retry_us = now_us + RETRY_AFTER_US;
}

void lb_vpc_flush(struct lb_vpc *vpc, int64_t now_us)
{
	scoped(parts_release) struct plan_parts parts = {0};
	struct lb_plan plan = {.resync = !vpc->synced};
	struct error err = {0};

	plan_groups(vpc, &parts);
	plan_services(vpc, &parts);
	plan_removed(vpc, &parts);
	plan.groups = parts.groups;
	plan.group_count = parts.group_count;
	plan.removed = parts.removed;
	plan.removed_count = vpc->removed_count;
	plan.services_changed = vpc->services_changed;
	plan.services = parts.services;
	plan.service_count = parts.service_count;
	if (vpc->lb->provider->apply(vpc->provider, &plan, &err) < 0) {
		mark_failed(vpc, &err, now_us);
		return;
	}
	mark_applied(vpc);
	lb_drain_withdrawn(vpc);
}

const struct error *lb_vpc_failure(const struct lb *lb, const char *vpc_id)
{
	const struct lb_vpc *vpc = lb_vpc_find(lb, vpc_id);

	return vpc && vpc->failure.code ? &vpc->failure : NULL;
}
