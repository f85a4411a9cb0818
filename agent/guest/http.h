// SPDX-License-Identifier: Apache-2.0
// The little of HTTP/1.1 that guest and shim speak: bounded, incremental, pure.
// The reader owns one buffer of fixed size; nothing a peer sends makes it grow.
//
// A request reader takes GET and POST, Content-Length bodies (no chunked coding), and of
// the headers Content-Length, Transfer-Encoding (refused), Authorization, Connection and Expect.
// A server uses it so:
//
//     struct http_reader reader;
//     http_reader_open(&reader, HTTP_REQUEST, GUEST_BODY_MAX);
//     ... readable:
//     char *place;
//     size_t room = http_reader_space(&reader, &place);
//     ssize_t count = recv(fd, place, room, 0);
//     http_reader_advance(&reader, (size_t)count);
//     while ((progress = http_reader_next(&reader, &message)) == HTTP_COMPLETE) {
//             ... answer message ...       // its strings live until http_reader_consume
//             http_reader_consume(&reader);
//     }
//     if (progress == HTTP_FAULT)          // answer reader.fault_status and close
//
// A response reader reads past interim answers (1xx). There is always space while next() says
// HTTP_PARTIAL. Deadlines and the number of connections are the caller's.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/buffer.h"

enum {
	HTTP_HEAD_MAX = 4096,   // request line or status line, and headers
	HTTP_TARGET_MAX = 1024, // path and query
	HTTP_BEARER_MAX = 128,
};

enum http_kind { HTTP_REQUEST, HTTP_RESPONSE };

enum http_progress {
	HTTP_PARTIAL,  // more bytes are needed
	HTTP_COMPLETE, // one message is whole
	HTTP_FAULT,    // the peer broke a rule: the connection is of no more use
};

enum http_method { HTTP_GET, HTTP_POST, HTTP_METHOD_OTHER };

struct http_message {
	enum http_method method; // request
	const char *path;        // request: begins with '/', NUL-terminated, no percent-decoding
	const char *query;       // request: after '?', "" when absent
	const char *bearer;      // request: token of "Authorization: Bearer ...", "" when absent
	unsigned status;         // response
	bool keep_alive;
	const char *body; // not NUL-terminated
	size_t body_length;
};

struct http_reader {
	enum http_kind kind;
	char *data; // owned
	size_t capacity, length;
	size_t body_max;
	size_t head_length; // 0 until the head is whole; with its blank line
	size_t scanned;     // bytes already searched for the end of the head
	unsigned fault_status;
	bool expects_continue; // the client waits for "100 Continue" (curl does)
	struct http_message message;
};

void http_reader_open(struct http_reader *reader, enum http_kind kind, size_t body_max);
void http_reader_close(struct http_reader *reader);
size_t http_reader_space(struct http_reader *reader, char **ret_place);
void http_reader_advance(struct http_reader *reader, size_t count);
enum http_progress http_reader_next(struct http_reader *reader, struct http_message *ret_message);
void http_reader_consume(struct http_reader *reader);

// Appends a response head: status line, Content-Type (NULL: none), Content-Length, Connection.
void http_response_head(struct buffer *out, unsigned status, const char *content_type,
			size_t body_length, bool keep_alive);
// Appends a request head; bearer may be NULL.
void http_request_head(struct buffer *out, enum http_method method, const char *target,
		       const char *host, const char *bearer, size_t body_length);
