// SPDX-License-Identifier: Apache-2.0
// One HTTP/1.1 request out of the bytes of a connection: pure, incremental, bounded.
//
// The reader stops behind the head, so that a request that will be refused is refused before its
// body is read:
//
//     struct request_reader reader = {.body_max = API_BODY_BYTES_MAX};
//     while ((progress = request_reader_feed(&reader, bytes, count, &taken)) != REQUEST_PARTIAL) {
//             bytes += taken; count -= taken;
//             REQUEST_HEAD:     reader.request is known, but for its body; feed again to read it
//             REQUEST_COMPLETE: answer it, then request_reader_reset()
//             REQUEST_FAULT:    answer reader.fault_status and close
//     }
//
// Memory: at most REQUEST_HEAD_MAX bytes of head and body_max bytes of body, each as they arrive.
// Framing follows RFC 9112 section 6.3 and refuses everything that two readers could see
// differently: more than one Content-Length, Content-Length beside Transfer-Encoding, codings other
// than chunked. Chunk extensions (7.1.1) and trailers are bounded and ignored.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/buffer.h"

enum { REQUEST_HEAD_MAX = 16 * 1024 };

enum request_progress {
	REQUEST_PARTIAL, // all bytes were taken, more are needed
	REQUEST_HEAD,    // once for each request
	REQUEST_COMPLETE,
	REQUEST_FAULT,
};

// Strings live until request_reader_reset().
struct request {
	const char *method;
	const char *path, *query;      // no percent-decoding; query "" when absent
	const char *if_match, *accept; // NULL when absent
	unsigned minor;                // of the version
	bool keep_alive;
	bool expects_continue; // the client waits for "100 Continue" before it sends the body
	bool has_body, chunked;
	uint64_t content_length; // of a body that is not chunked
	struct buffer body;
};

enum request_state {
	REQUEST_AT_HEAD,
	REQUEST_AT_BODY, // of Content-Length
	REQUEST_AT_CHUNK_SIZE,
	REQUEST_AT_CHUNK_EXTENSION,
	REQUEST_AT_CHUNK_SIZE_END, // the LF of the size's line
	REQUEST_AT_CHUNK_DATA,
	REQUEST_AT_CHUNK_END, // the CRLF behind the data
	REQUEST_AT_TRAILER,
	REQUEST_AT_END,
};

struct request_reader {
	size_t body_max;
	struct request request;
	unsigned fault_status;
	const char *fault; // what is wrong, for people

	// Private.
	enum request_state state;
	struct buffer head;
	size_t scanned;     // of the head, already searched for its end
	uint64_t left;      // of the body or the chunk
	unsigned line;      // bytes of the current line of chunk size or trailer
	unsigned trailer;   // bytes of all trailers
	bool after_cr;      // the last byte of a trailer was a CR
	bool lone_line_end; // the empty line before a request was skipped already
};

enum request_progress request_reader_feed(struct request_reader *reader, const char *bytes,
					  size_t count, size_t *ret_taken);
// Whether a request has begun to arrive.
bool request_reader_is_idle(const struct request_reader *reader);
// Frees everything of the request; ready for the next one.
void request_reader_reset(struct request_reader *reader);

// Decodes %XX and '+' of a query's name or value in place; false for what is none, and for NUL.
bool request_query_decode(char *text);
