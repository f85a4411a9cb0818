// SPDX-License-Identifier: Apache-2.0
// One keep-alive connection of penstock-init to its shim, without blocking: a request is
// begun, driven by poll events, and ends with a response or a failure. A failed
// exchange closes the connection; the next request dials again.
//
//     http_client_begin(&client, HTTP_POST, GUEST_PATH_STATUS, token, body, length, deadline_us);
//     ... poll client.fd for http_client_events(&client) ...
//     switch (http_client_step(&client, now_us, &response, err)) { ... }
#pragma once

#include <netinet/in.h>
#include <stdint.h>

#include "agent/base/buffer.h"
#include "agent/base/error.h"
#include "agent/guest/http.h"

struct http_client {
	struct sockaddr_in peer;
	int fd; // -1 while not connected
	bool busy;
	bool has_response; // the last one, still in the reader
	struct buffer out;
	size_t sent;
	struct http_reader reader;
	int64_t deadline_us; // clock_monotonic_us
};

enum http_client_progress { HTTP_CLIENT_PENDING, HTTP_CLIENT_DONE };

void http_client_open(struct http_client *client, struct sockaddr_in peer, size_t response_max);
void http_client_close(struct http_client *client);

// Only when not busy. Never blocks; failures show in the next step.
void http_client_begin(struct http_client *client, enum http_method method, const char *target,
		       const char *bearer, const void *body, size_t body_length,
		       int64_t deadline_us);
short http_client_events(const struct http_client *client); // poll events, 0 when not busy
// HTTP_CLIENT_PENDING, HTTP_CLIENT_DONE with *ret_response (valid until the next begin), or a
// negative errno (-ETIMEDOUT at the deadline); after the latter two the client is not busy.
int http_client_step(struct http_client *client, int64_t now_us, struct http_message *ret_response,
		     struct error *err);

// Drives a begun request to its end (blocks): 0 with *ret_response, or a negative errno.
int http_client_exchange(struct http_client *client, struct http_message *ret_response,
			 struct error *err);
