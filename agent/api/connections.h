// SPDX-License-Identifier: Apache-2.0
// The connections of the API's socket: who is there, how many, and for how long.
//
// evhttp (libevent 2.1) tells nobody when it closes a connection, has only timeouts of
// inactivity and no limit of connections. So the connections are counted here from
// outside: each is known by its descriptor *and* the inode of its socket, which no later
// socket shares; a look at both says whether it is still there, and shutdown(2) ends
// one that is overdue – evhttp then sees end-of-file and cleans up by itself.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/base/error.h"

struct event_base;
struct evhttp;
struct bufferevent;
struct connections;

enum access { ACCESS_NONE, ACCESS_READ, ACCESS_WRITE };

enum standing {
	STANDING_NEW, // not identified yet
	STANDING_ADMITTED,
	STANDING_REFUSED,  // over the limit: its request gets 503
	STANDING_STRANGER, // may do nothing, and takes nobody's place: its request gets 403
};

struct connection {
	struct connection *next;
	struct bufferevent *bufferevent;
	const struct evbuffer *input; // of the bufferevent
	size_t input_bytes_max;       // a connection with more unread input is shut down
	int fd;                       // -1 until it is known
	ino_t inode;
	pid_t pid;
	uid_t uid;
	enum access access;
	enum standing standing;
	int64_t deadline_us; // shut down after this
};

struct connection_limits {
	gid_t writer_gid, reader_gid; // (gid_t)-1: nobody
	unsigned max; // polite refusals from here on, impolite ones after as many of these
	unsigned deadline_ms;
	size_t input_bytes_max; // unread input of one connection
};

// Installs itself as the maker of evhttp's bufferevents.
int connections_open(struct event_base *base, struct evhttp *http,
		     const struct connection_limits *limits, struct connections **ret_connections,
		     struct error *err);
void connections_close(struct connections *connections);

// The connection of that bufferevent; NULL when it is unknown.
struct connection *connections_find(struct connections *connections,
				    const struct bufferevent *bufferevent);
// A whole request has arrived: no deadline until the reply.
void connection_busy(struct connection *connection);
// The reply is on its way: it has to be read, and the next request to arrive, in time.
void connection_replied(struct connections *connections, struct connection *connection);
// evhttp closes it now.
void connections_forget(struct connections *connections, struct connection *connection);
