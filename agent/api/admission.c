// SPDX-License-Identifier: Apache-2.0
#include "agent/api/admission.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "agent/base/scope.h"

enum {
	GROUPS_ON_STACK = 256,
	WRITERS_SHARE = 8, // one connection of so many is kept for those who may write
};

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

void peer_identify(const struct connection_limits *limits, struct connection *connection)
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

// A connection that waits for its reply is not read, so the end of its peer may not have been
// noticed yet.
static bool is_present(const struct connection *connection)
{
	struct pollfd peer = {.fd = connection->fd, .events = POLLRDHUP};

	return poll(&peer, 1, 0) == 0;
}

// The kernel has its last reply: it takes no place any more. One whose client does not read the
// reply keeps its place, for it holds memory.
static bool is_leaving(const struct connection *connection)
{
	return connection->discard_left > 0 || (connection->answered && !connection->keep &&
						evbuffer_get_length(connection->output) == 0);
}

struct census {
	unsigned standing, uid, process; // of the same standing, of that user, of its process
};

static struct census count_like(const struct connection_list *list, const struct connection *like,
				bool (*counts)(const struct connection *))
{
	struct census census = {0};

	for (const struct connection *c = TAILQ_FIRST(list); c; c = TAILQ_NEXT(c, link)) {
		if (c->standing != like->standing || (counts && !counts(c)))
			continue;
		if (c->standing == STANDING_ADMITTED && is_leaving(c))
			continue;
		census.standing++;
		census.uid += c->uid == like->uid;
		census.process += c->uid == like->uid && c->pid == like->pid;
	}
	return census;
}

// No process holds more than half of all connections and no user more than three quarters: a client
// that leaves its connections idle keeps nobody else out.
static bool census_is_full(const struct census *census, const struct connection *connection,
			   unsigned max)
{
	unsigned all = connection->access == ACCESS_WRITE ? max : max - max / WRITERS_SHARE;

	return census->standing > all || census->uid > max - max / 4 || census->process > max / 2;
}

// Looks twice: asking the kernel for each of them is for the rare case only.
void admit(const struct connection_limits *limits, const struct connection_list *list,
	   struct connection *connection)
{
	struct census census;

	connection->standing = STANDING_STRANGER;
	if (connection->access == ACCESS_NONE)
		return;
	connection->standing = STANDING_ADMITTED;
	census = count_like(list, connection, NULL);
	if (!census_is_full(&census, connection, limits->max))
		return;
	census = count_like(list, connection, is_present);
	if (census_is_full(&census, connection, limits->max))
		connection->standing = STANDING_REFUSED;
}

unsigned admission_count(const struct connection_list *list, enum standing standing)
{
	const struct connection like = {.standing = standing};

	return count_like(list, &like, NULL).standing;
}

static bool is_large(const struct connection *connection)
{
	return connection->large;
}

// One process gets half of the places.
bool large_body_admit(const struct connection_limits *limits, const struct connection_list *list,
		      struct connection *connection)
{
	unsigned max = limits->large_bodies_max;
	struct census census;

	if (connection->large)
		return true;
	census = count_like(list, connection, is_large);
	connection->large = census.standing < max && census.process < max - max / 2;
	return connection->large;
}
