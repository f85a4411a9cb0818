// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/scope.h"
#include "agent/vmm/qmp.h"

static const char greeting[] =
	"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, "
	"\"package\": \"Debian\"}, \"capabilities\": [\"oob\"]}}\r\n";
static const char empty_return[] = "{\"return\": {}}\r\n";

static void say(struct qmp *qmp, const char *text)
{
	qmp_feed(qmp, text, strlen(text));
}

static void expect_output(struct qmp *qmp, const char *expected)
{
	const char *text;
	size_t length = qmp_output(qmp, &text);

	assert_int_equal(length, strlen(expected));
	assert_memory_equal(text, expected, length);
	qmp_sent(qmp, length);
}

static void expect_event(struct qmp *qmp, enum qmp_kind kind, const char *name, const char *reason)
{
	struct qmp_event event;

	assert_true(qmp_next(qmp, &event));
	assert_int_equal(event.kind, kind);
	assert_string_equal(event.name, name);
	assert_string_equal(event.reason, reason);
}

static void make_ready(struct qmp *qmp)
{
	qmp_open(qmp);
	say(qmp, greeting);
	expect_output(qmp, "{\"execute\":\"qmp_capabilities\"}\n");
	say(qmp, empty_return);
	expect_event(qmp, QMP_READY, "", "");
}

static void test_session(void **state)
{
	scoped(qmp_close) struct qmp qmp;
	struct qmp_event event;

	(void)state;
	make_ready(&qmp);
	qmp_powerdown(&qmp);
	expect_output(&qmp, "{\"execute\":\"system_powerdown\"}\n");
	say(&qmp, empty_return);
	say(&qmp, "{\"timestamp\": {\"seconds\": 1795390945, \"microseconds\": 692078}, \"event\": "
		  "\"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-shutdown\"}}\r\n");
	expect_event(&qmp, QMP_EVENT, "SHUTDOWN", "guest-shutdown");
	assert_false(qmp_next(&qmp, &event));
	qmp_quit(&qmp);
	expect_output(&qmp, "{\"execute\":\"quit\"}\n");
}

static void test_byte_by_byte(void **state)
{
	scoped(qmp_close) struct qmp qmp;

	(void)state;
	qmp_open(&qmp);
	for (const char *byte = greeting; *byte; byte++)
		qmp_feed(&qmp, byte, 1);
	for (const char *byte = empty_return; *byte; byte++)
		qmp_feed(&qmp, byte, 1);
	expect_event(&qmp, QMP_READY, "", "");
}

static void test_asked_before_ready(void **state)
{
	scoped(qmp_close) struct qmp qmp;

	(void)state;
	qmp_open(&qmp);
	qmp_powerdown(&qmp);
	expect_output(&qmp, "");
	say(&qmp, greeting);
	expect_output(&qmp, "{\"execute\":\"qmp_capabilities\"}\n");
	say(&qmp, "{\"event\": \"RESUME\"}\n");
	say(&qmp, empty_return);
	expect_event(&qmp, QMP_EVENT, "RESUME", "");
	expect_event(&qmp, QMP_READY, "", "");
	expect_output(&qmp, "{\"execute\":\"system_powerdown\"}\n");
}

static void test_refused_command(void **state)
{
	scoped(qmp_close) struct qmp qmp;

	(void)state;
	make_ready(&qmp);
	say(&qmp, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n");
	expect_event(&qmp, QMP_FAILED, "GenericError", "");
}

static void expect_fault(struct qmp *qmp, const char *text)
{
	struct qmp_event event;

	say(qmp, text);
	expect_event(qmp, QMP_FAULT, "", "");
	assert_false(qmp_next(qmp, &event));
	say(qmp, greeting); // nothing counts any more
	assert_false(qmp_next(qmp, &event));
	qmp_close(qmp);
}

static void test_faults(void **state)
{
	static const char *const before[] = {"\n", "{}\n", "[]\n", "1\n", "{\"QMP\": 1}\n", "{\n"};
	static const char *const after[] = {"\n",
					    "{}\n",
					    "null\n",
					    "{\"event\":\"A\",\"event\":\"B\"}\n",
					    "{\"return\":[[[[[[[[[1]]]]]]]]]}\n",
					    "{\"return\": {}} {}\n"};
	struct qmp qmp;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(before); i++) {
		qmp_open(&qmp);
		expect_fault(&qmp, before[i]);
	}
	for (size_t i = 0; i < ARRAY_LENGTH(after); i++) {
		make_ready(&qmp);
		expect_fault(&qmp, after[i]);
	}
	qmp_open(&qmp);
	say(&qmp, greeting);
	expect_fault(&qmp, "{\"error\": {\"class\": \"CommandNotFound\"}}\n");
}

static void test_bounds(void **state)
{
	static char line[QMP_LINE_MAX + 1];
	struct qmp qmp;

	(void)state;
	memset(line, ' ', sizeof(line));
	make_ready(&qmp);
	qmp_feed(&qmp, line, QMP_LINE_MAX);
	assert_int_equal(qmp.state, QMP_STATE_READY);
	expect_fault(&qmp, " ");
	make_ready(&qmp);
	for (int i = 0; i < QMP_QUEUE_MAX; i++)
		say(&qmp, "{\"event\": \"STOP\"}\n");
	assert_int_equal(qmp.state, QMP_STATE_READY);
	expect_fault(&qmp, "{\"event\": \"STOP\"}\n");
}

static void test_names_are_tame(void **state)
{
	scoped(qmp_close) struct qmp qmp;

	(void)state;
	make_ready(&qmp);
	say(&qmp, "{\"event\": \"BAD\\nNAME\", \"data\": {\"reason\": 7}}\n");
	expect_event(&qmp, QMP_EVENT, "BAD", "");
	say(&qmp,
	    "{\"event\": \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}\n");
	expect_event(&qmp, QMP_EVENT, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_session),
		cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_asked_before_ready),
		cmocka_unit_test(test_refused_command),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_names_are_tame),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
