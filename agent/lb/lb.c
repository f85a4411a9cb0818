// SPDX-License-Identifier: Apache-2.0
#include "agent/lb/lb.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "agent/base/clock.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/lb/internal.h"

enum { READY_PER_DISPATCH = 32 };

void *lb_allocate(size_t count, size_t size)
{
	void *memory = calloc(count ? count : 1, size);

	if (!memory)
		abort();
	return memory;
}

// ---- Opening and closing

static void lb_release(struct lb **lb)
{
	lb_close(*lb);
}

int lb_open(const struct lb_options *options, struct lb **ret_lb, struct error *err)
{
	scoped(lb_release) struct lb *lb = lb_allocate(1, sizeof(*lb));

	*lb = (struct lb){.netif = options->netif,
			  .probe_uid = options->probe_uid,
			  .probe_gid = options->probe_gid,
			  .keep_identity = options->keep_identity,
			  .provider = &lb_provider_nft,
			  .epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
	lb->install = strdup(options->install);
	lb->probe_path = strdup(options->probe_path);
	if (lb->epoll_fd < 0 || !lb->install || !lb->probe_path)
		return error_errno(err, "load balancing: create epoll instance");
	*ret_lb = take_ptr(&lb);
	return 0;
}

static void vpc_free(struct lb_vpc *vpc)
{
	struct lb_group_entry *group;

	lb_prober_stop(vpc);
	lb_drain_stop(vpc);
	while ((group = vpc->groups)) {
		vpc->groups = group->next;
		lb_group_free(group);
	}
	lb_balancers_free(vpc);
	if (vpc->provider)
		vpc->lb->provider->close(vpc->provider);
	free(vpc->removed);
	free(vpc->slots);
	free(vpc);
}

static void vpc_release(struct lb_vpc **vpc)
{
	if (*vpc)
		vpc_free(*vpc);
}

void lb_close(struct lb *lb)
{
	struct lb_vpc *vpc;

	if (!lb)
		return;
	while ((vpc = lb->vpcs)) {
		lb->vpcs = vpc->next;
		vpc_free(vpc);
	}
	close_fd(&lb->epoll_fd);
	free(lb->install);
	free(lb->probe_path);
	free(lb->events);
	free(lb);
}

// ---- VPCs

struct lb_vpc *lb_vpc_find(const struct lb *lb, const char *vpc_id)
{
	struct lb_vpc *vpc = lb->vpcs;

	while (vpc && strcmp(vpc->id, vpc_id) != 0)
		vpc = vpc->next;
	return vpc;
}

int lb_vpc_get(const struct lb *lb, const char *vpc_id, struct lb_vpc **ret_vpc, struct error *err)
{
	struct lb_vpc *vpc = lb_vpc_find(lb, vpc_id);

	if (!vpc)
		return error_set(err, ENOENT, "vpc %s: not known to load balancing", vpc_id);
	*ret_vpc = vpc;
	return 0;
}

int lb_vpc_ensure(struct lb *lb, const char *vpc_id, struct error *err)
{
	scoped(vpc_release) struct lb_vpc *vpc = NULL;

	if (lb_vpc_find(lb, vpc_id))
		return 0;
	if (!id_is_valid(vpc_id))
		return error_set(err, EINVAL, "\"%.64s\" is not a VPC id", vpc_id);
	vpc = lb_allocate(1, sizeof(*vpc));
	*vpc = (struct lb_vpc){.lb = lb,
			       .probe = PROCESS_NONE,
			       .probe_fd = -1,
			       .count_fd = -1,
			       .count_us = INT64_MAX,
			       .free_slots = LB_NO_CHECK,
			       .changed_slots = LB_NO_CHECK,
			       .probe_socket_watch = {LB_WATCH_PROBE_SOCKET, vpc},
			       .probe_process_watch = {LB_WATCH_PROBE_PROCESS, vpc},
			       .count_watch = {LB_WATCH_COUNT, vpc}};
	snprintf(vpc->id, sizeof(vpc->id), "%s", vpc_id);
	if (lb->provider->open(lb->netif, vpc_id, &vpc->provider, err) < 0)
		return error_wrap(err, "vpc %s: load balancing", vpc_id);
	vpc->next = lb->vpcs;
	lb->vpcs = take_ptr(&vpc);
	return 0;
}

void lb_vpc_resync(struct lb *lb, const char *vpc_id)
{
	struct lb_vpc *vpc = lb_vpc_find(lb, vpc_id);

	if (vpc && vpc->synced) {
		vpc->synced = false;
		vpc->services_changed = true;
	}
}

void lb_vpc_remove(struct lb *lb, const char *vpc_id)
{
	struct lb_vpc *vpc = lb_vpc_find(lb, vpc_id);
	struct lb_vpc **place = &lb->vpcs;

	if (!vpc)
		return;
	while (*place != vpc)
		place = &(*place)->next;
	*place = vpc->next;
	vpc_free(vpc);
}

// ---- Events

static struct lb_event *event_add(struct lb *lb, enum lb_event_kind kind, const char *vpc_id)
{
	struct lb_event *event;

	if (lb->event_count == lb->event_capacity) {
		lb->event_capacity = lb->event_capacity ? lb->event_capacity * 2 : 16;
		lb->events = reallocarray(lb->events, lb->event_capacity, sizeof(*lb->events));
		if (!lb->events)
			abort();
	}
	event = &lb->events[lb->event_count++];
	*event = (struct lb_event){.kind = kind};
	snprintf(event->vpc_id, sizeof(event->vpc_id), "%s", vpc_id);
	return event;
}

void lb_event_member(struct lb *lb, enum lb_event_kind kind, const struct lb_member *member)
{
	struct lb_event *event = event_add(lb, kind, member->group->vpc->id);

	snprintf(event->group_id, sizeof(event->group_id), "%s", member->group->group.id);
	event->target = member->target;
	event->state = member->health.state;
	event->reason = member->health.reason;
	event->open_connections = member->open_connections;
}

void lb_event_error(struct lb_vpc *vpc, const struct error *err)
{
	struct lb_event *event = event_add(vpc->lb, LB_EVENT_ERROR, vpc->id);

	snprintf(event->message, sizeof(event->message), "%.*s", (int)sizeof(event->message) - 1,
		 err->message);
}

static size_t events_take(struct lb *lb, struct lb_event *ret_events, size_t max)
{
	size_t count = lb->event_count < max ? lb->event_count : max;

	if (count > 0)
		memcpy(ret_events, lb->events, count * sizeof(*ret_events));
	lb->event_count -= count;
	if (lb->event_count > 0)
		memmove(lb->events, lb->events + count, lb->event_count * sizeof(*lb->events));
	return count;
}

// ---- The loop

int lb_watch_add(struct lb_watch *watch, int fd, uint32_t events, struct error *err)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};

	if (epoll_ctl(watch->vpc->lb->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return error_errno(err, "watch descriptor");
	return 0;
}

void lb_watch_change(struct lb_watch *watch, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};

	epoll_ctl(watch->vpc->lb->epoll_fd, EPOLL_CTL_MOD, fd, &event);
}

// Closing alone is not enough: while a child that was just forked holds a copy, the open file lives
// on in the epoll instance.
void lb_watch_remove(struct lb_watch *watch, int fd)
{
	epoll_ctl(watch->vpc->lb->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

int lb_poll_fd(const struct lb *lb)
{
	return lb->epoll_fd;
}

static int64_t earlier(int64_t left, int64_t right)
{
	return left < right ? left : right;
}

static int64_t vpc_deadline_us(const struct lb_vpc *vpc)
{
	int64_t deadline_us = lb_drain_deadline_us(vpc);

	if (lb_vpc_is_changed(vpc))
		deadline_us = earlier(deadline_us, vpc->retry_us);
	if (vpc->changed_slots != LB_NO_CHECK && vpc->probe_fd < 0)
		deadline_us = earlier(deadline_us, vpc->probe_start_us);
	return deadline_us;
}

int64_t lb_next_deadline_us(const struct lb *lb)
{
	int64_t deadline_us = lb->event_count > 0 ? 0 : INT64_MAX;

	for (const struct lb_vpc *vpc = lb->vpcs; vpc; vpc = vpc->next)
		deadline_us = earlier(deadline_us, vpc_deadline_us(vpc));
	return deadline_us;
}

static void handle_ready(const struct lb_watch *watch, uint32_t events)
{
	struct lb_vpc *vpc = watch->vpc;
	bool eof = false;

	switch (watch->kind) {
	case LB_WATCH_PROBE_SOCKET:
		if (events & EPOLLOUT)
			vpc->probe_blocked = false;
		lb_results_read(vpc, &eof);
		if (eof)
			lb_prober_ended(vpc);
		break;
	case LB_WATCH_PROBE_PROCESS:
		lb_prober_ended(vpc);
		break;
	case LB_WATCH_COUNT:
		lb_drain_count_ready(vpc);
		break;
	}
}

void lb_flush(struct lb *lb)
{
	int64_t now_us = clock_monotonic_us();

	for (struct lb_vpc *vpc = lb->vpcs; vpc; vpc = vpc->next) {
		lb_checks_sync(vpc);
		if (lb_vpc_is_changed(vpc) && now_us >= vpc->retry_us)
			lb_vpc_flush(vpc, now_us);
	}
}

size_t lb_dispatch(struct lb *lb, struct lb_event *ret_events, size_t max)
{
	struct epoll_event ready[READY_PER_DISPATCH];
	int count = epoll_wait(lb->epoll_fd, ready, READY_PER_DISPATCH, 0);

	for (int i = 0; i < count; i++)
		handle_ready(ready[i].data.ptr, ready[i].events);
	lb_flush(lb);
	for (struct lb_vpc *vpc = lb->vpcs; vpc; vpc = vpc->next)
		if (vpc->draining_count > 0)
			lb_drain_run(vpc, clock_monotonic_us());
	return events_take(lb, ret_events, max);
}
