// SPDX-License-Identifier: Apache-2.0
// The pure parts of penstock-probe: the reader of HTTP status lines and the timers.
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/lb/probe.h"

static int status_of(const char *bytes, size_t length, size_t piece)
{
	struct probe_http http = {0};
	int status = 0;

	for (size_t at = 0; at < length && status == 0;) {
		size_t part = probe_http_room(&http);

		part = part < piece ? part : piece;
		part = part < length - at ? part : length - at;
		status = probe_http_take(&http, bytes + at, part);
		at += part;
	}
	return status;
}

static void test_status_line(void **state)
{
	static const struct {
		const char *bytes;
		int status;
	} cases[] = {
		{"", 0},
		{"H", 0},
		{"HTTP/1.1 200", 0},
		{"HTTP/1.1 200 ", 200},
		{"HTTP/1.1 200\r", 200},
		{"HTTP/1.0 404\n", 404},
		{"HTTP/1.1 503 Service Unavailable\r\n", 503},
		{"HTTP/1.1 599 x", 599},
		{"HTTP/1.1 600 x", -EBADMSG},
		{"HTTP/1.1 099 x", -EBADMSG},
		{"HTTP/1.1 2000", -EBADMSG},
		{"HTTP/1.1 20x ", -EBADMSG},
		{"HTTP/1.1  200 ", -EBADMSG},
		{"HTTP/2.0 200 ", -EBADMSG},
		{"HTTP/1.2 200 ", -EBADMSG},
		{"http/1.1 200 ", -EBADMSG},
		{"SSH-2.0-OpenSSH", -EBADMSG},
		{"X", -EBADMSG},
		{"HTTP/1.1 -20 ", -EBADMSG},
		{"HTTP/1.1 200X", -EBADMSG},
		{"HTTP/1.1 101 Switching Protocols\r\n", 101},
		{"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n", 200},
		{"HTTP/1.1 100 \r\n\r\nHTTP/1.1 103\r\na: b\r\n\r\nHTTP/1.1 404 ", 404},
		{"HTTP/1.1 100\n\nHTTP/1.0 204\n", 204},
		{"HTTP/1.1 100\r\n\r\nHTTP/1.1 20", 0},
		{"HTTP/1.1 103 Early Hints\r\nLink: HTTP/1.1 200 OK\r\n", 0},
		{"HTTP/1.1 100 \r\n\r\nSSH", -EBADMSG},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++)
		for (size_t piece = 1; piece <= 32; piece++)
			assert_int_equal(status_of(cases[i].bytes, strlen(cases[i].bytes), piece),
					 cases[i].status);
	assert_int_equal(status_of("HTTP/1.1\0 200 ", 14, 14), -EBADMSG);
}

static void test_interim_answers_have_an_end(void **state)
{
	char bytes[PROBE_INTERIM_MAX + 64] = "HTTP/1.1 103 \r\nLink: ";

	(void)state;
	memset(bytes + strlen(bytes), 'x', sizeof(bytes) - strlen(bytes));
	assert_int_equal(status_of(bytes, PROBE_INTERIM_MAX, SIZE_MAX), 0);
	assert_int_equal(status_of(bytes, PROBE_INTERIM_MAX + 1, SIZE_MAX), -EBADMSG);
}

static void test_timers(void **state)
{
	enum { COUNT = 500 };
	static struct probe_check checks[COUNT];
	struct probe_timers timers = {0};
	int64_t last_us = INT64_MIN;
	size_t left = 0;

	(void)state;
	srandom(1);
	for (int i = 0; i < COUNT; i++) {
		checks[i].due_us = random() % 1000;
		probe_timers_add(&timers, &checks[i]);
	}
	for (int i = 0; i < COUNT; i += 3) {
		checks[i].due_us = random() % 1000;
		probe_timers_moved(&timers, &checks[i]);
	}
	for (int i = 0; i < COUNT; i += 7)
		probe_timers_remove(&timers, &checks[i]);
	while (probe_timers_first(&timers)) {
		struct probe_check *first = probe_timers_first(&timers);

		assert_true(first->due_us >= last_us);
		last_us = first->due_us;
		probe_timers_remove(&timers, first);
		left++;
	}
	assert_int_equal(left, COUNT - (COUNT + 6) / 7);
	probe_timers_release(&timers);
}

// A new target is tried again soon; only then its failures are told, once an interval.
static void test_eagerness(void **state)
{
	struct probe_command command = {.kind = PROBE_SET,
					.protocol = PROBE_TCP,
					.port = 80,
					.interval_ms = 1000,
					.timeout_ms = 500,
					.eager = 1};
	struct probe_check *check = probe_check_new(&command, 0);
	struct probe_result failed = {.outcome = PROBE_FAILED}, passed = {.outcome = PROBE_PASS};

	(void)state;
	assert_int_equal(check->due_us, 0);
	assert_false(probe_attempt_finish(check, &failed, 0));
	assert_int_equal(check->due_us, 100000);
	assert_false(probe_attempt_finish(check, &failed, 100000));
	assert_int_equal(check->due_us, 300000);
	assert_false(probe_attempt_finish(check, &failed, 300000));
	assert_int_equal(check->due_us, 700000);
	check->started_us = 700000;
	assert_true(probe_attempt_finish(check, &failed, 700000));
	assert_int_equal(check->due_us, 1700000);
	check->started_us = 1700000;
	assert_true(probe_attempt_finish(check, &failed, 1700000));
	assert_int_equal(check->due_us, 2700000);
	probe_check_free(check);

	check = probe_check_new(&command, 0);
	assert_true(probe_attempt_finish(check, &passed, 0));
	assert_true(probe_attempt_finish(check, &failed, 1)); // eager no more
	probe_check_free(check);

	command.eager = 0; // its health is known
	check = probe_check_new(&command, 0);
	assert_true(probe_attempt_finish(check, &failed, 1));
	assert_int_equal(check->due_us, 1000000);
	probe_check_free(check);
}

static void test_commands_without_sense(void **state)
{
	struct probe_command good = {.protocol = PROBE_HTTP,
				     .port = 80,
				     .interval_ms = 1000,
				     .timeout_ms = 1000,
				     .path = "/"};
	struct probe_command bad;
	struct probe_check *check = probe_check_new(&good, 0);

	(void)state;
	assert_non_null(check);
	assert_non_null(strstr(check->request, "GET / HTTP/1.1\r\nHost: 0.0.0.0:80\r\n"));
	probe_check_free(check);
	bad = good;
	bad.port = 65536;
	assert_null(probe_check_new(&bad, 0));
	bad = good;
	bad.port = 0;
	assert_null(probe_check_new(&bad, 0));
	bad = good;
	bad.protocol = 2;
	assert_null(probe_check_new(&bad, 0));
	bad = good;
	bad.timeout_ms = 1001;
	assert_null(probe_check_new(&bad, 0));
	bad = good;
	bad.interval_ms = bad.timeout_ms = 1;
	assert_null(probe_check_new(&bad, 0));
	bad = good;
	memset(bad.path, 'x', sizeof(bad.path));
	assert_null(probe_check_new(&bad, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status_line),
		cmocka_unit_test(test_interim_answers_have_an_end),
		cmocka_unit_test(test_timers),
		cmocka_unit_test(test_eagerness),
		cmocka_unit_test(test_commands_without_sense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
