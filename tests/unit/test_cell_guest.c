// SPDX-License-Identifier: Apache-2.0
// What the shim answers a guest; the guest is this test, dialling through lo.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/buffer.h"
#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/scope.h"
#include "agent/cell/shim.h"
#include "cell_fixture.h"

static char answer[FIXTURE_ANSWER_SIZE];
static char token[GUEST_TOKEN_LENGTH + 1];

static unsigned ask(const struct fixture *fixture, const char *method, const char *target,
		    const char *bearer, const void *body, size_t length)
{
	scoped(buffer_release) struct buffer request = {0};

	buffer_addf(&request, "%s %s HTTP/1.1\r\nHost: 169.254.170.2\r\nConnection: close\r\n",
		    method, target);
	if (bearer)
		buffer_addf(&request, "Authorization: Bearer %s\r\n", bearer);
	if (strcmp(method, "POST") == 0)
		buffer_addf(&request, "Content-Length: %zu\r\n", length);
	buffer_adds(&request, "\r\n");
	if (length > 0)
		buffer_add(&request, body, length);
	return fixture_http(fixture, request.data, request.length, answer);
}

static unsigned get(const struct fixture *fixture, const char *target)
{
	return ask(fixture, "GET", target, token, NULL, 0);
}

static unsigned post(const struct fixture *fixture, const char *target, const char *body)
{
	return ask(fixture, "POST", target, token, body, strlen(body));
}

static const char *answer_body(void)
{
	const char *blank = strstr(answer, "\r\n\r\n");

	return blank ? blank + 4 : "";
}

static void take_session(const struct fixture *fixture)
{
	assert_int_equal(post(fixture, GUEST_PATH_SESSION, ""), 200);
	assert_int_equal(strlen(answer_body()), GUEST_TOKEN_LENGTH);
	memcpy(token, answer_body(), sizeof(token));
}

static int open_guest_cell(void **state)
{
	strcpy(token, "none");
	fixture_setup(state);
	if (*state) {
		fixture_attach_listener(*state);
		fixture_launch(*state, fixture_sleeper, 0);
		fixture_wait(*state, vmm_is_running);
	}
	return 0;
}

static bool guest_is_connected(const struct cell_status *status)
{
	return status->guest_connected_ms > 0;
}

static bool web_has_stopped(const struct cell_status *status)
{
	return status->guest.containers[0].state == GUEST_CONTAINER_STOPPED;
}

static void test_session_only_once(void **state)
{
	struct fixture *fixture = fixture_of(state);

	take_session(fixture);
	fixture_wait(fixture, guest_is_connected);
	assert_int_equal(post(fixture, GUEST_PATH_SESSION, ""), 403);
	assert_int_equal(get(fixture, GUEST_PATH_MANIFEST), 200);
	assert_non_null(strstr(answer_body(), "container"));
}

// A container that overheard the token cannot read its siblings' environment with it.
static void test_no_manifest_once_containers_may_run(void **state)
{
	struct fixture *fixture = fixture_of(state);

	take_session(fixture);
	assert_int_equal(get(fixture, GUEST_PATH_MANIFEST), 200);
	assert_int_equal(get(fixture, GUEST_PATH_MANIFEST), 200); // its answer may have been lost
	assert_int_equal(
		post(fixture, GUEST_PATH_LOGS "?container=0&stream=stdout&sequence=1", "x"), 204);
	assert_int_equal(get(fixture, GUEST_PATH_MANIFEST), 403);
}

static void test_token_is_needed(void **state)
{
	static const struct {
		const char *method, *path;
	} guarded[] = {{"GET", GUEST_PATH_MANIFEST},
		       {"GET", GUEST_PATH_COMMANDS},
		       {"POST", GUEST_PATH_STATUS},
		       {"POST", GUEST_PATH_LOGS "?container=0&stream=stdout&sequence=1"}};
	struct fixture *fixture = fixture_of(state);
	char wrong[GUEST_TOKEN_LENGTH + 1];

	assert_int_equal(get(fixture, GUEST_PATH_MANIFEST), 403); // nobody has a session yet
	take_session(fixture);
	memcpy(wrong, token, sizeof(wrong));
	wrong[GUEST_TOKEN_LENGTH - 1] ^= 1;
	for (size_t i = 0; i < ARRAY_LENGTH(guarded); i++) {
		const char *method = guarded[i].method, *path = guarded[i].path;

		assert_int_equal(ask(fixture, method, path, NULL, NULL, 0), 403);
		assert_int_equal(ask(fixture, method, path, wrong, NULL, 0), 403);
		assert_int_equal(ask(fixture, method, path, "", NULL, 0), 403);
	}
}

static void test_metadata_is_open(void **state)
{
	static const char *const refused[] = {
		"/v4/0f3c-9",
		"/v4/",
		"/v4/../manifest",
		"/v4/..%2fmanifest",
		"/v4/0f3c-1/../task",
		"/v4/task",
		"/v4/0f3c-1/stats",
		"/v4/0f3c-1/",
		"/v4/0F3C-1",
		"/v4/.0f3c-1.json.new",
		"/",
		"/v4/0f3c-9/task",
	};
	struct fixture *fixture = fixture_of(state);

	assert_int_equal(ask(fixture, "GET", "/v4/0f3c-1", NULL, NULL, 0), 200);
	assert_string_equal(answer_body(), "{\"DockerName\":\"c\"}");
	assert_int_equal(ask(fixture, "GET", "/v4/0f3c-2/task", NULL, NULL, 0), 200);
	assert_string_equal(answer_body(), "{\"TaskARN\":\"t-1\"}");
	for (size_t i = 0; i < ARRAY_LENGTH(refused); i++)
		assert_int_equal(ask(fixture, "GET", refused[i], NULL, NULL, 0), 404);
	assert_int_equal(ask(fixture, "POST", "/v4/0f3c-1", NULL, "x", 1), 405);
}

static void test_malformed_requests(void **state)
{
	static const struct {
		const char *text;
		unsigned status;
	} cases[] = {
		{"GET / HTTP/1.1 x\r\n\r\n", 400},
		{"\r\n\r\n", 400},
		{"GET /v4/0f3c-1 HTTP/2.0\r\n\r\n", 505},
		{"POST /penstock/v1/session HTTP/1.1\r\nContent-Length: 999999\r\n\r\n", 413},
		{"POST /penstock/v1/session HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 501},
		{"POST /penstock/v1/session HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400},
		{"DELETE /penstock/v1/session HTTP/1.1\r\nConnection: close\r\n\r\n", 405},
	};
	struct fixture *fixture = fixture_of(state);
	scoped(buffer_release) struct buffer large = {0};

	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++)
		assert_int_equal(
			fixture_http(fixture, cases[i].text, strlen(cases[i].text), answer),
			cases[i].status);
	buffer_adds(&large, "GET /v4/0f3c-1 HTTP/1.1\r\n");
	while (large.length < 60000)
		buffer_adds(&large, "X-Header: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n");
	assert_int_equal(fixture_http(fixture, large.data, large.length, answer), 431);
	take_session(fixture); // none of these was a session
}

static void test_bad_indexes(void **state)
{
	static const char *const refused[] = {"?container=2&stream=stdout&sequence=1",
					      "?container=-1&stream=stdout&sequence=1",
					      "?container=99999999999&stream=stdout&sequence=1",
					      "?container=0&stream=../x&sequence=1",
					      "?container=0&stream=stdout&sequence=x",
					      ""};
	struct fixture *fixture = fixture_of(state);
	char path[128];

	take_session(fixture);
	for (size_t i = 0; i < ARRAY_LENGTH(refused); i++) {
		snprintf(path, sizeof(path), GUEST_PATH_LOGS "%s", refused[i]);
		assert_int_equal(post(fixture, path, "text\n"), 400);
	}
	assert_int_equal(post(fixture, GUEST_PATH_STATUS, "nonsense\n"), 400);
	assert_int_equal(get(fixture, GUEST_PATH_COMMANDS "?after=x"), 400);
}

static void post_log(const struct fixture *fixture, const char *stream, unsigned sequence,
		     const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), GUEST_PATH_LOGS "?container=1&stream=%s&sequence=%u", stream,
		 sequence);
	assert_int_equal(post(fixture, path, text), 204);
}

static void test_logs_resume(void **state)
{
	struct fixture *fixture = fixture_of(state);
	scoped_fd int log = -1;
	struct error err = {0};
	char text[1024];
	ssize_t count;

	take_session(fixture);
	post_log(fixture, "stdout", 1, "one\n");
	post_log(fixture, "stdout", 1, "one\n"); // the answer was lost: sent again
	post_log(fixture, "stderr", 1, "two\n");
	post_log(fixture, "stdout", 2, "three\n");
	assert_int_equal(cell_log_open(&fixture->cell, "sidecar", false, &log, &err), 0);
	count = read(log, text, sizeof(text) - 1);
	assert_true(count > 0);
	text[count] = '\0';
	assert_non_null(strstr(text, " stdout F one\n"));
	assert_null(strstr(strstr(text, " F one") + 1, " F one"));
	assert_non_null(strstr(text, " stderr F two\n"));
	assert_non_null(strstr(text, " stdout F three\n"));
}

static void test_exit_code_is_durable(void **state)
{
	struct fixture *fixture = fixture_of(state);
	scoped(buffer_release) struct buffer document = {0};
	struct guest_status said = {.phase = GUEST_PHASE_RUNNING, .container_count = 2};
	struct cell_status saved;
	struct error err = {0};

	take_session(fixture);
	said.containers[0] = (struct guest_container_status){
		.state = GUEST_CONTAINER_STOPPED, .exit_code = 42, .reason = "exited"};
	assert_int_equal(guest_status_encode(&said, &document, &err), 0);
	assert_int_equal(post(fixture, GUEST_PATH_STATUS, document.data), 204);
	assert_int_equal(cell_status_read(&fixture->cell, &saved, &err), 0); // before the answer
	assert_int_equal(saved.guest.containers[0].exit_code, 42);
	fixture_wait(fixture, web_has_stopped);
	assert_int_equal(fixture->status.guest.containers[0].exit_code, 42);
	assert_string_equal(fixture->status.guest.containers[0].reason, "exited");
	assert_true(fixture->status.guest_running_ms > 0);
}

// A guest may power off after a 204: what could not be saved is not answered so.
static void test_exit_code_waits_for_the_disk(void **state)
{
	struct fixture *fixture = fixture_of(state);
	struct guest_status said = {.phase = GUEST_PHASE_RUNNING, .container_count = 2};
	scoped(buffer_release) struct buffer document = {0};
	struct cell_status saved;
	struct error err = {0};
	scoped_fd int cell_fd = -1;

	take_session(fixture);
	said.containers[0] =
		(struct guest_container_status){.state = GUEST_CONTAINER_STOPPED, .exit_code = 42};
	assert_int_equal(guest_status_encode(&said, &document, &err), 0);
	assert_int_equal(cell_directory_open(&fixture->cell, &cell_fd, &err), 0);
	assert_int_equal(fchmodat(cell_fd, "shim", 0500, 0), 0);
	assert_int_equal(post(fixture, GUEST_PATH_STATUS, document.data), 503);
	assert_int_equal(post(fixture, GUEST_PATH_STATUS, document.data), 503);
	assert_int_equal(fchmodat(cell_fd, "shim", 0750, 0), 0);
	assert_int_equal(post(fixture, GUEST_PATH_STATUS, document.data), 204);
	assert_int_equal(cell_status_read(&fixture->cell, &saved, &err), 0);
	assert_int_equal(saved.guest.containers[0].exit_code, 42);
}

static enum guest_health last_said;

static bool has_last_said(const struct cell_status *status)
{
	return status->guest.containers[0].health == last_said;
}

// The agent hears of a guest that keeps changing its mind ten times a second, and of the last in
// the end.
static void test_flapping_is_not_passed_on(void **state)
{
	enum { FLAPS = 101, INTERVAL_US = 100000 };
	struct fixture *fixture = fixture_of(state);
	struct guest_status said = {.phase = GUEST_PHASE_CONNECTED, .container_count = 2};
	int64_t begin_us = clock_monotonic_us();
	struct cell_status snapshot;
	struct error err = {0};
	int64_t snapshots = 0;

	take_session(fixture);
	for (int i = 0; i < FLAPS; i++) {
		scoped(buffer_release) struct buffer document = {0};

		last_said = i % 2 ? GUEST_HEALTH_UNHEALTHY : GUEST_HEALTH_HEALTHY;
		said.containers[0].health = last_said;
		assert_int_equal(guest_status_encode(&said, &document, &err), 0);
		assert_int_equal(post(fixture, GUEST_PATH_STATUS, document.data), 204);
		while (cell_status_receive(fixture->channel_fd, &snapshot, &err) == 1)
			snapshots++;
	}
	assert_in_range(snapshots, 0, 3 + (clock_monotonic_us() - begin_us) / INTERVAL_US);

	last_said = GUEST_HEALTH_UNKNOWN;
	said.containers[0].health = last_said;
	scoped(buffer_release) struct buffer document = {0};

	assert_int_equal(guest_status_encode(&said, &document, &err), 0);
	assert_int_equal(post(fixture, GUEST_PATH_STATUS, document.data), 204);
	fixture_wait(fixture, has_last_said);
}

static void test_stop_reaches_the_long_poll(void **state)
{
	struct fixture *fixture = fixture_of(state);
	scoped_fd int fd = -1;
	scoped(buffer_release) struct buffer request = {0};
	struct guest_commands commands;
	struct error err = {0};
	struct pollfd readable;
	ssize_t count;

	take_session(fixture);
	fd = fixture_dial(fixture);
	buffer_addf(&request,
		    "GET " GUEST_PATH_COMMANDS
		    "?after=0 HTTP/1.1\r\nAuthorization: Bearer %s\r\n\r\n",
		    token);
	assert_true(send(fd, request.data, request.length, MSG_NOSIGNAL) > 0);
	// A later connection was answered: this one was heard, too, and waits.
	assert_int_equal(get(fixture, "/v4/0f3c-1/task"), 200);
	readable = (struct pollfd){.fd = fd, .events = POLLIN};
	assert_int_equal(poll(&readable, 1, 0), 0);
	assert_int_equal(shim_stop(fixture->channel_fd, &err), 0);
	count = recv(fd, answer, sizeof(answer) - 1, 0);
	assert_true(count > 0);
	answer[count] = '\0';
	assert_int_equal(
		guest_commands_decode(answer_body(), strlen(answer_body()), &commands, &err), 0);
	assert_int_equal(commands.count, 1);
	assert_int_equal(commands.commands[0].verb, GUEST_VERB_STOP);
	assert_int_equal(get(fixture, GUEST_PATH_COMMANDS "?after=0"), 200); // for who missed it
}

static void test_connection_is_kept(void **state)
{
	struct fixture *fixture = fixture_of(state);
	static const char request[] = "GET /v4/0f3c-1 HTTP/1.1\r\n\r\n"
				      "GET /v4/0f3c-1/task HTTP/1.1\r\nConnection: close\r\n\r\n";

	assert_int_equal(fixture_http(fixture, request, sizeof(request) - 1, answer), 200);
	assert_non_null(strstr(answer, "DockerName"));
	assert_non_null(strstr(answer, "TaskARN"));
}

// An orderly close would leave the kernel with what this peer does not acknowledge.
static void assert_was_reset(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
}

// Sixteen that hold a connection and say nothing do not lock the token's holder out.
static void test_too_many_connections(void **state)
{
	struct fixture *fixture = fixture_of(state);
	int held[20];

	take_session(fixture);
	for (size_t i = 0; i < ARRAY_LENGTH(held); i++)
		held[i] = fixture_dial(fixture);
	assert_int_equal(get(fixture, GUEST_PATH_MANIFEST), 200);
	assert_was_reset(held[0]);
	for (size_t i = 0; i < ARRAY_LENGTH(held); i++)
		close(held[i]);
	assert_int_equal(get(fixture, GUEST_PATH_MANIFEST), 200);
}

// On a connection that is kept.
static void ask_for_manifest(int fd)
{
	scoped(buffer_release) struct buffer request = {0};
	ssize_t count;

	buffer_addf(&request,
		    "GET " GUEST_PATH_MANIFEST " HTTP/1.1\r\nAuthorization: Bearer %s\r\n\r\n",
		    token);
	assert_int_equal(send(fd, request.data, request.length, MSG_NOSIGNAL), request.length);
	count = recv(fd, answer, sizeof(answer) - 1, 0);
	assert_true(count > 0);
	assert_memory_equal(answer, "HTTP/1.1 200", 12);
}

static void trickle_until_cut(int fd, int64_t begin_us)
{
	struct pollfd closed = {.fd = fd, .events = POLLIN};

	while (send(fd, "G", 1, MSG_NOSIGNAL) == 1 && poll(&closed, 1, 500) == 0)
		assert_true(clock_monotonic_us() - begin_us < FIXTURE_WAIT_MS * 1000LL);
	assert_true(clock_monotonic_us() - begin_us >= SHIM_REQUEST_DEADLINE_US);
}

// A request that trickles in, byte by byte, ends at the absolute deadline: one with the token, too.
// Between two requests penstock-init has all the time, and need not dial again.
static void test_slow_request_is_cut(void **state)
{
	struct fixture *fixture = fixture_of(state);
	scoped_fd int init = fixture_dial(fixture), trickling = fixture_dial(fixture);
	scoped_fd int stranger = fixture_dial(fixture);
	int64_t begin_us;

	take_session(fixture);
	ask_for_manifest(init);
	ask_for_manifest(trickling);
	begin_us = clock_monotonic_us();
	trickle_until_cut(trickling, begin_us);
	assert_was_reset(stranger);
	ask_for_manifest(init);
}

#define GUEST_TEST(test) cmocka_unit_test_setup_teardown(test, open_guest_cell, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		GUEST_TEST(test_session_only_once),
		GUEST_TEST(test_token_is_needed),
		GUEST_TEST(test_no_manifest_once_containers_may_run),
		GUEST_TEST(test_metadata_is_open),
		GUEST_TEST(test_malformed_requests),
		GUEST_TEST(test_bad_indexes),
		GUEST_TEST(test_logs_resume),
		GUEST_TEST(test_exit_code_is_durable),
		GUEST_TEST(test_flapping_is_not_passed_on),
		GUEST_TEST(test_exit_code_waits_for_the_disk),
		GUEST_TEST(test_stop_reaches_the_long_poll),
		GUEST_TEST(test_connection_is_kept),
		GUEST_TEST(test_too_many_connections),
		GUEST_TEST(test_slow_request_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
