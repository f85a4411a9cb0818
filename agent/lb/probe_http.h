// SPDX-License-Identifier: Apache-2.0
// The start of an HTTP/1 response, all that a health check needs of it: the status line of the
// final answer. Interim ones (100 Continue, 103 Early Hints; RFC 9110, 15.2) may come before it,
// any number of them, each a head without a body. 101 Switching Protocols is a final answer.
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum {
	PROBE_STATUS_LENGTH = 13,  // "HTTP/1.1 200 ": no more is read of the final answer
	PROBE_INTERIM_MAX = 16384, // bytes of all interim answers together
};

// Zeroed, it waits for the first byte.
struct probe_http {
	char line[PROBE_STATUS_LENGTH];
	size_t line_length;
	bool interim;    // the rest of this head is read past
	bool line_begun; // ... where the line has a byte already
	size_t read;     // bytes taken so far
};

// How many bytes it can take now.
size_t probe_http_room(const struct probe_http *http);
// Takes bytes, at most as many as there is room. The status code of the final answer (101 or 200
// ... 599), 0 when more bytes are needed, -EBADMSG for anything that is not the start of an
// HTTP/1.0 or 1.1 response, or goes on with interim ones for too long.
int probe_http_take(struct probe_http *http, const char *bytes, size_t length);
