// SPDX-License-Identifier: Apache-2.0
// The connections of the API's socket: accepting, who is there, how many, for how long; requests
// out of their bytes and replies into them.
//
// A connection reads one request at a time. Nothing is read while a request is being answered: what
// a client sends ahead waits in the kernel's buffer, and at most one read's worth of it here. The
// next request begins when the last byte of the reply has gone to the kernel.
//
// Memory of one connection: REQUEST_HEAD_MAX for the head, one read ahead, and a body of up to
// CONNECTION_SMALL_BODY bytes. Of connections with larger bodies there are only so many at a time
// (`large_bodies_max`), so that a storm of half requests cannot fill the host's memory; further
// ones get 503.
//
// Callbacks run from the loop only; no function here calls one before it returns.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "agent/api/request.h"
#include "agent/base/error.h"

struct event;
struct event_base;
struct evbuffer;
struct connections;

enum { CONNECTION_SMALL_BODY = 16 * 1024 };

enum access { ACCESS_NONE, ACCESS_READ, ACCESS_WRITE };

enum standing {
	STANDING_ADMITTED,
	STANDING_REFUSED,  // over a limit: its request gets 503
	STANDING_STRANGER, // may do nothing, and takes nobody's place: its request gets 403
};

struct connection {
	TAILQ_ENTRY(connection) link;
	struct connections *all;
	void *owner; // the user's; NULL between requests
	int fd;
	pid_t pid;
	uid_t uid;
	enum access access;
	enum standing standing;
	struct request_reader reader;

	// Private.
	struct event *readable, *writable;
	struct evbuffer *output;
	struct buffer input; // read ahead
	int64_t deadline_us; // cut after this
	bool answered, keep; // the whole reply is in `output`; keep: another request may follow
	bool unread;         // part of the request was never read
	bool large;          // has a place for a large body
	bool broken;         // cannot be written to, or is to be cut
	size_t discard_left; // while its unread input is discarded before it is closed
};

TAILQ_HEAD(connection_list, connection);

struct connection_ops {
	// A request's head is known (connection->reader.request). False: it is answered without
	// its body.
	bool (*head)(struct connection *connection, void *context);
	void (*complete)(struct connection *connection, void *context);
	// It broke a rule: reader.fault_status, reader.fault. Without an owner its head was not
	// even whole.
	void (*fault)(struct connection *connection, void *context);
	// What was flushed has gone to the kernel (but for a reply of connection_answered()).
	void (*drained)(struct connection *connection, void *context);
	// Its owner must forget it: it is freed afterwards. Only called with an owner.
	void (*gone)(struct connection *connection, void *context);
	void *context;
};

struct connection_limits {
	gid_t writer_gid, reader_gid; // (gid_t)-1: nobody
	unsigned max;
	unsigned deadline_ms; // for a whole request to arrive, and for its reply to be read
	size_t body_bytes_max;
	unsigned large_bodies_max;
};

int connections_open(struct event_base *base, const struct connection_limits *limits,
		     const struct connection_ops *ops, struct connections **ret_connections,
		     struct error *err);
// Accepts on this socket, which it owns from now on, instead of the one before.
int connections_listen(struct connections *connections, int fd, struct error *err);
// Serves a connected socket, which it owns from now on.
void connections_add(struct connections *connections, int fd);
// Closes all of them; owners are told.
void connections_close(struct connections *connections);

// Where its reply goes; sent by the calls below.
struct evbuffer *connection_output(struct connection *connection);
// Sends what there is of a reply that goes on. `drained` follows.
void connection_flush(struct connection *connection);
// The reply is whole: sends it, then takes the next request or closes. The owner is forgotten.
void connection_answered(struct connection *connection, bool keep);
// The same, but the owner hears of `drained` before anything else happens.
void connection_answered_last(struct connection *connection);
// Ends it without more words.
void connection_cut(struct connection *connection);
// No deadline until something is asked of the peer.
void connection_busy(struct connection *connection);
// The peer has something to read, in time.
void connection_await(struct connection *connection);
// Whether another request may follow on it, by what the client said.
bool connection_may_keep(const struct connection *connection);
