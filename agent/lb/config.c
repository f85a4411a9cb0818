// SPDX-License-Identifier: Apache-2.0
// Balancers and groups: what is to be, and which groups are in use.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/number.h"
#include "agent/lb/internal.h"

void lb_matcher_add(uint8_t matcher[LB_MATCHER_BYTES], unsigned first, unsigned last)
{
	if (first < LB_MATCHER_FIRST)
		first = LB_MATCHER_FIRST;
	if (last > LB_MATCHER_LAST)
		last = LB_MATCHER_LAST;
	for (unsigned code = first; code <= last; code++) {
		unsigned bit = code - LB_MATCHER_FIRST;

		matcher[bit / 8] = (uint8_t)(matcher[bit / 8] | 1u << (bit % 8));
	}
}

bool lb_matcher_has(const uint8_t matcher[LB_MATCHER_BYTES], unsigned code)
{
	unsigned bit = code - LB_MATCHER_FIRST;

	return code >= LB_MATCHER_FIRST && code <= LB_MATCHER_LAST &&
	       (matcher[bit / 8] & 1u << (bit % 8));
}

// ---- Who uses a group

static const struct lb_balancer *group_user(const struct lb_group_entry *group)
{
	for (const struct lb_balancer_entry *entry = group->vpc->balancers; entry;
	     entry = entry->next)
		for (size_t i = 0; i < entry->balancer.listener_count; i++)
			if (strcmp(entry->balancer.listeners[i].group_id, group->group.id) == 0)
				return &entry->balancer;
	return NULL;
}

static void members_use(struct lb_group_entry *group)
{
	for (size_t i = 0; i < group->count; i++)
		lb_member_use(group->members[i]);
}

// What is tested as before is left alone: a check that is set again loses its rhythm.
static void group_use(struct lb_group_entry *group)
{
	const struct lb_balancer *user = group_user(group);
	uint32_t source = user ? user->address : 0;

	if (group->used == (user != NULL) && group->source == source)
		return;
	group->used = user;
	group->source = source;
	members_use(group);
}

// After any change of balancers or groups.
static void vpc_use(struct lb_vpc *vpc)
{
	vpc->services_changed = true;
	for (struct lb_group_entry *group = vpc->groups; group; group = group->next)
		group_use(group);
}

// ---- Balancers

static struct lb_balancer_entry **balancer_place(struct lb_vpc *vpc, const char *id)
{
	struct lb_balancer_entry **place = &vpc->balancers;

	while (*place && strcmp((*place)->balancer.id, id) != 0)
		place = &(*place)->next;
	return place;
}

static bool listeners_equal(const struct lb_balancer *left, const struct lb_balancer *right)
{
	if (left->address != right->address || left->listener_count != right->listener_count)
		return false;
	for (size_t i = 0; i < left->listener_count; i++)
		if (left->listeners[i].port != right->listeners[i].port ||
		    strcmp(left->listeners[i].group_id, right->listeners[i].group_id) != 0)
			return false;
	return true;
}

static void balancer_remove_elsewhere(struct lb *lb, const struct lb_vpc *home, const char *id)
{
	for (struct lb_vpc *vpc = lb->vpcs; vpc; vpc = vpc->next) {
		struct lb_balancer_entry **place = balancer_place(vpc, id);
		struct lb_balancer_entry *entry = *place;

		if (vpc == home || !entry)
			continue;
		*place = entry->next;
		free(entry);
		vpc_use(vpc);
	}
}

int lb_balancer_ensure(struct lb *lb, const struct lb_balancer *balancer, struct error *err)
{
	struct lb_balancer_entry **place, *entry;
	struct lb_vpc *vpc;

	if (!id_is_valid(balancer->id) || balancer->listener_count > LB_LISTENERS_MAX)
		return error_set(err, EINVAL,
				 "load balancer \"%.64s\": bad id or more than %d "
				 "listeners",
				 balancer->id, LB_LISTENERS_MAX);
	if (lb_vpc_get(lb, balancer->vpc_id, &vpc, err) < 0)
		return error_wrap(err, "load balancer %s", balancer->id);
	balancer_remove_elsewhere(lb, vpc, balancer->id);
	place = balancer_place(vpc, balancer->id);
	if (*place && listeners_equal(&(*place)->balancer, balancer))
		return 0;
	entry = *place;
	if (!entry) {
		entry = lb_allocate(1, sizeof(*entry));
		*place = entry;
	}
	entry->balancer = *balancer;
	vpc_use(vpc);
	return 0;
}

void lb_balancer_remove(struct lb *lb, const char *balancer_id)
{
	balancer_remove_elsewhere(lb, NULL, balancer_id);
}

void lb_balancers_free(struct lb_vpc *vpc)
{
	struct lb_balancer_entry *entry;

	while ((entry = vpc->balancers)) {
		vpc->balancers = entry->next;
		free(entry);
	}
}

// ---- Groups

struct lb_group_entry *lb_vpc_group_find(const struct lb_vpc *vpc, const char *group_id)
{
	struct lb_group_entry *group = vpc->groups;

	while (group && strcmp(group->group.id, group_id) != 0)
		group = group->next;
	return group;
}

struct lb_group_entry *lb_group_find(const struct lb *lb, const char *group_id)
{
	struct lb_group_entry *group = NULL;

	for (const struct lb_vpc *vpc = lb->vpcs; vpc && !group; vpc = vpc->next)
		group = lb_vpc_group_find(vpc, group_id);
	return group;
}

static int check_validate(const struct lb_check *check, struct error *err)
{
	if (!memchr(check->path, '\0', sizeof(check->path)))
		return error_set(err, EINVAL, "health check: the path has no end");
	if (check->interval_ms < 100 || check->timeout_ms < 1 ||
	    check->timeout_ms > check->interval_ms)
		return error_set(err, EINVAL,
				 "health check: interval %u ms and timeout %u ms, must be at least "
				 "100 and at most the interval",
				 check->interval_ms, check->timeout_ms);
	if (check->healthy_threshold < 1 || check->unhealthy_threshold < 1)
		return error_set(err, EINVAL, "health check: thresholds must be at least 1");
	if (check->protocol != LB_PROTOCOL_HTTP)
		return 0;
	if (check->path[0] != '/')
		return error_set(err, EINVAL, "health check: the path must begin with \"/\"");
	// What is sent is one request line: nothing may end it or begin another.
	for (const char *byte = check->path; *byte; byte++)
		if (*byte <= ' ' || *byte >= 0x7f)
			return error_set(err, EINVAL,
					 "health check: byte 0x%02x in the path, must be printable "
					 "ASCII without blanks",
					 (unsigned char)*byte);
	return 0;
}

static int group_validate(const struct lb_group *group, struct error *err)
{
	if (!id_is_valid(group->id))
		return error_set(err, EINVAL, "\"%.64s\" is not a target group id", group->id);
	if (check_validate(&group->check, err) < 0)
		return error_wrap(err, "target group %s", group->id);
	return 0;
}

static bool checks_equal(const struct lb_check *left, const struct lb_check *right)
{
	return left->protocol == right->protocol && left->port == right->port &&
	       left->interval_ms == right->interval_ms && left->timeout_ms == right->timeout_ms &&
	       left->healthy_threshold == right->healthy_threshold &&
	       left->unhealthy_threshold == right->unhealthy_threshold &&
	       strcmp(left->path, right->path) == 0 &&
	       memcmp(left->matcher, right->matcher, sizeof(left->matcher)) == 0;
}

static void group_update(struct lb_group_entry *entry, const struct lb_group *group)
{
	if (!checks_equal(&entry->group.check, &group->check)) {
		entry->group.check = group->check;
		members_use(entry);
	}
	entry->group.drain_seconds = group->drain_seconds;
}

int lb_group_ensure(struct lb *lb, const struct lb_group *group, struct error *err)
{
	struct lb_group_entry *entry = lb_group_find(lb, group->id);
	struct lb_vpc *vpc;

	if (group_validate(group, err) < 0)
		return -err->code;
	if (lb_vpc_get(lb, group->vpc_id, &vpc, err) < 0)
		return error_wrap(err, "target group %s", group->id);
	if (entry && entry->vpc == vpc) {
		group_update(entry, group);
		return 0;
	}
	lb_group_remove(lb, group->id);
	entry = lb_allocate(1, sizeof(*entry));
	*entry = (struct lb_group_entry){
		.next = vpc->groups, .vpc = vpc, .group = *group, .changed = true};
	vpc->groups = entry;
	vpc_use(vpc); // listeners may have waited for it
	return 0;
}

void lb_group_free(struct lb_group_entry *group)
{
	for (size_t i = 0; i < group->count; i++)
		free(group->members[i]);
	free(group->members);
	free(group);
}

static void note_removed(struct lb_vpc *vpc, const char *group_id)
{
	vpc->removed = reallocarray(vpc->removed, vpc->removed_count + 1, sizeof(*vpc->removed));
	if (!vpc->removed)
		abort();
	memcpy(vpc->removed[vpc->removed_count++].text, group_id, LB_ID_SIZE);
}

void lb_group_remove(struct lb *lb, const char *group_id)
{
	struct lb_group_entry *group = lb_group_find(lb, group_id);
	struct lb_group_entry **place;
	struct lb_vpc *vpc;

	if (!group)
		return;
	vpc = group->vpc;
	while (group->count > 0)
		lb_member_remove(group->members[group->count - 1]);
	for (place = &vpc->groups; *place != group; place = &(*place)->next)
		continue;
	*place = group->next;
	note_removed(vpc, group->group.id);
	lb_group_free(group);
	vpc_use(vpc);
}
