// SPDX-License-Identifier: Apache-2.0
// A small HTTP/1.1 client over a Unix socket: one request per connection, blocking.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/buffer.h"
#include "agent/base/error.h"

enum { CLIENT_TIMEOUT_SECONDS = 30 };

struct client_request {
	const char *socket_path;
	const char *method, *path; // path with its query
	const char *body;          // NULL: none
	const char *if_match;      // NULL: none
	// For all of it; 0: CLIENT_TIMEOUT_SECONDS, which are for the head only with `receive`: a
	// stream goes on for ever.
	uint32_t timeout_seconds;
	int (*begun)(void *context); // or NULL: a successful reply begins. Negative ends it.
	// Gets the body of a successful reply piece by piece instead of ret_reply->body. Negative
	// ends it.
	int (*receive)(const char *bytes, size_t count, void *context);
	void *context;
};

struct client_reply {
	int status;      // 0: no reply, `err` says why
	char reason[48]; // the words behind the status
	char epoch[24];  // Penstock-Epoch, or ""
	struct buffer body;
	struct error err; // code ECONNREFUSED, ENOENT, EACCES: nobody there; ECONNRESET: gone
			  // since; ETIMEDOUT: it hangs
};

// 0 when there is a whole reply of any status, else negative: without `err` it was a callback that
// ended it.
int client_perform(const struct client_request *request, struct client_reply *ret_reply);
void client_reply_release(struct client_reply *reply);
