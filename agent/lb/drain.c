// SPDX-License-Identifier: Apache-2.0
// Draining: a deregistered target gets no new connections; it is gone when the ones it
// has are gone, or when its delay is over. One count per VPC serves all that drain. The
// first comes right after the target was withdrawn, later ones at growing distance.
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "agent/base/clock.h"
#include "agent/base/scope.h"
#include "agent/lb/internal.h"

enum {
	// A packet that met the old rules is in the conntrack table long before this.
	FIRST_COUNT_US = 20000,
	LONGEST_WAIT_US = 1000000,
};

// `left_ms` may be negative: the drain began under a previous agent, and is over.
void lb_drain_begin(struct lb_member *member, int64_t left_ms)
{
	struct lb_vpc *vpc = member->group->vpc;
	int64_t deadline_us = clock_monotonic_us() + left_ms * 1000;

	if (member->health.state == LB_STATE_DRAINING) {
		if (deadline_us < member->drain_deadline_us) // may be shortened, never prolonged
			member->drain_deadline_us = deadline_us;
		return;
	}
	member->withdrawn = member->counting = false;
	member->drain_deadline_us = deadline_us;
	vpc->draining_count++;
	lb_member_event(member, LB_HEALTH_DRAIN, LB_REASON_NONE);
}

// Calls `visit` for every draining member; backwards, for a visit may remove it.
static void each_draining(struct lb_vpc *vpc, void (*visit)(struct lb_member *, void *),
			  void *context)
{
	for (struct lb_group_entry *group = vpc->groups; group; group = group->next)
		for (size_t i = group->count; i-- > 0;)
			if (group->members[i]->health.state == LB_STATE_DRAINING)
				visit(group->members[i], context);
}

static void withdraw(struct lb_member *member, void *context)
{
	bool *any_new = context;

	*any_new |= !member->withdrawn;
	member->withdrawn = true;
}

void lb_drain_withdrawn(struct lb_vpc *vpc)
{
	bool any_new = false;

	if (vpc->draining_count == 0)
		return;
	each_draining(vpc, withdraw, &any_new);
	if (!any_new)
		return;
	vpc->count_wait_us = FIRST_COUNT_US;
	vpc->count_us = clock_monotonic_us() + FIRST_COUNT_US;
}

// ---- Counting

static void count_add(struct lb_member *member, void *context)
{
	struct lb_vpc *vpc = context;

	member->counting = member->withdrawn;
	if (member->counting)
		vpc->counts[vpc->count_count++] = (struct netif_connections){
			.address = member->target.address, .port = member->target.port};
}

// A target may drain from two groups: its connections are counted once, for both.
static size_t unique_counts(struct netif_connections *counts, size_t count)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++)
		if (kept == 0 || netif_connections_compare(&counts[kept - 1], &counts[i]) != 0)
			counts[kept++] = counts[i];
	return kept;
}

static void count_end(struct lb_vpc *vpc)
{
	lb_watch_remove(&vpc->count_watch, vpc->count_fd);
	close_fd(&vpc->count_fd);
	free(vpc->counts);
	vpc->counts = NULL;
	vpc->count_count = 0;
}

static void count_again(struct lb_vpc *vpc)
{
	count_end(vpc);
	vpc->count_us = clock_monotonic_us() + vpc->count_wait_us;
	vpc->count_wait_us *= 2;
	if (vpc->count_wait_us > LONGEST_WAIT_US)
		vpc->count_wait_us = LONGEST_WAIT_US;
}

static void count_start(struct lb_vpc *vpc)
{
	struct error err = {0};

	vpc->counts = lb_allocate(vpc->draining_count, sizeof(*vpc->counts));
	each_draining(vpc, count_add, vpc);
	qsort(vpc->counts, vpc->count_count, sizeof(*vpc->counts), netif_connections_compare);
	vpc->count_count = unique_counts(vpc->counts, vpc->count_count);
	vpc->count_us = INT64_MAX;
	if (vpc->lb->provider->count_start(vpc->provider, &vpc->count_fd, &err) < 0 ||
	    lb_watch_add(&vpc->count_watch, vpc->count_fd, EPOLLIN, &err) < 0) {
		lb_event_error(vpc, &err);
		count_again(vpc);
	}
}

static void member_gone(struct lb_member *member)
{
	lb_event_member(member->group->vpc->lb, LB_EVENT_TARGET_GONE, member);
	lb_member_remove(member);
}

static void count_take(struct lb_member *member, void *context)
{
	struct lb_vpc *vpc = context;
	const struct netif_connections wanted = {.address = member->target.address,
						 .port = member->target.port};
	const struct netif_connections *found;

	if (!member->counting)
		return;
	found = bsearch(&wanted, vpc->counts, vpc->count_count, sizeof(*vpc->counts),
			netif_connections_compare);
	if (!found)
		return;
	member->open_connections = found->count;
	if (found->count == 0)
		member_gone(member);
}

void lb_drain_count_ready(struct lb_vpc *vpc)
{
	struct error err = {0};
	bool done = false;

	if (vpc->count_fd < 0)
		return;
	if (vpc->lb->provider->count_step(vpc->count_fd, vpc->counts, vpc->count_count, &done,
					  &err) < 0) {
		lb_event_error(vpc, &err);
		count_again(vpc);
	} else if (done) {
		each_draining(vpc, count_take, vpc);
		count_again(vpc);
	}
}

// ---- Time

static void expire(struct lb_member *member, void *context)
{
	const int64_t *now_us = context;

	if (member->drain_deadline_us <= *now_us)
		member_gone(member);
}

void lb_drain_run(struct lb_vpc *vpc, int64_t now_us)
{
	each_draining(vpc, expire, &now_us);
	if (vpc->draining_count == 0) {
		lb_drain_stop(vpc);
		return;
	}
	if (vpc->count_fd < 0 && vpc->count_us <= now_us)
		count_start(vpc);
}

static void earliest(struct lb_member *member, void *context)
{
	int64_t *deadline_us = context;

	if (member->drain_deadline_us < *deadline_us)
		*deadline_us = member->drain_deadline_us;
}

int64_t lb_drain_deadline_us(const struct lb_vpc *vpc)
{
	int64_t deadline_us = vpc->count_us;

	if (vpc->draining_count == 0)
		return INT64_MAX;
	each_draining((struct lb_vpc *)(uintptr_t)vpc, earliest, &deadline_us);
	return deadline_us;
}

void lb_drain_stop(struct lb_vpc *vpc)
{
	count_end(vpc);
	vpc->count_us = INT64_MAX;
}
