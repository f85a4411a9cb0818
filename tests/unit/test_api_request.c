// SPDX-License-Identifier: Apache-2.0
// The reader of the API's requests: framing as RFC 9112 wants it, bounds, pieces of any size.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/api/request.h"
#include "agent/base/scope.h"

enum { BODY_MAX = 100 };

#define PUT     "PUT /v1/vpcs/a?dryRun=true HTTP/1.1\r\nHost: x\r\n"
#define CHUNKED PUT "Transfer-Encoding: chunked\r\n\r\n"

// Reads one request in pieces; how many bytes it took.
static enum request_progress read_in_pieces(struct request_reader *reader, const char *text,
					    size_t count, size_t piece, size_t *ret_taken)
{
	enum request_progress progress = REQUEST_PARTIAL;
	size_t at = 0, limit = 0;

	while (progress != REQUEST_COMPLETE && progress != REQUEST_FAULT &&
	       (at < count || progress == REQUEST_HEAD)) {
		size_t taken;

		limit = at == limit && limit < count ? limit + piece : limit;
		limit = limit > count ? count : limit;
		progress = request_reader_feed(reader, text + at, limit - at, &taken);
		assert_true(taken <= limit - at);
		at += taken;
	}
	*ret_taken = at;
	return progress;
}

static void expect(const char *text, enum request_progress progress, unsigned status,
		   const char *body)
{
	for (size_t piece = 1; piece <= strlen(text); piece = piece * 3 + 1) {
		scoped(request_reader_reset) struct request_reader reader = {.body_max = BODY_MAX};
		size_t taken;
		enum request_progress seen =
			read_in_pieces(&reader, text, strlen(text), piece, &taken);

		if (seen != progress || reader.fault_status != status)
			fail_msg("%d %u (%s) in pieces of %zu: %s", seen, reader.fault_status,
				 reader.fault ? reader.fault : "", piece, text);
		if (!body)
			continue;
		assert_string_equal(buffer_text(&reader.request.body), body);
		assert_string_equal(text + taken, "NEXT");
	}
}

static void test_whole_requests(void **state)
{
	(void)state;
	expect(PUT "\r\nNEXT", REQUEST_COMPLETE, 0, "");
	expect("\r\n" PUT "\r\nNEXT", REQUEST_COMPLETE, 0, "");
	expect("GET http://x/v1/vpcs HTTP/1.1\r\nHost: x\r\n\r\nNEXT", REQUEST_COMPLETE, 0, "");
	expect("GET / HTTP/1.0\r\n\r\nNEXT", REQUEST_COMPLETE, 0, "");
	expect(PUT "Content-Length: 0\r\n\r\nNEXT", REQUEST_COMPLETE, 0, "");
	expect(PUT "content-length:\t3 \r\n\r\nabcNEXT", REQUEST_COMPLETE, 0, "abc");
	expect(CHUNKED "0\r\n\r\nNEXT", REQUEST_COMPLETE, 0, "");
	expect(CHUNKED "3\r\nabc\r\n002\r\nde\r\n0\r\n\r\nNEXT", REQUEST_COMPLETE, 0, "abcde");
}

// RFC 9112, 7.1.1: a recipient must ignore extensions that it does not know.
static void test_chunk_extensions_and_trailers_are_ignored(void **state)
{
	(void)state;
	expect(CHUNKED "3;a=b;c=\"d e\"\r\nabc\r\n2 ;x\r\nde\r\n0;last\r\n\r\nNEXT",
	       REQUEST_COMPLETE, 0, "abcde");
	expect(CHUNKED "1\r\na\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\nNEXT", REQUEST_COMPLETE, 0, "a");
}

// RFC 9112, 6.3: what two readers could see differently is refused.
static void test_ambiguous_framing_is_refused(void **state)
{
	static const char *const heads[] = {
		PUT "Content-Length: 3\r\nContent-Length: 5\r\n\r\n",
		PUT "Content-Length: 3\r\ncontent-length: 3\r\n\r\n",
		PUT "Content-Length: 3, 5\r\n\r\n",
		PUT "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
		PUT "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
		PUT "Content-Length : 3\r\n\r\n",
		PUT "Content-Length: -1\r\n\r\n",
		PUT "Content-Length: +1\r\n\r\n",
		PUT "Content-Length: 0x1\r\n\r\n",
		PUT "Content-Length:\r\n\r\n",
		PUT "X: a\r\n folded\r\n\r\n",
		PUT "X: bare\rCR\r\n\r\n",
		PUT "Host: twice\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\nHost: x\r\n\r\n",
		"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /\x7f HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /#fragment HTTP/1.1\r\nHost: x\r\n\r\n",
		"PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
		CHUNKED "zz\r\n",
		CHUNKED "\r\n",
		CHUNKED "-1\r\n",
		CHUNKED "0x1\r\n",
		CHUNKED "1\nab\r\n",
		CHUNKED "1\r\nab\r\n",
		CHUNKED "1;x\ny\r\n",
		CHUNKED "0\r\nbare\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(heads); i++)
		expect(heads[i], REQUEST_FAULT, 400, NULL);
	expect(PUT "Transfer-Encoding: gzip, chunked\r\n\r\n", REQUEST_FAULT, 501, NULL);
	expect("GET / HTTP/2.0\r\nHost: x\r\n\r\n", REQUEST_FAULT, 505, NULL);
}

static void expect_repeated(const char *begin, const char *part, size_t bytes, unsigned status)
{
	scoped(buffer_release) struct buffer text = {0};

	buffer_adds(&text, begin);
	while (text.length < bytes)
		buffer_adds(&text, part);
	expect(buffer_text(&text), REQUEST_FAULT, status, NULL);
}

static void test_everything_is_bounded(void **state)
{
	(void)state;
	expect(PUT "Content-Length: 101\r\n\r\n", REQUEST_FAULT, 413, NULL);
	expect(PUT "Content-Length: 99999999999999999999999\r\n\r\n", REQUEST_FAULT, 413, NULL);
	expect(CHUNKED "65\r\n", REQUEST_FAULT, 413, NULL);
	expect(CHUNKED "ffffffffffffffffff\r\n", REQUEST_FAULT, 413, NULL);
	expect(CHUNKED "1\r\na\r\n64\r\n", REQUEST_FAULT, 413, NULL);
	expect_repeated("GET /", "x", REQUEST_HEAD_MAX + 1, 431);
	expect_repeated(PUT, "X: y\r\n", REQUEST_HEAD_MAX + 1, 431);
	expect_repeated(CHUNKED, "0", 4096, 400);
	expect_repeated(CHUNKED "1;", "x", 4096, 400);
	expect_repeated(CHUNKED "0\r\n", "X: y\r\n", 8192, 431);
}

static void test_the_head_is_known_before_the_body(void **state)
{
	static const char text[] = PUT "Content-Length: 3\r\nConnection: foo , Close\r\n"
				       "Expect: 100-continue\r\nIf-Match: \"4\"\r\n\r\nabc";
	scoped(request_reader_reset) struct request_reader reader = {.body_max = BODY_MAX};
	size_t taken;

	(void)state;
	assert_true(request_reader_is_idle(&reader));
	assert_int_equal(request_reader_feed(&reader, text, strlen(text), &taken), REQUEST_HEAD);
	assert_int_equal(taken, strlen(text) - 3);
	assert_string_equal(reader.request.method, "PUT");
	assert_string_equal(reader.request.path, "/v1/vpcs/a");
	assert_string_equal(reader.request.query, "dryRun=true");
	assert_string_equal(reader.request.if_match, "\"4\"");
	assert_true(reader.request.has_body && reader.request.expects_continue);
	assert_false(reader.request.keep_alive || request_reader_is_idle(&reader));
}

static void test_queries_are_decoded(void **state)
{
	char good[] = "a%20b+c%2Fd%3d", nul[] = "a%00b", cut[] = "a%2", bad[] = "%zz";

	(void)state;
	assert_true(request_query_decode(good));
	assert_string_equal(good, "a b c/d=");
	assert_false(request_query_decode(nul) || request_query_decode(cut) ||
		     request_query_decode(bad));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_requests),
		cmocka_unit_test(test_chunk_extensions_and_trailers_are_ignored),
		cmocka_unit_test(test_ambiguous_framing_is_refused),
		cmocka_unit_test(test_everything_is_bounded),
		cmocka_unit_test(test_the_head_is_known_before_the_body),
		cmocka_unit_test(test_queries_are_decoded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
