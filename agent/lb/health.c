// SPDX-License-Identifier: Apache-2.0
#include "agent/lb/health.h"

#include <stddef.h>

static const char *const state_names[LB_STATE_COUNT] = {
	[LB_STATE_INITIAL] = "initial",     [LB_STATE_HEALTHY] = "healthy",
	[LB_STATE_UNHEALTHY] = "unhealthy", [LB_STATE_DRAINING] = "draining",
	[LB_STATE_UNUSED] = "unused",
};

static const char *const reason_names[LB_REASON_COUNT] = {
	[LB_REASON_NONE] = "",
	[LB_REASON_REGISTRATION_IN_PROGRESS] = "Elb.RegistrationInProgress",
	[LB_REASON_INITIAL_HEALTH_CHECKING] = "Elb.InitialHealthChecking",
	[LB_REASON_INTERNAL_ERROR] = "Elb.InternalError",
	[LB_REASON_RESPONSE_CODE_MISMATCH] = "Target.ResponseCodeMismatch",
	[LB_REASON_TIMEOUT] = "Target.Timeout",
	[LB_REASON_FAILED_HEALTH_CHECKS] = "Target.FailedHealthChecks",
	[LB_REASON_DEREGISTRATION_IN_PROGRESS] = "Target.DeregistrationInProgress",
	[LB_REASON_NOT_IN_USE] = "Target.NotInUse",
};

const char *lb_state_name(enum lb_state state)
{
	return state_names[state];
}

const char *lb_reason_name(enum lb_reason reason)
{
	return reason_names[reason];
}

enum action {
	KEEP,
	SHOW_CHECKING, // initial: the reason says that checks are running
	SHOW_REASON,   // unhealthy: the newest reason
	PASSED,        // counts start anew
	COUNT_PASS,    // healthy from the threshold on
	COUNT_FAIL,    // unhealthy from the threshold on
	TO_INITIAL,    //
	TO_HEALTHY,    //
	TO_UNUSED,     //
	TO_DRAINING,
};

// clang-format off
static const enum action actions[LB_STATE_COUNT][LB_HEALTH_EVENT_COUNT] = {
	[LB_STATE_INITIAL] = {
		[LB_HEALTH_CHECKING] = SHOW_CHECKING,
		[LB_HEALTH_PASS] = TO_HEALTHY, // a new target needs one pass only
		[LB_HEALTH_FAIL] = COUNT_FAIL,
		[LB_HEALTH_ADOPT] = TO_HEALTHY,
		[LB_HEALTH_DISUSE] = TO_UNUSED,
		[LB_HEALTH_DRAIN] = TO_DRAINING,
	},
	[LB_STATE_HEALTHY] = {
		[LB_HEALTH_PASS] = PASSED,
		[LB_HEALTH_FAIL] = COUNT_FAIL,
		[LB_HEALTH_DISUSE] = TO_UNUSED,
		[LB_HEALTH_DRAIN] = TO_DRAINING,
	},
	[LB_STATE_UNHEALTHY] = {
		[LB_HEALTH_PASS] = COUNT_PASS,
		[LB_HEALTH_FAIL] = SHOW_REASON,
		[LB_HEALTH_DISUSE] = TO_UNUSED,
		[LB_HEALTH_DRAIN] = TO_DRAINING,
	},
	[LB_STATE_DRAINING] = {KEEP}, // ends by being gone, or registered anew
	[LB_STATE_UNUSED] = {
		[LB_HEALTH_USE] = TO_INITIAL,
		[LB_HEALTH_DRAIN] = TO_DRAINING,
	},
};
// clang-format on

struct lb_health lb_health_new(void)
{
	return (struct lb_health){.state = LB_STATE_INITIAL,
				  .reason = LB_REASON_REGISTRATION_IN_PROGRESS};
}

static void enter(struct lb_health *health, enum lb_state state, enum lb_reason reason)
{
	*health = (struct lb_health){.state = state, .reason = reason};
}

static void count_pass(struct lb_health *health, const struct lb_thresholds *thresholds)
{
	health->failures = 0;
	if (++health->passes >= thresholds->healthy)
		enter(health, LB_STATE_HEALTHY, LB_REASON_NONE);
}

static void count_fail(struct lb_health *health, const struct lb_thresholds *thresholds,
		       enum lb_reason reason)
{
	health->passes = 0;
	if (++health->failures >= thresholds->unhealthy)
		enter(health, LB_STATE_UNHEALTHY, reason);
}

bool lb_health_handle(struct lb_health *health, const struct lb_thresholds *thresholds,
		      enum lb_health_event event, enum lb_reason reason)
{
	struct lb_health before = *health;

	switch (actions[health->state][event]) {
	case KEEP:
		break;
	case SHOW_CHECKING:
		health->reason = LB_REASON_INITIAL_HEALTH_CHECKING;
		break;
	case SHOW_REASON:
		enter(health, LB_STATE_UNHEALTHY, reason);
		break;
	case PASSED:
		health->failures = 0;
		break;
	case COUNT_PASS:
		count_pass(health, thresholds);
		break;
	case COUNT_FAIL:
		count_fail(health, thresholds, reason);
		break;
	case TO_INITIAL:
		*health = lb_health_new();
		break;
	case TO_HEALTHY:
		enter(health, LB_STATE_HEALTHY, LB_REASON_NONE);
		break;
	case TO_UNUSED:
		enter(health, LB_STATE_UNUSED, LB_REASON_NOT_IN_USE);
		break;
	case TO_DRAINING:
		enter(health, LB_STATE_DRAINING, LB_REASON_DEREGISTRATION_IN_PROGRESS);
		break;
	}
	return before.state != health->state || before.reason != health->reason;
}

static unsigned select_those(const struct lb_health *const *targets, unsigned count,
			     enum lb_state state, bool *ret_in_service)
{
	unsigned selected = 0;

	for (unsigned i = 0; i < count; i++) {
		ret_in_service[i] = targets[i]->state == state;
		selected += ret_in_service[i];
	}
	return selected;
}

unsigned lb_health_select(const struct lb_health *const *targets, unsigned count,
			  bool *ret_in_service)
{
	unsigned selected = select_those(targets, count, LB_STATE_HEALTHY, ret_in_service);

	return selected ? selected
			: select_those(targets, count, LB_STATE_UNHEALTHY, ret_in_service);
}
