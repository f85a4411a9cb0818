// SPDX-License-Identifier: Apache-2.0
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/scope.h"
#include "metrics/metrics.h"

enum { CONNECTIONS, LOAD, LATENCY, TOTAL, COUNT };

static const struct metric_definition definitions[COUNT] = {
	[CONNECTIONS] = {"x_connections_total", "Connections\nso \"far\".", METRIC_COUNTER,
			 .labels = {"task_id", "eni"}},
	[LOAD] = {"x_load", "Load.", METRIC_GAUGE, .labels = {"eni", "task_id"}, .series_max = 3},
	[LATENCY] = {"x_latency_seconds", "Latency.", METRIC_HISTOGRAM, .labels = {"task_id"},
		     .buckets = {0.1, 1, 2.5}},
	[TOTAL] = {.name = "x_all", .help = "All.", .kind = METRIC_GAUGE},
};

#define LABELS(...) ((const char *const[]){__VA_ARGS__})

static char *render(struct metrics *metrics, enum metrics_format format)
{
	struct buffer text = {0};

	metrics_render(metrics, format, &text);
	return buffer_take(&text);
}

#define assert_rendered(metrics, format, expected)                                                 \
	do {                                                                                       \
		char *rendered_text = render(metrics, format);                                     \
		assert_string_equal(rendered_text, expected);                                      \
		free(rendered_text);                                                               \
	} while (0)

static void test_exposition(void **state)
{
	struct metrics *metrics = metrics_new(definitions, COUNT);

	(void)state;
	assert_rendered(metrics, METRICS_PROMETHEUS, "");
	metrics_add(metrics, CONNECTIONS, 1, LABELS("t-1", "a\"b\\c\nd"));
	metrics_add(metrics, CONNECTIONS, 2.5, LABELS("t-1", "a\"b\\c\nd"));
	metrics_set(metrics, CONNECTIONS, 9007199254740991, LABELS("t-2", ""));
	metrics_observe(metrics, LATENCY, 0.1, LABELS("t-1"));
	metrics_observe(metrics, LATENCY, 2, LABELS("t-1"));
	metrics_observe(metrics, LATENCY, 100, LABELS("t-1"));
	metrics_set(metrics, TOTAL, 0.1, NULL);
	assert_rendered(metrics, METRICS_PROMETHEUS,
			"# HELP x_connections_total Connections\\nso \"far\".\n"
			"# TYPE x_connections_total counter\n"
			"x_connections_total{task_id=\"t-1\",eni=\"a\\\"b\\\\c\\nd\"} 3.5\n"
			"x_connections_total{task_id=\"t-2\",eni=\"\"} 9007199254740991\n"
			"# HELP x_latency_seconds Latency.\n"
			"# TYPE x_latency_seconds histogram\n"
			"x_latency_seconds_bucket{task_id=\"t-1\",le=\"0.1\"} 1\n"
			"x_latency_seconds_bucket{task_id=\"t-1\",le=\"1\"} 1\n"
			"x_latency_seconds_bucket{task_id=\"t-1\",le=\"2.5\"} 2\n"
			"x_latency_seconds_bucket{task_id=\"t-1\",le=\"+Inf\"} 3\n"
			"x_latency_seconds_sum{task_id=\"t-1\"} 102.1\n"
			"x_latency_seconds_count{task_id=\"t-1\"} 3\n"
			"# HELP x_all All.\n# TYPE x_all gauge\nx_all 0.1\n");
	metrics_forget(metrics, "task_id", "t-1");
	assert_rendered(metrics, METRICS_OPENMETRICS,
			"# HELP x_connections Connections\\nso \\\"far\\\".\n"
			"# TYPE x_connections counter\n"
			"x_connections_total{task_id=\"t-2\",eni=\"\"} 9007199254740991\n"
			"# HELP x_all All.\n# TYPE x_all gauge\nx_all 0.1\n# EOF\n");
	metrics_free(metrics);
}

static void test_numbers(void **state)
{
	static const struct {
		double value;
		const char *text;
	} cases[] = {
		{0, "0"},
		{-1, "-1"},
		{1e15, "1e+15"},
		{123456789012345, "123456789012345"},
		{0.1 + 0.2, "0.30000000000000004"},
		{1.0 / 3, "0.33333333333333331"},
		{NAN, "NaN"},
		{INFINITY, "+Inf"},
		{-INFINITY, "-Inf"},
		{5e-05, "5e-05"},
	};
	struct metrics *metrics = metrics_new(definitions, COUNT);

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		char expected[128];

		metrics_set(metrics, TOTAL, cases[i].value, NULL);
		snprintf(expected, sizeof(expected),
			 "# HELP x_all All.\n# TYPE x_all gauge\nx_all %s\n", cases[i].text);
		assert_rendered(metrics, METRICS_PROMETHEUS, expected);
	}
	metrics_free(metrics);
}

static void test_bounds_of_openmetrics(void **state)
{
	struct metrics *metrics = metrics_new(definitions, COUNT);
	scoped_free char *text = NULL;

	(void)state;
	metrics_observe(metrics, LATENCY, 1, LABELS("t"));
	text = render(metrics, METRICS_OPENMETRICS);
	assert_non_null(strstr(text, "le=\"1.0\"} 1\n"));
	assert_non_null(strstr(text, "le=\"2.5\"} 1\n"));
	assert_string_equal(metrics_content_type(METRICS_OPENMETRICS),
			    "application/openmetrics-text; version=1.0.0; charset=utf-8");
	metrics_free(metrics);
}

static void test_bounded(void **state)
{
	struct metrics *metrics = metrics_new(definitions, COUNT);
	char eni[16];

	(void)state;
	for (int i = 0; i < 5; i++) {
		snprintf(eni, sizeof(eni), "eni-%d", i);
		metrics_set(metrics, LOAD, i, LABELS(eni, "t"));
	}
	assert_int_equal(metrics_series_count(metrics), 3);
	assert_int_equal(metrics_series_refused(metrics), 2);
	metrics_forget(metrics, "eni", "eni-1");
	metrics_set(metrics, LOAD, 7, LABELS("eni-4", "t")); // there is room again
	assert_rendered(metrics, METRICS_PROMETHEUS,
			"# HELP x_load Load.\n# TYPE x_load gauge\n"
			"x_load{eni=\"eni-0\",task_id=\"t\"} 0\n"
			"x_load{eni=\"eni-2\",task_id=\"t\"} 2\n"
			"x_load{eni=\"eni-4\",task_id=\"t\"} 7\n");
	metrics_remove(metrics, LOAD, LABELS("eni-4", "t"));
	metrics_remove(metrics, LOAD, LABELS("eni-5", "t")); // there is none
	assert_int_equal(metrics_series_count(metrics), 2);
	metrics_clear(metrics, LOAD);
	assert_int_equal(metrics_series_count(metrics), 0);
	metrics_free(metrics);
}

// Only the first label owns; values that merely begin alike are others.
static void test_forget_is_exact(void **state)
{
	struct metrics *metrics = metrics_new(definitions, COUNT);

	(void)state;
	metrics_set(metrics, LOAD, 1, LABELS("eni", "t-1"));
	metrics_add(metrics, CONNECTIONS, 1, LABELS("t-1", "eni"));
	metrics_add(metrics, CONNECTIONS, 1, LABELS("t-10", "eni"));
	metrics_set(metrics, TOTAL, 1, NULL);
	metrics_forget(metrics, "task_id", "t-1");
	metrics_forget(metrics, "task_id", "t-2");
	assert_int_equal(metrics_series_count(metrics), 3);
	metrics_free(metrics);
}

static void test_long_values(void **state)
{
	struct metrics *metrics = metrics_new(definitions, COUNT);
	scoped_free char *text = NULL;
	char value[400];

	(void)state;
	memset(value, 'a', sizeof(value));
	memcpy(value + 254, "\xc3\xa4", 2); // would be cut in the middle
	value[399] = '\0';
	metrics_add(metrics, CONNECTIONS, 1, LABELS(value, ""));
	metrics_add(metrics, CONNECTIONS, 1, LABELS(value, ""));
	text = render(metrics, METRICS_PROMETHEUS);
	assert_int_equal(metrics_series_count(metrics), 1);
	assert_non_null(strstr(text, "aaa\",eni=\"\"} 2\n"));
	metrics_forget(metrics, "task_id", value);
	assert_int_equal(metrics_series_count(metrics), 0);
	metrics_free(metrics);
}

// Many series come and go; updates stay fast.
static void test_many(void **state)
{
	enum { TASKS = 4000, UPDATES = 200000 };
	struct metrics *metrics = metrics_new(definitions, COUNT);
	int64_t start_us, update_us;
	char task[16];

	(void)state;
	for (int i = 0; i < TASKS; i++) {
		snprintf(task, sizeof(task), "t-%d", i);
		metrics_add(metrics, CONNECTIONS, 1, LABELS(task, "e"));
		metrics_observe(metrics, LATENCY, 1, LABELS(task));
	}
	assert_int_equal(metrics_series_count(metrics), 2 * TASKS);
	start_us = clock_monotonic_us();
	for (int i = 0; i < UPDATES; i++)
		metrics_add(metrics, CONNECTIONS, 1, LABELS("t-3999", "e"));
	update_us = clock_monotonic_us() - start_us;
	print_message("figure metrics_update %.3f us\n", (double)update_us / UPDATES);
	for (int i = 0; i < TASKS; i++) {
		snprintf(task, sizeof(task), "t-%d", (i * 7) % TASKS);
		metrics_forget(metrics, "task_id", task);
	}
	assert_int_equal(metrics_series_count(metrics), 0);
	assert_rendered(metrics, METRICS_PROMETHEUS, "");
	metrics_free(metrics);
}

static void fill_catalog(struct metrics *metrics)
{
	for (unsigned i = 0; i < METRIC_COUNT; i++) {
		const char *const labels[] = {"a", "b", "c", "d"};

		assert_non_null(metrics_catalog[i].name);
		if (metrics_catalog[i].kind == METRIC_HISTOGRAM)
			metrics_observe(metrics, i, 0.3, labels);
		else
			metrics_set(metrics, i, 1, labels);
	}
}

// promtool reads the exposition on its standard input.
static int promtool(const char *text)
{
	int pipe_fds[2], status;
	pid_t child;

	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	child = fork();
	if (child == 0) {
		dup2(pipe_fds[0], 0);
		execl("/usr/bin/promtool", "promtool", "check", "metrics", (char *)NULL);
		_exit(126);
	}
	close(pipe_fds[0]);
	assert_int_equal(write(pipe_fds[1], text, strlen(text)), strlen(text));
	close(pipe_fds[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_promtool(void **state)
{
	struct metrics *metrics;
	scoped_free char *text = NULL;

	(void)state;
	if (access("/usr/bin/promtool", X_OK) < 0) {
		print_message("SKIPPED: no /usr/bin/promtool (package prometheus)\n");
		skip();
	}
	metrics = metrics_new(metrics_catalog, METRIC_COUNT);
	fill_catalog(metrics);
	text = render(metrics, METRICS_PROMETHEUS);
	metrics_free(metrics);
	assert_int_equal(promtool(text), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exposition),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_bounds_of_openmetrics),
		cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_forget_is_exact),
		cmocka_unit_test(test_long_values),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_promtool),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
