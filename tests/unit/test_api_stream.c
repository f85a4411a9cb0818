// SPDX-License-Identifier: Apache-2.0
// The API over its socket, with a fake backend: watching and logs.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "agent/base/buffer.h"
#include "agent/base/clock.h"
#include "agent/base/scope.h"
#include "tests/unit/api_client.h"

enum {
	CONNECTIONS_MAX = 14,
	PROCESS_SHARE = CONNECTIONS_MAX / 2,
	DEADLINE_MS = 2000,
	PATIENCE_MS = 60000, // bounds a hang, no more
	FOLLOW_BUFFER = 16 * 1024,
	FOLLOW_LAG = 50,
	EVENT_LIMIT = 400,
	CHURN_RULES = 60,
	CHURN_BYTES = 12000, // of such a group's events, at least
};

#define VPC "{\"cidrBlock\":\"10.0.0.0/16\"}"
#define TASK                                                                                       \
	"{\"cpu\":\"256\",\"memory\":\"512\",\"containerDefinitions\":[{\"name\":\"web\","         \
	"\"image\":\"busybox\"},{\"name\":\"side\",\"image\":\"busybox\"}],"                       \
	"\"networkConfiguration\":{\"awsvpcConfiguration\":{\"subnets\":[\"a\"],"                  \
	"\"securityGroups\":[\"web\"]}}}"

static void start_with_deadline(void **state, unsigned deadline_ms)
{
	static struct api_test test;

	api_test_start(&test, (struct api_fake_options){
				      .reader_gid = (gid_t)-1,
				      .connections_max = CONNECTIONS_MAX,
				      .request_deadline_ms = deadline_ms,
				      .follow_buffer_bytes = FOLLOW_BUFFER,
				      .follow_lag = FOLLOW_LAG,
				      .event_limit = EVENT_LIMIT,
			      });
	*state = &test;
}

static int start(void **state)
{
	start_with_deadline(state, PATIENCE_MS);
	return 0;
}

// Only for tests about the deadline: whoever is slow meets it by chance.
static int start_impatient(void **state)
{
	start_with_deadline(state, DEADLINE_MS);
	return 0;
}

static int stop(void **state)
{
	api_test_stop(*state);
	return 0;
}

// --- Watching ---

static void test_events_kept(void **state)
{
	const struct api_test *test = *state;
	scoped_free char *body = NULL, *later = NULL, *other = NULL;

	api_test_make_network(test);
	assert_int_equal(api_test_get(test, "/v1/events", &body), 200);
	assert_non_null(strstr(body, "{\"type\":\"PUT\",\"revision\":1,"));
	assert_non_null(strstr(body, "\"revision\":3,"));
	assert_int_equal(api_test_get(test, "/v1/events?since=2", &later), 200);
	assert_null(strstr(later, "\"revision\":1,"));
	assert_non_null(strstr(later, "\"revision\":3,"));
	assert_int_equal(api_test_get(test, "/v1/events?kind=subnet&id=a", &other), 200);
	assert_null(strstr(other, "\"kind\":\"vpc\""));
	assert_non_null(strstr(other, "\"kind\":\"subnet\""));
	assert_int_equal(api_test_get(test, "/v1/events?since=99", NULL), 410);
	assert_int_equal(api_test_get(test, "/v1/events?since=1&epoch=another", NULL), 410);
	assert_int_equal(api_test_get(test, "/v1/events?since=x", NULL), 400);
	assert_int_equal(api_test_get(test, "/v1/events?kind=bird", NULL), 400);
}

static void test_follower_hears_of_changes(void **state)
{
	const struct api_test *test = *state;
	scoped_fd int fd = api_test_begin_get(test, "/v1/events?since=0&follow=true");

	api_test_expect_text(fd, "application/x-ndjson");
	assert_int_equal(api_test_put(test, "/v1/vpcs/one", VPC, NULL), 201);
	api_test_expect_text(fd, "\"id\":\"one\"");
	api_test_make_network(test);
	api_test_expect_text(fd, "\"kind\":\"security-group\"");
	assert_int_equal(api_test_put(test, "/v1/tasks/t", TASK, NULL), 201);
	api_test_expect_text(fd, "\"lastStatus\":\"RUNNING\"");
	assert_int_equal(api_test_status(test, "DELETE", "/v1/vpcs/one"), 204);
	api_test_expect_text(fd, "\"type\":\"DELETE\"");
}

static void test_follower_may_be_silent_beyond_the_deadline(void **state)
{
	const struct api_test *test = *state;
	scoped_fd int fd = api_test_begin_get(test, "/v1/events?since=0&follow=true");
	struct pollfd ready = {.fd = fd, .events = POLLRDHUP};

	api_test_expect_text(fd, "application/x-ndjson");
	assert_int_equal(poll(&ready, 1, DEADLINE_MS + 1500), 0);
	assert_int_equal(api_test_put(test, "/v1/vpcs/one", VPC, NULL), 201);
	api_test_expect_text(fd, "\"id\":\"one\"");
}

// A large group, changed `count` times.
static void churn(const struct api_test *test, int count)
{
	assert_int_equal(api_test_put(test, "/v1/vpcs/main", VPC, NULL), 201);
	for (int i = 0; i < count; i++) {
		scoped(buffer_release) struct buffer body = {0};
		int status;

		buffer_addf(&body, "{\"vpcId\":\"main\",\"description\":\"%d\",\"ipPermissions\":[",
			    i);
		for (int rule = 0; rule < CHURN_RULES; rule++)
			buffer_addf(&body,
				    "%s{\"ipProtocol\":\"-1\",\"ipRanges\":[{\"cidrIp\":"
				    "\"10.%d.0.0/16\",\"description\":\"%0200d\"}]}",
				    rule ? "," : "", rule, rule);
		buffer_adds(&body, "]}");
		status =
			api_test_put(test, "/v1/security-groups/churned", buffer_text(&body), NULL);
		assert_in_range(status, 200, 201);
	}
}

// So many changes that a follower who reads none of them falls behind: more than its socket,
// the agent's buffer and the lag take, however large this machine makes a socket.
static int changes_to_overflow(int fd)
{
	int send_bytes;
	socklen_t size = sizeof(send_bytes);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, &size), 0);
	return 2 * FOLLOW_LAG + 2 * (send_bytes + FOLLOW_BUFFER) / CHURN_BYTES;
}

static void test_slow_follower_is_cut_off(void **state)
{
	const struct api_test *test = *state;
	scoped_fd int fd = api_test_begin_get(test, "/v1/events?since=0&follow=true");
	int count = changes_to_overflow(fd);
	scoped_free char *text = NULL;
	char last[32];

	churn(test, count);
	snprintf(last, sizeof(last), "\"revision\":%d,", 1 + count);
	text = api_test_read(fd, "{\"type\":\"OVERFLOW\",\"revision\":");
	assert_non_null(strstr(text, "\"revision\":1,"));
	assert_non_null(strstr(text, "{\"type\":\"OVERFLOW\",\"revision\":"));
	assert_null(strstr(text, last));
}

static void test_follower_that_never_reads_is_dropped(void **state)
{
	const struct api_test *test = *state;
	scoped_fd int fd = api_test_begin_get(test, "/v1/events?since=0&follow=true");
	struct pollfd gone = {.fd = fd, .events = POLLRDHUP};

	churn(test, changes_to_overflow(fd));
	assert_int_equal(poll(&gone, 1, PATIENCE_MS), 1);
	assert_true(gone.revents & (POLLRDHUP | POLLHUP));
}

static void test_compacted_revisions_are_gone(void **state)
{
	const struct api_test *test = *state;
	scoped_free char *body = NULL;

	churn(test, EVENT_LIMIT + 19); // and its VPC
	assert_int_equal(api_test_get(test, "/v1/events?since=1", &body), 410);
	assert_non_null(strstr(body, "\"Compacted\""));
	assert_int_equal(api_test_get(test, "/v1/events?since=20", NULL), 200);
}

static void test_streams_leave_room_for_requests(void **state)
{
	const struct api_test *test = *state;
	int fds[PROCESS_SHARE];
	int taken = 0, refused = 0;

	// All in one turn of the agent's loop.
	kill(test->server, SIGSTOP);
	for (int i = 0; i < PROCESS_SHARE; i++)
		fds[i] = api_test_begin_get(test, "/v1/events?follow=true");
	kill(test->server, SIGCONT);
	for (int i = 0; i < PROCESS_SHARE; i++) {
		scoped_free char *head = api_test_read(fds[i], "\r\n\r\n");
		taken += strstr(head, "HTTP/1.1 200") != NULL;
		if (!strstr(head, "HTTP/1.1 429"))
			continue;
		refused++;
		assert_non_null(strstr(head, "\r\nRetry-After: 1\r\n"));
		assert_non_null(strstr(head, "\r\nConnection: close\r\n"));
	}
	assert_int_equal(taken, CONNECTIONS_MAX - 8);
	assert_int_equal(refused, 1);
	assert_int_equal(api_test_get(test, "/healthz", NULL), 200);
	for (int i = 0; i < PROCESS_SHARE; i++)
		close(fds[i]);
}

// --- Logs ---

static void log_write_bytes(const struct api_test *test, const char *name, const void *bytes,
			    size_t count)
{
	char path[256];
	scoped_fd int fd = -1;

	snprintf(path, sizeof(path), "%s/%s", test->directory, name);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, count), count);
}

static void log_write(const struct api_test *test, const char *name, const char *text)
{
	log_write_bytes(test, name, text, strlen(text));
}

static void log_remove(const struct api_test *test, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", test->directory, name);
	assert_return_code(unlink(path), errno);
}

static void log_cut(const struct api_test *test, const char *name, size_t length)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", test->directory, name);
	assert_return_code(truncate(path, (off_t)length), errno);
}

static void log_rotate(const struct api_test *test, const char *name)
{
	char path[256], old[256];

	snprintf(path, sizeof(path), "%s/%s", test->directory, name);
	snprintf(old, sizeof(old), "%s/%s.1", test->directory, name);
	assert_int_equal(rename(path, old), 0);
}

#define LOG_LINE(tag, text) "2026-01-31T09:08:07.654Z stdout " tag " " text "\n"

static void test_logs_are_read(void **state)
{
	const struct api_test *test = *state;
	scoped_free char *text = NULL, *json = NULL, *none = NULL;

	api_test_make_network(test);
	assert_int_equal(api_test_put(test, "/v1/tasks/t", TASK, NULL), 201);
	log_write(test, "t.web.log.1", LOG_LINE("F", "first"));
	log_write(test, "t.web.log",
		  LOG_LINE("P", "sec")
			  LOG_LINE("F", "ond") "2026-01-31T09:08:07.655Z stderr F \"3\xff");
	assert_int_equal(api_test_get(test, "/v1/tasks/t/logs?container=web", &text), 200);
	assert_non_null(strstr(text, "first\n")); // each read is a chunk of its own
	assert_non_null(strstr(text, "second\n"));
	assert_non_null(strstr(text, "\"3\xff\n"));
	assert_int_equal(api_test_get(test, "/v1/tasks/t/logs?container=web&format=ndjson", &json),
			 200);
	assert_non_null(strstr(json, "{\"time\":\"2026-01-31T09:08:07.655Z\",\"stream\":"
				     "\"stderr\",\"text\":\"\\\"3?\",\"partial\":false}\n"));
	assert_int_equal(api_test_get(test, "/v1/tasks/t/logs?container=side", &none), 200);
	assert_int_equal(api_test_get(test, "/v1/tasks/t/logs", NULL), 400);
	assert_int_equal(api_test_get(test, "/v1/tasks/t/logs?container=..%2f..%2fetc", NULL), 404);
	assert_int_equal(api_test_get(test, "/v1/tasks/none/logs?container=web", NULL), 404);
}

// Lines of the file, and the texts that a reader of ndjson is given.
static const struct {
	const char *lines, *json;
} parts[] = {
	{LOG_LINE("P", "caf\xc3") LOG_LINE("F", "\xa9!"), "caf|\xc3\xa9!\n"},
	{LOG_LINE("P", "\xe2") LOG_LINE("P", "\x82") LOG_LINE("P", "\xac") LOG_LINE("F", ""),
	 "\xe2\x82\xac|\n"},
	// Each stream has characters of its own.
	{LOG_LINE("P", "a\xc3") "2026-01-31T09:08:07.655Z stderr P b\xc3\n" LOG_LINE(
		 "F", "\xa9") "2026-01-31T09:08:07.656Z stderr F \xa8\n",
	 "a|b|\xc3\xa9\n|\xc3\xa8\n"},
	{LOG_LINE("P", "end\xf0\x9f\x98"), "end|???"}, // it ended with half a character
	{LOG_LINE("P", "\xff\xc3") LOG_LINE("F", "x\xc3"), "?|?x?\n"},
};

static void add_parts(const char *json, struct buffer *out)
{
	for (const char *at = json; (at = strstr(at, "\"text\":\""));) {
		const char *end = strstr(at += strlen("\"text\":\""), "\",\"partial\":");

		buffer_addf(out, "%s%.*s%s", out->length ? "|" : "", (int)(end - at), at,
			    strstr(end, "\"partial\":false") == end + 2 ? "\n" : "");
		at = end;
	}
}

static void test_parts_of_a_line_are_cut_between_characters(void **state)
{
	const struct api_test *test = *state;

	api_test_make_network(test);
	assert_int_equal(api_test_put(test, "/v1/tasks/t", TASK, NULL), 201);
	for (size_t i = 0; i < ARRAY_LENGTH(parts); i++) {
		scoped(buffer_release) struct buffer given = {0};
		scoped_free char *json = NULL;

		log_write(test, "t.web.log", parts[i].lines);
		assert_int_equal(
			api_test_get(test, "/v1/tasks/t/logs?container=web&format=ndjson", &json),
			200);
		add_parts(json, &given);
		assert_string_equal(buffer_text(&given), parts[i].json);
		log_remove(test, "t.web.log");
	}
}

static void test_a_log_line_does_not_end_at_a_nul(void **state)
{
	static const char line[] = LOG_LINE("F", "before\0after");
	const struct api_test *test = *state;
	scoped_free char *json = NULL;

	api_test_make_network(test);
	assert_int_equal(api_test_put(test, "/v1/tasks/t", TASK, NULL), 201);
	log_write_bytes(test, "t.web.log", line, sizeof(line) - 1);
	assert_int_equal(api_test_get(test, "/v1/tasks/t/logs?container=web&format=ndjson", &json),
			 200);
	assert_non_null(strstr(json, "\"before\\u0000after\""));
}

// A reader must not take what could be read for all there is.
static void test_a_log_that_cannot_be_read_is_cut_off(void **state)
{
	const struct api_test *test = *state;
	char path[256];
	scoped_free char *reply = NULL;
	int fd;

	api_test_make_network(test);
	assert_int_equal(api_test_put(test, "/v1/tasks/t", TASK, NULL), 201);
	snprintf(path, sizeof(path), "%s/t.web.log", test->directory);
	assert_int_equal(mkdir(path, 0700), 0); // opens, but cannot be read
	fd = api_test_begin_get(test, "/v1/tasks/t/logs?container=web");
	reply = api_test_read(fd, NULL);
	close(fd);
	assert_int_equal(rmdir(path), 0);
	assert_null(strstr(reply, "\r\n0\r\n"));
}

// Each change of an object is a chance to send more, none to wait longer.
static void test_log_follower_that_never_reads_is_dropped(void **state)
{
	const struct api_test *test = *state;
	scoped(buffer_release) struct buffer line = {0};
	struct pollfd gone = {.events = POLLRDHUP};
	scoped_fd int fd = -1;

	api_test_make_network(test);
	assert_int_equal(api_test_put(test, "/v1/tasks/t?wait=RUNNING", TASK, NULL), 201);
	buffer_addf(&line, LOG_LINE("F", "%0100000d"), 0);
	for (int i = 0; i < 40; i++)
		log_write(test, "t.web.log", buffer_text(&line));
	fd = gone.fd = api_test_begin_get(test, "/v1/tasks/t/logs?container=web&follow=true");
	for (int waited_ms = 0; poll(&gone, 1, 200) == 0; waited_ms += 200) {
		assert_true(waited_ms < PATIENCE_MS);
		assert_int_equal(api_test_put(test, "/v1/vpcs/other", VPC, NULL), 201);
		assert_int_equal(api_test_status(test, "DELETE", "/v1/vpcs/other"), 204);
	}
}

static void test_log_follower_sees_growth_rotation_and_the_end(void **state)
{
	const struct api_test *test = *state;
	scoped_free char *turned = NULL, *truncated = NULL, *rest = NULL;
	scoped_fd int fd = -1;

	api_test_make_network(test);
	assert_int_equal(api_test_put(test, "/v1/tasks/t?wait=RUNNING", TASK, NULL), 201);
	log_write(test, "t.web.log", LOG_LINE("F", "before"));
	fd = api_test_begin_get(test, "/v1/tasks/t/logs?container=web&follow=true");
	api_test_expect_text(fd, "before\n");
	log_write(test, "t.web.log", LOG_LINE("F", "grown"));
	api_test_expect_text(fd, "grown\n");
	log_write(test, "t.web.log", LOG_LINE("F", "last of the old"));
	log_rotate(test, "t.web.log");
	log_write(test, "t.web.log", LOG_LINE("F", "first of the new"));
	turned = api_test_read(fd, "first of the new\n");
	assert_non_null(strstr(turned, "first of the new\n"));
	assert_non_null(strstr(turned, "last of the old\n"));
	// The shim takes back what it could not write whole, and writes it again.
	log_cut(test, "t.web.log", strlen(LOG_LINE("F", "first of")));
	log_write(test, "t.web.log", "the new\n" LOG_LINE("F", "more"));
	api_test_expect_text(fd, "more\n");
	log_cut(test, "t.web.log", 0);
	log_write(test, "t.web.log", "2026-01-31T09:08:08.000Z stdout F truncated\n");
	truncated = api_test_read(fd, "truncated\n");
	assert_null(strstr(truncated, "new"));
	assert_int_equal(api_test_status(test, "POST", "/v1/tasks/t/stop"), 200);
	rest = api_test_read(fd, "0\r\n\r\n");
	assert_non_null(strstr(rest, "0\r\n\r\n"));
}

// --- The end ---

// What is held when the agent ends is cut, and nothing leaks (the sanitizers look).
static void test_end_with_streams_and_waiters(void **state)
{
	const struct api_test *test = *state;

	api_test_make_network(test);
	assert_int_equal(api_test_put(test, "/v1/tasks/stuck-1", TASK, NULL), 201);
	api_test_expect_text(api_test_begin_get(test, "/v1/events?follow=true"), "ndjson");
	api_test_expect_text(
		api_test_begin_get(test, "/v1/tasks/stuck-1/logs?container=web&follow=true"),
		"200 OK");
	api_test_begin_get(test, "/v1/tasks/stuck-1?wait=STOPPED&timeout=60");
	assert_int_equal(api_test_get(test, "/healthz", NULL), 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(name)           cmocka_unit_test_setup_teardown(name, start, stop)
#define IMPATIENT_CASE(name) cmocka_unit_test_setup_teardown(name, start_impatient, stop)
		CASE(test_events_kept),
		CASE(test_follower_hears_of_changes),
		IMPATIENT_CASE(test_follower_may_be_silent_beyond_the_deadline),
		CASE(test_slow_follower_is_cut_off),
		IMPATIENT_CASE(test_follower_that_never_reads_is_dropped),
		CASE(test_compacted_revisions_are_gone),
		CASE(test_streams_leave_room_for_requests),
		CASE(test_logs_are_read),
		CASE(test_a_log_line_does_not_end_at_a_nul),
		CASE(test_parts_of_a_line_are_cut_between_characters),
		CASE(test_a_log_that_cannot_be_read_is_cut_off),
		IMPATIENT_CASE(test_log_follower_that_never_reads_is_dropped),
		CASE(test_log_follower_sees_growth_rotation_and_the_end),
		CASE(test_end_with_streams_and_waiters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
