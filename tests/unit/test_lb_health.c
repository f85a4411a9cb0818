// SPDX-License-Identifier: Apache-2.0
// The health state machine, as tables of events and the states they lead to.
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <string.h>

#include "agent/base/scope.h"
#include "agent/lb/health.h"
#include "agent/lb/lb.h"

static const struct lb_thresholds thresholds = {.healthy = 3, .unhealthy = 2};

// One letter per event.
static enum lb_health_event event_of(char letter)
{
	switch (letter) {
	case 'c':
		return LB_HEALTH_CHECKING;
	case 'p':
		return LB_HEALTH_PASS;
	case 'f':
		return LB_HEALTH_FAIL;
	case 'a':
		return LB_HEALTH_ADOPT;
	case 'u':
		return LB_HEALTH_USE;
	case 'd':
		return LB_HEALTH_DISUSE;
	default:
		return LB_HEALTH_DRAIN; // 'D'
	}
}

static const struct {
	const char *events;
	const char *state, *reason;
} sequences[] = {
	{"", "initial", "Elb.RegistrationInProgress"},
	{"u", "initial", "Elb.RegistrationInProgress"},
	{"uc", "initial", "Elb.InitialHealthChecking"},
	// A new target needs one pass only.
	{"ucp", "healthy", ""},
	{"ucfp", "healthy", ""},
	{"ucf", "initial", "Elb.InitialHealthChecking"},
	{"ucff", "unhealthy", "Target.Timeout"},
	// The threshold is for recovery, in a row.
	{"ucffp", "unhealthy", "Target.Timeout"},
	{"ucffpp", "unhealthy", "Target.Timeout"},
	{"ucffppp", "healthy", ""},
	{"ucffppfppp", "healthy", ""},
	{"ucffppfpp", "unhealthy", "Target.Timeout"},
	// Failures in a row.
	{"ucpf", "healthy", ""},
	{"ucpfpf", "healthy", ""},
	{"ucpff", "unhealthy", "Target.Timeout"},
	{"ucpfpfpff", "unhealthy", "Target.Timeout"},
	{"ucpffpppf", "healthy", ""},
	// A restart of the agent or of the probe changes nothing.
	{"ua", "healthy", ""},
	{"ucpc", "healthy", ""},
	{"ucffc", "unhealthy", "Target.Timeout"},
	{"ucffa", "unhealthy", "Target.Timeout"},
	{"uaff", "unhealthy", "Target.Timeout"},
	// Use.
	{"d", "unused", "Target.NotInUse"},
	{"dpp", "unused", "Target.NotInUse"},
	{"dff", "unused", "Target.NotInUse"},
	{"du", "initial", "Elb.RegistrationInProgress"},
	{"ducp", "healthy", ""},
	{"ucpd", "unused", "Target.NotInUse"},
	{"ucpdu", "initial", "Elb.RegistrationInProgress"},
	{"ucffd", "unused", "Target.NotInUse"},
	{"ucpu", "healthy", ""},
	{"ucffu", "unhealthy", "Target.Timeout"},
	// Draining is left by nothing.
	{"D", "draining", "Target.DeregistrationInProgress"},
	{"ucpD", "draining", "Target.DeregistrationInProgress"},
	{"ucffD", "draining", "Target.DeregistrationInProgress"},
	{"dD", "draining", "Target.DeregistrationInProgress"},
	{"ucpDcpffaudD", "draining", "Target.DeregistrationInProgress"},
};

static void test_sequences(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(sequences); i++) {
		struct lb_health health = lb_health_new();

		for (const char *letter = sequences[i].events; *letter; letter++)
			lb_health_handle(&health, &thresholds, event_of(*letter),
					 LB_REASON_TIMEOUT);
		if (strcmp(lb_state_name(health.state), sequences[i].state) != 0 ||
		    strcmp(lb_reason_name(health.reason), sequences[i].reason) != 0)
			fail_msg("%s: %s %s, expected %s %s", sequences[i].events,
				 lb_state_name(health.state), lb_reason_name(health.reason),
				 sequences[i].state, sequences[i].reason);
	}
}

static void test_changes_are_told(void **state)
{
	struct lb_health health = lb_health_new();

	(void)state;
	assert_false(lb_health_handle(&health, &thresholds, LB_HEALTH_USE, LB_REASON_NONE));
	assert_true(lb_health_handle(&health, &thresholds, LB_HEALTH_CHECKING, LB_REASON_NONE));
	assert_true(lb_health_handle(&health, &thresholds, LB_HEALTH_PASS, LB_REASON_NONE));
	assert_false(lb_health_handle(&health, &thresholds, LB_HEALTH_PASS, LB_REASON_NONE));
	assert_false(lb_health_handle(&health, &thresholds, LB_HEALTH_FAIL, LB_REASON_TIMEOUT));
	assert_true(lb_health_handle(&health, &thresholds, LB_HEALTH_FAIL, LB_REASON_TIMEOUT));
	assert_false(lb_health_handle(&health, &thresholds, LB_HEALTH_FAIL, LB_REASON_TIMEOUT));
	// Another reason of the same state.
	assert_true(lb_health_handle(&health, &thresholds, LB_HEALTH_FAIL,
				     LB_REASON_RESPONSE_CODE_MISMATCH));
	assert_string_equal(lb_reason_name(health.reason), "Target.ResponseCodeMismatch");
}

// As the enum has them: initial, healthy, unhealthy, draining, unused (n).
static const char states_in_order[] = "ihudn";

static void test_select(void **state)
{
	static const struct {
		const char *states;
		const char *in_service;
	} cases[] = {
		{"", ""},     {"h", "1"},     {"hh", "11"},   {"hu", "10"}, {"hiudn", "10000"},
		{"uu", "11"}, {"uud", "110"}, {"uui", "110"}, {"i", "0"},   {"ii", "00"},
		{"d", "0"},   {"du", "01"},   {"n", "0"},     {"ih", "01"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct lb_health health[8];
		const struct lb_health *targets[8];
		unsigned count = (unsigned)strlen(cases[i].states), expected = 0;
		bool in_service[8];

		for (unsigned j = 0; j < count; j++) {
			health[j] = (struct lb_health){
				.state = (enum lb_state)(
					strchr(states_in_order, cases[i].states[j]) -
					states_in_order)};
			targets[j] = &health[j];
			expected += cases[i].in_service[j] == '1';
		}
		assert_int_equal(lb_health_select(targets, count, in_service), expected);
		for (unsigned j = 0; j < count; j++)
			assert_int_equal(in_service[j], cases[i].in_service[j] == '1');
	}
}

static void test_matcher(void **state)
{
	uint8_t matcher[LB_MATCHER_BYTES] = {0};

	(void)state;
	lb_matcher_add(matcher, 200, 200);
	lb_matcher_add(matcher, 302, 304);
	lb_matcher_add(matcher, 498, 900);
	lb_matcher_add(matcher, 100, 150);
	for (unsigned code = 0; code <= 600; code++)
		assert_int_equal(lb_matcher_has(matcher, code),
				 code == 200 || (code >= 302 && code <= 304) || code == 498 ||
					 code == 499);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sequences),
		cmocka_unit_test(test_changes_are_told),
		cmocka_unit_test(test_select),
		cmocka_unit_test(test_matcher),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
