// SPDX-License-Identifier: Apache-2.0
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include "agent/api/accept.h"
#include "agent/base/scope.h"

#define TEXT "text/plain;version=0.0.4"
#define OPEN "application/openmetrics-text"

static void test_accept(void **state)
{
	static const struct {
		const char *accept;
		bool openmetrics;
	} cases[] = {
		{NULL, false},
		{"", false},
		{"*/*", false},
		{"text/html", false},
		{OPEN, true},
		{"Application/OpenMetrics-Text; Version=1.0.0", true},
		{OPEN ";version=\"1.0.0\"", true},
		{OPEN ";version=0.0.1", false},
		{TEXT ", " OPEN ";q=0", false},
		{OPEN "; Q=0.0", false},
		{OPEN ";q=0.001, text/*;q=0", true},
		{TEXT ";q=1, " OPEN ";version=1.0.0;q=0.1", false},
		{TEXT ";q=0.3, " OPEN ";version=1.0.0;q=0.5", true},
		{TEXT " ;q=0.5 ,\t" OPEN " ;\tq=0.5", true},
		{OPEN ";q=0.2,*/*;q=0.9", false},
		{"application/*, text/plain;q=0.9", true},
		{"*/*;q=0.1, application/*;q=0.5", true},
		{OPEN ";q=0.1, application/*;q=1, */*;q=0.5", false}, // the closest range counts
		{OPEN ";charset=\"a,b;q=0\";q=0.5", true},
		{OPEN ";q=2", false},
		{OPEN ";q=1.001", false},
		{OPEN ";q=", false},
		{OPEN ";q=0.5x", false},
		{"application/openmetrics-text-not", false},
		{"text/plain;a=" OPEN, false},
		// As Prometheus asks.
		{OPEN ";version=1.0.0;escaping=allow-utf-8;q=0.6," OPEN ";version=0.0.1;q=0.5," TEXT
		      ";q=0.4,*/*;q=0.1",
		 true},
		{",,;;=\"\\", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++)
		if (accept_prefers_openmetrics(cases[i].accept) != cases[i].openmetrics)
			fail_msg("%s", cases[i].accept);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accept),
	};

	return cmocka_run_group_tests_name("accept", tests, NULL, NULL);
}
