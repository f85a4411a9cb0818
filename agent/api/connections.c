// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>

#include "agent/api/connections.h"
#include "agent/base/clock.h"
#include "agent/base/scope.h"

enum {
	SWEEP_SECONDS = 1,
	GROUPS_ON_STACK = 256,
	WRITERS_SHARE = 8, // one connection of so many is kept for those who may write
	STRANGERS_MAX = 8,
	STRANGER_INPUT_BYTES_MAX = 64 * 1024,
};

struct connections {
	struct event_base *base;
	struct connection_limits limits;
	struct event *meet;  // activated by hand: new connections have their descriptors now
	struct event *sweep; // pending only while there are connections
	struct connection *first;
	unsigned count;
};

// --- Who is there ---

static bool groups_contain(const gid_t *groups, size_t count, gid_t group)
{
	for (size_t i = 0; i < count; i++)
		if (groups[i] == group)
			return true;
	return false;
}

static enum access access_of(const struct connection_limits *limits, const struct ucred *peer,
			     const gid_t *groups, size_t count)
{
	const struct {
		gid_t group;
		enum access access;
	} grants[] = {{limits->writer_gid, ACCESS_WRITE}, {limits->reader_gid, ACCESS_READ}};

	if (peer->uid == 0 || peer->uid == geteuid())
		return ACCESS_WRITE;
	for (size_t i = 0; i < ARRAY_LENGTH(grants); i++)
		if (grants[i].group != (gid_t)-1 &&
		    (peer->gid == grants[i].group ||
		     groups_contain(groups, count, grants[i].group)))
			return grants[i].access;
	return ACCESS_NONE;
}

static void peer_identify(const struct connection_limits *limits, struct connection *connection)
{
	gid_t few[GROUPS_ON_STACK];
	scoped_free gid_t *many = NULL;
	gid_t *groups = few;
	struct ucred peer;
	socklen_t size = sizeof(peer), group_bytes = sizeof(few);

	connection->access = ACCESS_NONE;
	if (getsockopt(connection->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return;
	connection->pid = peer.pid;
	connection->uid = peer.uid;
	if (getsockopt(connection->fd, SOL_SOCKET, SO_PEERGROUPS, few, &group_bytes) < 0) {
		if (errno != ERANGE) // which sets group_bytes to what it takes
			return;
		many = malloc(group_bytes);
		if (!many ||
		    getsockopt(connection->fd, SOL_SOCKET, SO_PEERGROUPS, many, &group_bytes) < 0)
			return;
		groups = many;
	}
	connection->access = access_of(limits, &peer, groups, group_bytes / sizeof(gid_t));
}

// --- How many, and for how long ---

static int64_t deadline_from_now(const struct connections *connections)
{
	return clock_monotonic_us() + (int64_t)connections->limits.deadline_ms * 1000;
}

static bool socket_inode(int fd, ino_t *ret_inode)
{
	struct stat status;

	if (fd < 0 || fstat(fd, &status) < 0 || !S_ISSOCK(status.st_mode))
		return false;
	*ret_inode = status.st_ino;
	return true;
}

static bool is_alive(const struct connection *connection)
{
	ino_t inode;

	return connection->fd < 0 ||
	       (socket_inode(connection->fd, &inode) && inode == connection->inode);
}

// Open, and its peer has not gone away.
static bool is_present(const struct connection *connection)
{
	struct pollfd peer = {.fd = connection->fd, .events = POLLRDHUP};

	return connection->fd < 0 || (is_alive(connection) && poll(&peer, 1, 0) == 0);
}

// Whether peers hold more of them: evhttp hears of an end later than of a beginning.
static bool exceeds(const struct connections *connections, enum standing standing, unsigned max)
{
	unsigned listed = 0, present = 0;

	for (const struct connection *c = connections->first; c; c = c->next)
		listed += c->standing == standing;
	if (listed <= max)
		return false;
	for (const struct connection *c = connections->first; c; c = c->next)
		present += c->standing == standing && is_present(c);
	return present > max;
}

static void unlink_at(struct connections *connections, struct connection **place)
{
	struct connection *connection = *place;

	*place = connection->next;
	connections->count--;
	free(connection);
	if (connections->count == 0)
		event_del(connections->sweep);
}

static void sweep(evutil_socket_t fd, short what, void *context)
{
	struct connections *connections = context;
	struct connection **place = &connections->first;
	int64_t now_us = clock_monotonic_us();

	(void)fd;
	(void)what;
	while (*place) {
		struct connection *connection = *place;

		if (!is_alive(connection)) {
			unlink_at(connections, place);
			continue;
		}
		if (connection->fd >= 0 && connection->deadline_us < now_us)
			shutdown(connection->fd, SHUT_RDWR);
		place = &connection->next;
	}
}

// A request is read before it is known what it asks for. A stranger's never gets whole, nor an
// answer, when its body is longer than this; in chunks it does, up to the limit of all bodies:
// hence so few strangers at a time.
static void keep_apart(const struct connections *connections, struct connection *stranger)
{
	stranger->standing = STANDING_STRANGER;
	stranger->input_bytes_max = STRANGER_INPUT_BYTES_MAX;
	if (exceeds(connections, STANDING_STRANGER, STRANGERS_MAX))
		shutdown(stranger->fd, SHUT_RDWR);
}

static void admit(const struct connections *connections, struct connection *connection)
{
	unsigned max = connections->limits.max;

	if (connection->access != ACCESS_WRITE)
		max -= max / WRITERS_SHARE;
	connection->standing = STANDING_ADMITTED;
	if (!exceeds(connections, STANDING_ADMITTED, max))
		return;
	connection->standing = STANDING_REFUSED;
	if (exceeds(connections, STANDING_REFUSED, connections->limits.max))
		shutdown(connection->fd, SHUT_RDWR);
}

// Runs right after evhttp accepted: only now do the bufferevents have their descriptors.
static void meet(evutil_socket_t fd, short what, void *context)
{
	struct connections *connections = context;

	(void)fd;
	(void)what;
	for (struct connection *c = connections->first; c; c = c->next) {
		if (c->fd >= 0)
			continue;
		c->fd = bufferevent_getfd(c->bufferevent);
		if (!socket_inode(c->fd, &c->inode)) {
			c->fd = -1;
			continue;
		}
		peer_identify(&connections->limits, c);
		if (c->access == ACCESS_NONE)
			keep_apart(connections, c);
		else
			admit(connections, c);
	}
}

// A bufferevent at the address of an old one: the old connection is gone.
static void forget_predecessor(struct connections *connections,
			       const struct bufferevent *bufferevent)
{
	struct connection *old = connections_find(connections, bufferevent);

	if (old)
		connections_forget(connections, old);
}

// Who came first is met first.
static void append(struct connections *connections, struct connection *connection)
{
	struct connection **end = &connections->first;

	while (*end)
		end = &(*end)->next;
	*end = connection;
}

// A connection whose unread input exceeds its limit is shut down. A high read watermark must not be
// used for this: while the input stands at the mark and evhttp does not drain it,
// bufferevent_inbuf_wm_check() of libevent 2.1 schedules the read callback again and again, and
// event_base_loop() never returns.
static void on_input(struct evbuffer *input, const struct evbuffer_cb_info *info, void *context)
{
	struct connections *connections = context;
	struct connection *connection = connections->first;

	if (info->n_added == 0)
		return;
	while (connection && connection->input != input)
		connection = connection->next;
	if (connection && connection->fd >= 0 &&
	    evbuffer_get_length(input) > connection->input_bytes_max)
		shutdown(connection->fd, SHUT_RDWR);
}

static struct bufferevent *make_bufferevent(struct event_base *base, void *context)
{
	struct connections *connections = context;
	const struct timeval interval = {.tv_sec = SWEEP_SECONDS};
	struct bufferevent *bufferevent = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	struct connection *connection = calloc(1, sizeof(*connection));

	if (!bufferevent || !connection)
		abort(); // out of memory, as everywhere
	evbuffer_add_cb(bufferevent_get_input(bufferevent), on_input, connections);
	forget_predecessor(connections, bufferevent);
	connection->bufferevent = bufferevent;
	connection->input = bufferevent_get_input(bufferevent);
	connection->input_bytes_max = connections->limits.input_bytes_max;
	connection->fd = -1;
	connection->deadline_us = deadline_from_now(connections);
	append(connections, connection);
	if (connections->count++ == 0)
		event_add(connections->sweep, &interval);
	event_active(connections->meet, 0, 0);
	return bufferevent;
}

int connections_open(struct event_base *base, struct evhttp *http,
		     const struct connection_limits *limits, struct connections **ret_connections,
		     struct error *err)
{
	struct connections *connections = calloc(1, sizeof(*connections));

	if (!connections)
		return error_set(err, ENOMEM, "api: out of memory");
	connections->base = base;
	connections->limits = *limits;
	connections->meet = event_new(base, -1, 0, meet, connections);
	connections->sweep = event_new(base, -1, EV_PERSIST, sweep, connections);
	if (!connections->meet || !connections->sweep) {
		connections_close(connections);
		return error_set(err, ENOMEM, "api: out of memory");
	}
	evhttp_set_bevcb(http, make_bufferevent, connections);
	*ret_connections = connections;
	return 0;
}

void connections_close(struct connections *connections)
{
	if (!connections)
		return;
	while (connections->first)
		unlink_at(connections, &connections->first);
	if (connections->meet)
		event_free(connections->meet);
	if (connections->sweep)
		event_free(connections->sweep);
	free(connections);
}

struct connection *connections_find(struct connections *connections,
				    const struct bufferevent *bufferevent)
{
	for (struct connection *c = connections->first; c; c = c->next)
		if (c->bufferevent == bufferevent)
			return c;
	return NULL;
}

void connection_busy(struct connection *connection)
{
	connection->deadline_us = INT64_MAX;
}

void connection_replied(struct connections *connections, struct connection *connection)
{
	connection->deadline_us = deadline_from_now(connections);
}

void connections_forget(struct connections *connections, struct connection *connection)
{
	for (struct connection **place = &connections->first; *place; place = &(*place)->next) {
		if (*place == connection) {
			unlink_at(connections, place);
			return;
		}
	}
}
