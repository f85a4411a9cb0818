// SPDX-License-Identifier: Apache-2.0
// Heads of HTTP/1.1 messages (RFC 9112): a strict parser that works in place, without memory of its
// own. It is shared by the API's socket and by the protocol of guest and shim; which headers mean
// something, and the bodies, are the caller's.
//
//     struct http_head head;
//     unsigned status = http_request_head_parse(text, length, &head);
//     if (status)                           // answer it and close
//     for (unsigned i = 0; i < head.count; i++)
//             ... head.fields[i].name, head.fields[i].value ...
//
// Refused with 400: control characters (a bare CR or LF, request smuggling's tool), NUL, folded
// lines, white space before a colon, names that are no tokens.
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { HTTP_FIELDS_MAX = 64 };

struct http_field {
	const char *name, *value; // the value without white space around it
};

// All strings point into the parsed text.
struct http_head {
	const char *method; // request
	char *target;       // request: as it was sent, no white space in it
	unsigned status;    // response
	unsigned minor;     // of the version: HTTP/1.minor, 0 or 1
	struct http_field fields[HTTP_FIELDS_MAX];
	unsigned count;
};

// The length of the head that `text` begins with, with its blank line; 0 when it is not whole yet.
// `scanned` says how many bytes earlier calls have searched, and is updated.
size_t http_head_find(const char *text, size_t length, size_t *scanned);

// `text` ends with the blank line and is changed. 0, or the status of the fault.
unsigned http_request_head_parse(char *text, size_t length, struct http_head *ret_head);
unsigned http_response_head_parse(char *text, size_t length, struct http_head *ret_head);

// The reason phrase of a status.
const char *http_reason(unsigned status);
