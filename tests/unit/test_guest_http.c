// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "agent/base/clock.h"
#include "agent/base/http_head.h"
#include "agent/base/scope.h"
#include "agent/guest/http_client.h"

static void feed(struct http_reader *reader, const char *bytes, size_t count)
{
	char *place;
	size_t room = http_reader_space(reader, &place);

	assert_true(count <= room);
	memcpy(place, bytes, count);
	http_reader_advance(reader, count);
}

static void test_request_byte_by_byte(void **state)
{
	static const char text[] = "POST /penstock/v1/logs?container=1 HTTP/1.1\r\nHost: x\r\n"
				   "authorization: Bearer abc\r\nContent-Length: 5\r\n\r\nhello";
	scoped(http_reader_close) struct http_reader reader;
	struct http_message message;

	(void)state;
	http_reader_open(&reader, HTTP_REQUEST, 16);
	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		assert_int_equal(http_reader_next(&reader, &message), HTTP_PARTIAL);
		feed(&reader, &text[i], 1);
	}
	assert_int_equal(http_reader_next(&reader, &message), HTTP_COMPLETE);
	assert_int_equal(message.method, HTTP_POST);
	assert_string_equal(message.path, "/penstock/v1/logs");
	assert_string_equal(message.query, "container=1");
	assert_string_equal(message.bearer, "abc");
	assert_true(message.keep_alive);
	assert_int_equal(message.body_length, 5);
	assert_memory_equal(message.body, "hello", 5);
	http_reader_consume(&reader);
	assert_int_equal(http_reader_next(&reader, &message), HTTP_PARTIAL);
}

static void test_pipelined_requests(void **state)
{
	static const char text[] = "GET /a HTTP/1.1\r\n\r\nPOST /b HTTP/1.1\r\nContent-Length: "
				   "2\r\n\r\nxyGET /c HTTP/1.0\r\nConnection: close\r\n\r\n";
	static const char *const paths[] = {"/a", "/b", "/c"};
	scoped(http_reader_close) struct http_reader reader;
	struct http_message message;

	(void)state;
	http_reader_open(&reader, HTTP_REQUEST, 16);
	feed(&reader, text, sizeof(text) - 1);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(http_reader_next(&reader, &message), HTTP_COMPLETE);
		assert_string_equal(message.path, paths[i]);
		assert_int_equal(message.keep_alive, i < 2);
		http_reader_consume(&reader);
	}
	assert_int_equal(http_reader_next(&reader, &message), HTTP_PARTIAL);
}

static const struct {
	const char *text;
	unsigned status;
} faults[] = {
	{"GET /a\r\n\r\n", 400},
	{"GET  /a HTTP/1.1\r\n\r\n", 400},
	{"GET /a b HTTP/1.1\r\n\r\n", 400},
	{" GET /a HTTP/1.1\r\n\r\n", 400},
	{"GET a HTTP/1.1\r\n\r\n", 400},
	{"GET /a HTTP/2.0\r\n\r\n", 505},
	{"GET /a\tb HTTP/1.1\r\n\r\n", 0},
	{"GET /a HTTP/1.1\r\nNo colon\r\n\r\n", 400},
	{"GET /a HTTP/1.1\r\nBad name: x\r\n\r\n", 400},
	{"GET /a HTTP/1.1\r\n: x\r\n\r\n", 400},
	{"GET /a HTTP/1.1\r\nA: x\n b\r\n\r\n", 400},
	{"GET /a HTTP/1.1\r\n folded\r\n\r\n", 400},
	{"GET /a HTTP/1.1\r\nContent-Length: 17\r\n\r\n", 413},
	{"GET /a HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 413},
	{"GET /a HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400},
	{"GET /a HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n", 400},
	{"GET /a HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
	{"GET /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 501},
	{"GET /a HTTP/1.1\r\nExpect: a-miracle\r\n\r\n", 417},
};

static void test_request_faults(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(faults); i++) {
		scoped(http_reader_close) struct http_reader reader;
		struct http_message message;
		enum http_progress progress;

		http_reader_open(&reader, HTTP_REQUEST, 16);
		feed(&reader, faults[i].text, strlen(faults[i].text));
		progress = http_reader_next(&reader, &message);
		assert_int_equal(progress, faults[i].status ? HTTP_FAULT : HTTP_COMPLETE);
		assert_int_equal(reader.fault_status, faults[i].status);
		assert_int_equal(http_reader_next(&reader, &message), progress);
	}
}

static void test_heads_are_bounded(void **state)
{
	scoped(http_reader_close) struct http_reader endless, many, target;
	struct http_message message;
	char line[HTTP_TARGET_MAX + 32];

	(void)state;
	http_reader_open(&endless, HTTP_REQUEST, 0);
	for (int i = 0; i < HTTP_HEAD_MAX; i++) {
		assert_int_equal(http_reader_next(&endless, &message), HTTP_PARTIAL);
		feed(&endless, "x", 1);
	}
	assert_int_equal(http_reader_next(&endless, &message), HTTP_FAULT);
	assert_int_equal(endless.fault_status, 431);

	http_reader_open(&many, HTTP_REQUEST, 0);
	feed(&many, "GET / HTTP/1.1\r\n", 16);
	for (int i = 0; i <= HTTP_FIELDS_MAX; i++)
		feed(&many, "A: b\r\n", 6);
	feed(&many, "\r\n", 2);
	assert_int_equal(http_reader_next(&many, &message), HTTP_FAULT);
	assert_int_equal(many.fault_status, 431);

	http_reader_open(&target, HTTP_REQUEST, 0);
	memset(line, 'a', sizeof(line));
	memcpy(line, "GET /", 5);
	memcpy(line + sizeof(line) - 13, " HTTP/1.1\r\n\r\n", 13);
	feed(&target, line, sizeof(line));
	assert_int_equal(http_reader_next(&target, &message), HTTP_FAULT);
	assert_int_equal(target.fault_status, 414);
}

// A NUL within the head would end the C strings early and hide what follows.
static void test_nul_in_head(void **state)
{
	static const char text[] = "GET /a HTTP/1.1\r\nA: b\0c\r\n\r\n";
	scoped(http_reader_close) struct http_reader reader;
	struct http_message message;

	(void)state;
	http_reader_open(&reader, HTTP_REQUEST, 0);
	feed(&reader, text, sizeof(text) - 1);
	assert_int_equal(http_reader_next(&reader, &message), HTTP_FAULT);
	assert_int_equal(reader.fault_status, 400);
}

static void test_expect_continue(void **state)
{
	static const char text[] =
		"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
	scoped(http_reader_close) struct http_reader reader;
	struct http_message message;

	(void)state;
	http_reader_open(&reader, HTTP_REQUEST, 16);
	feed(&reader, text, sizeof(text) - 1);
	assert_int_equal(http_reader_next(&reader, &message), HTTP_PARTIAL);
	assert_true(reader.expects_continue);
	feed(&reader, "x", 1);
	assert_int_equal(http_reader_next(&reader, &message), HTTP_COMPLETE);
}

static void test_response(void **state)
{
	scoped(buffer_release) struct buffer text = {0};
	scoped(http_reader_close) struct http_reader reader;
	struct http_message message;

	(void)state;
	http_response_head(&text, 200, "text/plain", 2, true);
	buffer_adds(&text, "ok");
	http_response_head(&text, 204, NULL, 0, false);
	http_reader_open(&reader, HTTP_RESPONSE, 16);
	feed(&reader, text.data, text.length);
	assert_int_equal(http_reader_next(&reader, &message), HTTP_COMPLETE);
	assert_int_equal(message.status, 200);
	assert_memory_equal(message.body, "ok", 2);
	http_reader_consume(&reader);
	assert_int_equal(http_reader_next(&reader, &message), HTTP_COMPLETE);
	assert_int_equal(message.status, 204);
	assert_false(message.keep_alive);
}

// ---------------------------------------------------------------- client

enum { PATIENCE_US = 60 * 1000 * 1000 }; // bounds a hang

struct server {
	int fd;
	struct sockaddr_in address;
};

// Bound, and refusing: its port cannot become somebody else's meanwhile.
static struct server bind_here(void)
{
	struct server server = {
		.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
		.address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}},
	};
	socklen_t length = sizeof(server.address);

	assert_return_code(server.fd, errno);
	assert_return_code(bind(server.fd, (struct sockaddr *)&server.address, length), errno);
	getsockname(server.fd, (struct sockaddr *)&server.address, &length);
	return server;
}

static struct server listen_here(void)
{
	struct server server = bind_here();

	assert_return_code(listen(server.fd, 4), errno);
	return server;
}

// Takes one connection, reads a request and answers with `reply`; -1 keeps nothing open.
static void answer(int fd, const char *reply)
{
	char request[1024];

	assert_true(recv(fd, request, sizeof(request), 0) > 0);
	assert_true(send(fd, reply, strlen(reply), 0) > 0);
}

static int step_until_done(struct http_client *client, struct http_message *response,
			   struct error *err)
{
	int result;

	do {
		struct pollfd place = {.fd = client->fd, .events = http_client_events(client)};

		poll(&place, 1, 100);
		result = http_client_step(client, clock_monotonic_us(), response, err);
	} while (result == HTTP_CLIENT_PENDING);
	return result;
}

static int64_t begin(struct http_client *client, const char *target) // returns its deadline
{
	struct http_message ignored;
	int64_t deadline_us = clock_monotonic_us() + PATIENCE_US;
	struct error err;

	http_client_begin(client, HTTP_GET, target, NULL, "", 0, deadline_us);
	assert_int_equal(http_client_step(client, clock_monotonic_us(), &ignored, &err),
			 HTTP_CLIENT_PENDING);
	return deadline_us;
}

static void test_client_keeps_its_connection(void **state)
{
	struct server server = listen_here();
	scoped(http_client_close) struct http_client client;
	struct http_message response;
	struct error err;
	int fd;

	(void)state;
	http_client_open(&client, server.address, 64);
	begin(&client, "/one");
	fd = accept(server.fd, NULL, NULL);
	answer(fd, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none");
	assert_int_equal(step_until_done(&client, &response, &err), HTTP_CLIENT_DONE);
	assert_memory_equal(response.body, "one", 3);
	begin(&client, "/two");
	answer(fd, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
	assert_int_equal(step_until_done(&client, &response, &err), HTTP_CLIENT_DONE);
	assert_int_equal(response.status, 204);
	close(fd);
	begin(&client, "/three"); // dials again, and reads past what comes before the answer
	fd = accept(server.fd, NULL, NULL);
	answer(fd, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n"
		   "\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthree");
	assert_int_equal(step_until_done(&client, &response, &err), HTTP_CLIENT_DONE);
	assert_int_equal(response.status, 200);
	assert_memory_equal(response.body, "three", 5);
	close(fd);
	close(server.fd);
}

static void test_client_failures(void **state)
{
	struct server server = listen_here(), refusing = bind_here();
	scoped(http_client_close) struct http_client client, refused;
	struct http_message response;
	int64_t deadline_us;
	struct error err;
	int fd;

	(void)state;
	http_client_open(&client, server.address, 2);
	deadline_us = begin(&client, "/slow");
	assert_int_equal(http_client_step(&client, deadline_us - 1, &response, &err),
			 HTTP_CLIENT_PENDING);
	assert_int_equal(http_client_step(&client, deadline_us, &response, &err), -ETIMEDOUT);
	assert_int_equal(http_client_events(&client), 0);
	fd = accept(server.fd, NULL, NULL);
	close(fd);
	begin(&client, "/large");
	fd = accept(server.fd, NULL, NULL);
	answer(fd, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n");
	assert_int_equal(step_until_done(&client, &response, &err), -EBADMSG);
	close(fd);
	begin(&client, "/cut");
	fd = accept(server.fd, NULL, NULL);
	answer(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx");
	close(fd);
	assert_int_equal(step_until_done(&client, &response, &err), -ECONNRESET);
	close(server.fd);
	http_client_open(&refused, refusing.address, 2);
	http_client_begin(&refused, HTTP_GET, "/", NULL, "", 0, clock_monotonic_us() + PATIENCE_US);
	assert_int_equal(step_until_done(&refused, &response, &err), -ECONNREFUSED);
	close(refusing.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request_byte_by_byte),
		cmocka_unit_test(test_pipelined_requests),
		cmocka_unit_test(test_request_faults),
		cmocka_unit_test(test_heads_are_bounded),
		cmocka_unit_test(test_nul_in_head),
		cmocka_unit_test(test_expect_continue),
		cmocka_unit_test(test_response),
		cmocka_unit_test(test_client_keeps_its_connection),
		cmocka_unit_test(test_client_failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
