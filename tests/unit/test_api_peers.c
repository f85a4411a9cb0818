// SPDX-License-Identifier: Apache-2.0
// The API over its socket, with a fake backend: who is there, how many, and how they misbehave.
#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/buffer.h"
#include "agent/base/clock.h"
#include "agent/base/scope.h"
#include "tests/unit/api_client.h"

enum {
	READER_GID = 54321,
	STRANGER_UID = 54322,
	CONNECTIONS_MAX = 12,
	PROCESS_SHARE = CONNECTIONS_MAX / 2,
	DEADLINE_MS = 2000,
	PATIENCE_MS = 60000, // bounds a hang, no more
};

#define VPC "{\"cidrBlock\":\"10.0.0.0/16\"}"
#define TASK                                                                                       \
	"{\"cpu\":\"256\",\"memory\":\"512\",\"containerDefinitions\":[{\"name\":\"web\","         \
	"\"image\":\"busybox\",\"environment\":[{\"name\":\"PASSWORD\",\"value\":\"hunter2\"}]}]," \
	"\"networkConfiguration\":{\"awsvpcConfiguration\":{\"subnets\":[\"a\"],"                  \
	"\"securityGroups\":[\"web\"]}}}"

static void start_with_deadline(void **state, unsigned deadline_ms)
{
	static struct api_test test;

	api_test_start(&test, (struct api_fake_options){.reader_gid = READER_GID,
							.connections_max = CONNECTIONS_MAX,
							.request_deadline_ms = deadline_ms});
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

// --- Who may do what ---

static bool become(uid_t uid, gid_t supplementary)
{
	return setgroups(1, &supplementary) == 0 && seteuid(uid) == 0;
}

static void become_root_again(void)
{
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(setgroups(0, NULL), 0);
}

static void skip_unless_root(void)
{
	if (geteuid() == 0)
		return;
	print_message("skipped: needs root to change identities\n");
	skip();
}

static void test_credentials_decide(void **state)
{
	const struct api_test *test = *state;

	skip_unless_root();
	api_test_make_network(test);
	assert_int_equal(api_test_put(test, "/v1/tasks/t", TASK, NULL), 201);
	api_test_expect(test, "GET", "/v1/tasks/t", "", "", 200, API_TEXTS("hunter2"));
	assert_true(become(STRANGER_UID, READER_GID));
	api_test_expect(test, "GET", "/v1/tasks/t", "", "", 200, API_TEXTS("<redacted>"));
	api_test_expect(test, "GET", "/v1/tasks", "", "", 200, API_TEXTS("<redacted>"));
	api_test_expect(test, "GET", "/v1/events?kind=task", "", "", 200, API_TEXTS("<redacted>"));
	api_test_expect(test, "PUT", "/v1/vpcs/x", "", VPC, 403, API_TEXTS("\"AccessDenied\""));
	api_test_expect(test, "DELETE", "/v1/tasks/t", "", "", 403, API_TEXTS("\"AccessDenied\""));
	become_root_again();
	assert_true(become(STRANGER_UID, STRANGER_UID));
	api_test_expect(test, "GET", "/v1/tasks", "", "", 403, API_TEXTS("\"AccessDenied\""));
	api_test_expect(test, "GET", "/healthz", "", "", 403, API_TEXTS("\"AccessDenied\""));
	become_root_again();
}

// Opens connections under another identity; they stay idle.
static void crowd(const struct api_test *test, uid_t uid, gid_t group, int fds[], int count)
{
	assert_true(become(uid, group));
	for (int i = 0; i < count; i++)
		fds[i] = api_test_connect(test);
	become_root_again();
}

static void test_strangers_take_nobody_s_place(void **state)
{
	const struct api_test *test = *state;
	int fds[4 * CONNECTIONS_MAX];
	const int count = (int)ARRAY_LENGTH(fds);
	int cut = 0;

	skip_unless_root();
	crowd(test, STRANGER_UID, STRANGER_UID, fds, count);
	assert_int_equal(api_test_put(test, "/v1/vpcs/main", VPC, NULL), 201);
	for (int i = 0; i < count; i++) {
		struct pollfd peer = {.fd = fds[i], .events = POLLRDHUP};

		cut += poll(&peer, 1, 0) == 1;
		close(fds[i]);
	}
	assert_in_range(cut, 1, count - 1);
	assert_true(become(STRANGER_UID, STRANGER_UID));
	assert_int_equal(api_test_get(test, "/healthz", NULL), 403);
	become_root_again();
}

static void test_readers_leave_room_for_writers(void **state)
{
	const struct api_test *test = *state;
	int fds[CONNECTIONS_MAX];

	skip_unless_root();
	crowd(test, STRANGER_UID, READER_GID, fds, CONNECTIONS_MAX);
	assert_true(become(STRANGER_UID, READER_GID));
	assert_int_equal(api_test_get(test, "/healthz", NULL), 503);
	become_root_again();
	assert_int_equal(api_test_put(test, "/v1/vpcs/main", VPC, NULL), 201);
	for (int i = 0; i < CONNECTIONS_MAX; i++)
		close(fds[i]);
}

// --- Peers that misbehave ---

static void test_pipelined_requests_are_answered_in_order(void **state)
{
	const struct api_test *test = *state;
	scoped_fd int fd = api_test_connect(test);
	scoped_free char *text = NULL;

	api_test_send(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
			  "PUT /v1/vpcs/p HTTP/1.1\r\nHost: x\r\nContent-Length: 27\r\n\r\n" VPC
			  "GET /v1/vpcs/p HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	text = api_test_read(fd, NULL);
	assert_non_null(strstr(text, "ok\n"));
	assert_non_null(strstr(text, "HTTP/1.1 201"));
	assert_non_null(strstr(strstr(text, "HTTP/1.1 201"), "HTTP/1.1 200"));
}

static void test_head_leaves_nothing_before_the_next_reply(void **state)
{
	const struct api_test *test = *state;
	scoped_fd int fd = api_test_connect(test);
	scoped_free char *text = NULL;

	api_test_send(fd, "HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
			  "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	text = api_test_read(fd, NULL);
	assert_non_null(strstr(text, "HTTP/1.1 405"));
	assert_non_null(strstr(text, "\r\n\r\nHTTP/1.1 200"));
}

// Sends until the socket is full; how much that was.
static size_t flood(int fd)
{
	char block[16 * 1024];
	size_t sent = 0;
	ssize_t count;

	memset(block, 'x', sizeof(block));
	while ((count = send(fd, block, sizeof(block), MSG_NOSIGNAL | MSG_DONTWAIT)) > 0)
		sent += (size_t)count;
	assert_true(count < 0 && errno == EAGAIN);
	return sent;
}

// While its first request is held, a peer sends as much as it can. Each answer to somebody else
// shows that the agent had its turn with all that was there.
static void test_pipelined_flood_is_not_buffered(void **state)
{
	const struct api_test *test = *state;
	scoped_fd int fd = -1;
	size_t sent = 0, more;

	api_test_make_network(test);
	assert_int_equal(api_test_put(test, "/v1/tasks/stuck-1", TASK, NULL), 201);
	fd = api_test_begin_get(test, "/v1/tasks/stuck-1?wait=STOPPED&timeout=60");
	do {
		more = flood(fd);
		sent += more;
		assert_true(sent < 16 * 1024 * 1024);
		for (int turn = 0; turn < 3; turn++)
			assert_int_equal(api_test_get(test, "/healthz", NULL), 200);
	} while (more > 0);
}

static void test_slow_request_is_cut_by_an_absolute_deadline(void **state)
{
	const struct api_test *test = *state;
	int64_t begin_us;
	scoped_fd int fd = -1;
	char byte;

	// Answered: nobody else is being accepted while ours is.
	assert_int_equal(api_test_get(test, "/healthz", NULL), 200);
	begin_us = clock_monotonic_us();
	fd = api_test_connect(test);
	api_test_send(fd, "PUT /v1/vpcs/slow HTTP/1.1\r\nHost: x\r\n");
	// A header line now and then keeps an inactivity timeout from ever firing.
	for (;;) {
		struct pollfd ready = {.fd = fd, .events = POLLIN};

		if (poll(&ready, 1, 200) == 1)
			break;
		api_test_send(fd, "X: y\r\n");
		assert_true(clock_monotonic_us() - begin_us < PATIENCE_MS * 1000LL);
	}
	assert_true(read(fd, &byte, 1) <= 0 || byte == 'H');
	assert_true(clock_monotonic_us() - begin_us >= DEADLINE_MS * 1000LL);
}

static void test_connections_are_limited(void **state)
{
	const struct api_test *test = *state;
	int fds[PROCESS_SHARE];
	scoped_free char *body = NULL;

	for (int i = 0; i < PROCESS_SHARE; i++) {
		fds[i] = api_test_begin_get(test, "/healthz");
		api_test_expect_text(fds[i], "ok\n");
	}
	assert_int_equal(api_test_get(test, "/healthz", &body), 503);
	assert_non_null(strstr(body, "\"TooManyConnections\""));
	close(fds[0]);
	assert_int_equal(api_test_get(test, "/healthz", NULL), 200);
	for (int i = 1; i < PROCESS_SHARE; i++)
		close(fds[i]);
	assert_int_equal(api_test_get(test, "/healthz", NULL), 200);
}

static void test_waiter_that_leaves_is_forgotten(void **state)
{
	const struct api_test *test = *state;

	api_test_make_network(test);
	assert_int_equal(api_test_put(test, "/v1/tasks/stuck-1", TASK, NULL), 201);
	for (int i = 0; i < 3 * CONNECTIONS_MAX; i++) {
		int fd = api_test_begin_get(test, "/v1/tasks/stuck-1?wait=STOPPED&timeout=60");

		assert_int_equal(api_test_get(test, "/healthz", NULL), 200);
		close(fd);
	}
	assert_int_equal(api_test_status(test, "POST", "/v1/tasks/stuck-1/stop?wait=STOPPED"), 200);
}

static void test_rubbish_ends_the_connection_only(void **state)
{
	const struct api_test *test = *state;
	static const char *const rubbish[] = {
		"\r\n\r\n\r\n\r\n",
		"GET\r\n\r\n",
		"GET / HTTP/9.9\r\n\r\n",
		"PUT /v1/vpcs/x HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
		"PUT /v1/vpcs/x HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"PUT /v1/vpcs/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"GET http://[::1 HTTP/1.1\r\n\r\n",
		"GET /v1/vpcs?%zz HTTP/1.1\r\n\r\n",
	};

	for (size_t i = 0; i < ARRAY_LENGTH(rubbish); i++) {
		scoped_fd int fd = api_test_connect(test);
		scoped_free char *text = NULL;

		api_test_send(fd, rubbish[i]);
		shutdown(fd, SHUT_WR);
		text = api_test_read(fd, NULL);
		assert_null(strstr(text, "HTTP/1.1 2"));
	}
	assert_int_equal(api_test_get(test, "/healthz", NULL), 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(name)           cmocka_unit_test_setup_teardown(name, start, stop)
#define IMPATIENT_CASE(name) cmocka_unit_test_setup_teardown(name, start_impatient, stop)
		CASE(test_credentials_decide),
		CASE(test_strangers_take_nobody_s_place),
		CASE(test_readers_leave_room_for_writers),
		CASE(test_pipelined_requests_are_answered_in_order),
		CASE(test_head_leaves_nothing_before_the_next_reply),
		CASE(test_pipelined_flood_is_not_buffered),
		IMPATIENT_CASE(test_slow_request_is_cut_by_an_absolute_deadline),
		CASE(test_connections_are_limited),
		CASE(test_waiter_that_leaves_is_forgotten),
		CASE(test_rubbish_ends_the_connection_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
