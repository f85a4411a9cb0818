// SPDX-License-Identifier: Apache-2.0
// What the probe tests. Each target has a number at the probe; what changes is marked
// and sent when the socket takes it. A number is free again only after the probe was
// told to remove it; results carry a generation, so late ones of an earlier use are known.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "agent/base/clock.h"
#include "agent/base/message.h"
#include "agent/lb/internal.h"

enum { RESULTS_PER_TURN = 64, ERRNO_MAX = 4095 };

_Static_assert((int)PROBE_PATH_SIZE == (int)LB_CHECK_PATH_SIZE, "paths fit");
_Static_assert((int)PROBE_MATCHER_BYTES == (int)LB_MATCHER_BYTES, "matchers fit");

// ---- Numbers

static void slot_free(struct lb_vpc *vpc, uint32_t number)
{
	vpc->slots[number].next = vpc->free_slots;
	vpc->free_slots = number;
}

static int slots_grow(struct lb_vpc *vpc, struct error *err)
{
	uint32_t count = vpc->slot_count, more = count ? count * 2 : 16;

	if (more > PROBE_CHECKS_MAX)
		return error_set(err, ENOSPC, "vpc %s: more than %d targets", vpc->id,
				 PROBE_CHECKS_MAX);
	vpc->slots = reallocarray(vpc->slots, more, sizeof(*vpc->slots));
	if (!vpc->slots)
		abort();
	memset(&vpc->slots[count], 0, (more - count) * sizeof(*vpc->slots));
	vpc->slot_count = more;
	while (more-- > count)
		slot_free(vpc, more);
	return 0;
}

int lb_check_take(struct lb_member *member, struct error *err)
{
	struct lb_vpc *vpc = member->group->vpc;

	if (vpc->free_slots == LB_NO_CHECK && slots_grow(vpc, err) < 0)
		return -err->code;
	member->check = vpc->free_slots;
	vpc->free_slots = vpc->slots[member->check].next;
	vpc->slots[member->check].member = member;
	return 0;
}

static void slot_changed(struct lb_vpc *vpc, struct lb_check_slot *slot)
{
	if (slot->changed)
		return;
	slot->changed = true;
	slot->next = vpc->changed_slots;
	vpc->changed_slots = (uint32_t)(slot - vpc->slots);
}

// The first of those that are to be sent was, or need not be.
static void slot_settled(struct lb_vpc *vpc)
{
	uint32_t number = vpc->changed_slots;
	struct lb_check_slot *slot = &vpc->slots[number];

	vpc->changed_slots = slot->next;
	slot->changed = false;
	if (!slot->member)
		slot_free(vpc, number);
}

void lb_check_release(struct lb_member *member)
{
	struct lb_vpc *vpc = member->group->vpc;
	struct lb_check_slot *slot = &vpc->slots[member->check];

	slot->member = NULL;
	slot_changed(vpc, slot);
	member->check = LB_NO_CHECK;
}

void lb_check_changed(struct lb_member *member)
{
	struct lb_vpc *vpc = member->group->vpc;

	slot_changed(vpc, &vpc->slots[member->check]);
}

void lb_checks_restart(struct lb_vpc *vpc)
{
	for (uint32_t i = 0; i < vpc->slot_count; i++) {
		struct lb_check_slot *slot = &vpc->slots[i];

		slot->set = false;
		if (slot->member)
			slot_changed(vpc, slot);
	}
}

// ---- Sending

static bool is_wanted(const struct lb_member *member)
{
	return member && member->group->used && member->health.state != LB_STATE_DRAINING;
}

static void command_fill(const struct lb_member *member, struct probe_command *command)
{
	const struct lb_check *check = &member->group->group.check;

	command->kind = PROBE_SET;
	command->protocol = check->protocol == LB_PROTOCOL_HTTP ? PROBE_HTTP : PROBE_TCP;
	command->address = member->target.address;
	command->port = check->port ? check->port : member->target.port;
	command->source = member->group->source;
	command->interval_ms = check->interval_ms;
	command->timeout_ms = check->timeout_ms;
	command->eager = member->health.state == LB_STATE_INITIAL;
	memcpy(command->matcher, check->matcher, sizeof(command->matcher));
	snprintf(command->path, sizeof(command->path), "%s", check->path);
}

static int slot_send(struct lb_vpc *vpc, struct lb_check_slot *slot, struct error *err)
{
	struct probe_command command = {.kind = PROBE_REMOVE,
					.number = (uint32_t)(slot - vpc->slots),
					.generation = slot->generation + 1};

	if (is_wanted(slot->member))
		command_fill(slot->member, &command);
	else if (!slot->set)
		return 0;
	if (message_send(vpc->probe_fd, &command, sizeof(command), NULL, 0, err) < 0)
		return -err->code;
	slot->generation++;
	slot->set = command.kind == PROBE_SET;
	if (slot->set)
		lb_member_event(slot->member, LB_HEALTH_CHECKING, LB_REASON_NONE);
	return 0;
}

// Sends until everything is said or the socket is full.
static void slots_send(struct lb_vpc *vpc)
{
	while (vpc->changed_slots != LB_NO_CHECK) {
		struct error err;

		if (slot_send(vpc, &vpc->slots[vpc->changed_slots], &err) < 0) {
			// Anything but a full socket: its end is seen by the poll.
			vpc->probe_blocked = true;
			lb_watch_change(&vpc->probe_socket_watch, vpc->probe_fd,
					EPOLLIN | EPOLLOUT);
			return;
		}
		slot_settled(vpc);
	}
	lb_watch_change(&vpc->probe_socket_watch, vpc->probe_fd, EPOLLIN);
}

// Without a probe, what is wanted is still to be sent.
static bool any_wanted(const struct lb_vpc *vpc)
{
	uint32_t number = vpc->changed_slots;

	while (number != LB_NO_CHECK && !is_wanted(vpc->slots[number].member))
		number = vpc->slots[number].next;
	return number != LB_NO_CHECK;
}

void lb_checks_sync(struct lb_vpc *vpc)
{
	struct error err = {0};

	if (vpc->changed_slots == LB_NO_CHECK || vpc->probe_blocked)
		return;
	if (vpc->probe_fd < 0 && !any_wanted(vpc)) {
		while (vpc->changed_slots != LB_NO_CHECK)
			slot_settled(vpc);
		return;
	}
	if (vpc->probe_fd < 0) {
		if (clock_monotonic_us() < vpc->probe_start_us)
			return;
		if (lb_prober_start(vpc, &err) < 0) {
			lb_event_error(vpc, &err);
			return;
		}
	}
	slots_send(vpc);
}

// ---- Results

static const struct {
	enum lb_health_event event;
	enum lb_reason reason;
} outcomes[PROBE_OUTCOME_COUNT] = {
	[PROBE_PASS] = {LB_HEALTH_PASS, LB_REASON_NONE},
	[PROBE_TIMED_OUT] = {LB_HEALTH_FAIL, LB_REASON_TIMEOUT},
	[PROBE_FAILED] = {LB_HEALTH_FAIL, LB_REASON_FAILED_HEALTH_CHECKS},
	[PROBE_MISMATCH] = {LB_HEALTH_FAIL, LB_REASON_RESPONSE_CODE_MISMATCH},
	[PROBE_INTERNAL] = {LB_HEALTH_FAIL, LB_REASON_INTERNAL_ERROR},
};

// The probe is not trusted: numbers are checked, nothing else of it is used.
static void result_handle(struct lb_vpc *vpc, const struct probe_result *result)
{
	const struct lb_check_slot *slot;

	if (result->number >= vpc->slot_count || result->outcome >= PROBE_OUTCOME_COUNT)
		return;
	slot = &vpc->slots[result->number];
	if (!slot->member || !slot->set || slot->generation != result->generation)
		return;
	slot->member->http_status = result->http_status <= 999 ? result->http_status : 0;
	slot->member->check_latency_us = result->latency_us;
	slot->member->check_failure = result->failure <= ERRNO_MAX ? (int)result->failure : 0;
	lb_member_event(slot->member, outcomes[result->outcome].event,
			outcomes[result->outcome].reason);
}

void lb_results_read(struct lb_vpc *vpc, bool *ret_eof)
{
	*ret_eof = false;
	for (int i = 0; i < RESULTS_PER_TURN && vpc->probe_fd >= 0; i++) {
		struct probe_result result;
		struct error err;
		int r = message_receive(vpc->probe_fd, &result, sizeof(result), NULL, 0, &err);

		if (r == -EAGAIN)
			return;
		if (r <= 0) {
			*ret_eof = true;
			return;
		}
		result_handle(vpc, &result);
	}
}
