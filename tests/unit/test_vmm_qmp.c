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

static bool say(struct qmp *qmp, const char *text)
{
	return qmp_feed(qmp, text, strlen(text));
}

static void expect_output(struct qmp *qmp, const char *expected)
{
	const char *text;
	size_t length = qmp_output(qmp, &text);

	assert_int_equal(length, strlen(expected));
	assert_memory_equal(text, expected, length);
	qmp_sent(qmp, length);
}

static void make_ready(struct qmp *qmp)
{
	qmp_open(qmp);
	assert_true(say(qmp, greeting));
	expect_output(qmp, "{\"execute\":\"qmp_capabilities\"}\n");
	assert_true(say(qmp, empty_return));
	assert_int_equal(qmp->state, QMP_STATE_READY);
}

static void test_session(void **state)
{
	scoped(qmp_close) struct qmp qmp;

	(void)state;
	make_ready(&qmp);
	qmp_powerdown(&qmp);
	expect_output(&qmp, "{\"execute\":\"system_powerdown\"}\n");
	assert_true(say(&qmp, empty_return));
	assert_true(say(&qmp,
			"{\"timestamp\": {\"seconds\": 1795390945, \"microseconds\": 692078}, "
			"\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}\r\n"));
	qmp_powerdown(&qmp);
	expect_output(&qmp, "{\"execute\":\"system_powerdown\"}\n");
	assert_true(say(&qmp, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n"));
	expect_output(&qmp, "");
}

static void test_byte_by_byte(void **state)
{
	scoped(qmp_close) struct qmp qmp;

	(void)state;
	qmp_open(&qmp);
	for (const char *byte = greeting; *byte; byte++)
		assert_true(qmp_feed(&qmp, byte, 1));
	for (const char *byte = empty_return; *byte; byte++)
		assert_true(qmp_feed(&qmp, byte, 1));
	assert_int_equal(qmp.state, QMP_STATE_READY);
}

static void test_asked_before_ready(void **state)
{
	scoped(qmp_close) struct qmp qmp;

	(void)state;
	qmp_open(&qmp);
	qmp_powerdown(&qmp);
	expect_output(&qmp, "");
	assert_true(say(&qmp, greeting));
	expect_output(&qmp, "{\"execute\":\"qmp_capabilities\"}\n");
	assert_true(say(&qmp, "{\"event\": \"RESUME\"}\n"));
	expect_output(&qmp, "");
	assert_true(say(&qmp, empty_return));
	expect_output(&qmp, "{\"execute\":\"system_powerdown\"}\n");
	assert_true(say(&qmp, empty_return));
	expect_output(&qmp, "");
}

static void expect_fault(struct qmp *qmp, const char *text)
{
	assert_false(say(qmp, text));
	assert_false(say(qmp, greeting)); // nothing counts any more
	expect_output(qmp, "");
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
	assert_true(say(&qmp, greeting));
	expect_output(&qmp, "{\"execute\":\"qmp_capabilities\"}\n");
	expect_fault(&qmp, "{\"error\": {\"class\": \"CommandNotFound\"}}\n");
}

static void test_bounds(void **state)
{
	static char line[QMP_LINE_MAX + 1];
	struct qmp qmp;

	(void)state;
	memset(line, ' ', sizeof(line));
	make_ready(&qmp);
	for (int i = 0; i < 1000; i++)
		assert_true(say(&qmp, "{\"event\": \"STOP\"}\n"));
	assert_true(qmp_feed(&qmp, line, QMP_LINE_MAX));
	expect_fault(&qmp, " ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_session),
		cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_asked_before_ready),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
