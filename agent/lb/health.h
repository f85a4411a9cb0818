// SPDX-License-Identifier: Apache-2.0
// The health state machine of one target: pure, one table (health.c). States and
// reasons are ELBv2's.
//
// A new target is healthy after one pass; the healthy threshold is for recovery.
// Failures count in a row: any pass starts the count anew, and the other way round.
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum lb_state {
	LB_STATE_INITIAL,
	LB_STATE_HEALTHY,
	LB_STATE_UNHEALTHY,
	LB_STATE_DRAINING,
	LB_STATE_UNUSED,
	LB_STATE_COUNT,
};

enum lb_reason {
	LB_REASON_NONE,
	LB_REASON_REGISTRATION_IN_PROGRESS,   // Elb.RegistrationInProgress
	LB_REASON_INITIAL_HEALTH_CHECKING,    // Elb.InitialHealthChecking
	LB_REASON_INTERNAL_ERROR,             // Elb.InternalError
	LB_REASON_RESPONSE_CODE_MISMATCH,     // Target.ResponseCodeMismatch
	LB_REASON_TIMEOUT,                    // Target.Timeout
	LB_REASON_FAILED_HEALTH_CHECKS,       // Target.FailedHealthChecks
	LB_REASON_DEREGISTRATION_IN_PROGRESS, // Target.DeregistrationInProgress
	LB_REASON_NOT_IN_USE,                 // Target.NotInUse
	LB_REASON_COUNT,
};

const char *lb_state_name(enum lb_state state);    // "healthy"
const char *lb_reason_name(enum lb_reason reason); // "Target.Timeout", "" for NONE

enum lb_health_event {
	LB_HEALTH_CHECKING, // the first check is on its way
	LB_HEALTH_PASS,
	LB_HEALTH_FAIL,
	LB_HEALTH_ADOPT,  // the kernel serves it already (restart of the agent)
	LB_HEALTH_USE,    // its group is used by a listener
	LB_HEALTH_DISUSE, // no listener uses its group
	LB_HEALTH_DRAIN,  // deregistered
	LB_HEALTH_EVENT_COUNT,
};

struct lb_thresholds {
	unsigned healthy, unhealthy;
};

struct lb_health {
	enum lb_state state;
	enum lb_reason reason;
	unsigned passes, failures; // in a row
};

// A target that was just registered, before it is known whether its group is in use.
struct lb_health lb_health_new(void);

// `reason` is the failure's (FAIL only). True when state or reason changed.
bool lb_health_handle(struct lb_health *health, const struct lb_thresholds *thresholds,
		      enum lb_health_event event, enum lb_reason reason);

// Which targets get new connections: the healthy and the unchecked ones; if there are
// none, all unhealthy ones (fail open). Never those that are initial, draining or unused.
// Sets in_service[i]; returns how many.
unsigned lb_health_select(const struct lb_health *const *targets, unsigned count,
			  bool *ret_in_service);
