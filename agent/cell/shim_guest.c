// SPDX-License-Identifier: Apache-2.0
// The guest's connections. A connection is in one of four states: a request comes in (out is
// empty), it waits in a long poll (waiting), an answer goes out (out is not empty), or the
// answer was the last and what the peer still sends is thrown away (closing), so that a
// reset does not overtake the answer. Every state has an absolute deadline. While a request
// is answered nothing is read: a peer that pipelines fills its own socket.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/base/arena.h"
#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/scope.h"
#include "agent/cell/shim.h"

void shim_guest_open(struct shim *shim)
{
	for (size_t i = 0; i < SHIM_CONNECTIONS_MAX; i++)
		shim->guest.connections[i].fd = -1;
}

// --- The manifest's container names ---

static int open_logs(struct shim *shim, const struct guest_manifest *manifest, struct error *err)
{
	struct shim_guest *guest = &shim->guest;

	for (uint32_t i = 0; i < manifest->container_count; i++) {
		const char *name = manifest->containers[i].name;

		if (!cell_container_name_is_valid(name))
			return error_set(err, EINVAL, "manifest: container name \"%s\"", name);
		log_file_open(&guest->logs[i], shim->logs_fd, name, shim->log_max_bytes);
	}
	guest->container_count = manifest->container_count;
	return 0;
}

static void close_logs(struct shim_guest *guest)
{
	for (uint32_t i = 0; i < guest->container_count; i++)
		log_file_close(&guest->logs[i]);
	guest->container_count = 0;
}

int shim_guest_reset(struct shim *shim, struct error *err)
{
	scoped(arena_release) struct arena arena = {0};
	struct guest_manifest manifest;
	scoped_free char *text = NULL;
	size_t length;

	shim_guest_drop_all(shim);
	close_logs(&shim->guest);
	shim->guest.session_taken = shim->guest.manifest_given = false;
	memset(shim->guest.sequences, 0, sizeof(shim->guest.sequences));
	if (file_read(shim->cell_fd, CELL_MANIFEST_FILE, GUEST_MANIFEST_MAX, &text, &length, err) <
		    0 ||
	    guest_manifest_decode(text, length, &arena, &manifest, err) < 0)
		return error_wrap(err, "manifest");
	return open_logs(shim, &manifest, err);
}

// --- Connections ---

static void connection_drop(struct guest_connection *connection)
{
	close_fd(&connection->fd);
	http_reader_close(&connection->reader);
	buffer_release(&connection->out);
	connection->sent = 0;
	connection->waiting = connection->closing = connection->authenticated = false;
}

void shim_guest_drop_all(struct shim *shim)
{
	for (size_t i = 0; i < SHIM_CONNECTIONS_MAX; i++)
		if (shim->guest.connections[i].fd >= 0)
			connection_drop(&shim->guest.connections[i]);
}

static struct guest_connection *find_free(struct shim_guest *guest)
{
	for (size_t i = 0; i < SHIM_CONNECTIONS_MAX; i++)
		if (guest->connections[i].fd < 0)
			return &guest->connections[i];
	return NULL;
}

// Of those that never showed the token the one whose time runs out first: containers that
// hold connections open do not lock penstock-init out.
static struct guest_connection *find_victim(struct shim_guest *guest)
{
	struct guest_connection *victim = NULL;

	for (size_t i = 0; i < SHIM_CONNECTIONS_MAX; i++) {
		struct guest_connection *candidate = &guest->connections[i];

		if (!candidate->authenticated &&
		    (!victim || candidate->deadline_us < victim->deadline_us))
			victim = candidate;
	}
	return victim;
}

// What cannot listen would be readable for ever.
static void detach_listener(struct shim *shim)
{
	log_error(&shim->log, "the attached listener does not listen");
	close_fd(&shim->vmm.attached[VMM_ATTACH_LISTENER]);
	shim->status.attached &= ~shim_slot_bit(VMM_ATTACH_LISTENER, 0);
	shim_status_changed(shim, false);
}

void shim_guest_accept(struct shim *shim, short revents)
{
	scoped_fd int fd = accept4(shim->vmm.attached[VMM_ATTACH_LISTENER], NULL, NULL,
				   SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct guest_connection *connection = find_free(&shim->guest);

	(void)revents;
	if (fd < 0) {
		if (errno == EINVAL || errno == ENOTSOCK || errno == EOPNOTSUPP)
			detach_listener(shim);
		return;
	}
	if (!connection) {
		shim->status.refused++;
		connection = find_victim(&shim->guest);
		if (!connection)
			return;
		connection_drop(connection);
	}
	http_reader_open(&connection->reader, HTTP_REQUEST, GUEST_BODY_MAX);
	connection->deadline_us = clock_monotonic_us() + SHIM_REQUEST_DEADLINE_US;
	connection->fd = take_fd(&fd);
}

short guest_connection_events(const struct guest_connection *connection)
{
	if (connection->out.length > 0)
		return POLLOUT;
	return connection->waiting ? POLLRDHUP : POLLIN;
}

void guest_connection_answer(struct shim *shim, struct guest_connection *connection,
			     unsigned status, const char *content_type, const void *body,
			     size_t length)
{
	if (status >= 400 && status != 404)
		shim->status.refused++;
	else
		shim->status.requests++;
	connection->waiting = false;
	connection->deadline_us = clock_monotonic_us() + SHIM_REQUEST_DEADLINE_US;
	http_response_head(&connection->out, status, content_type, length, connection->keep_alive);
	if (length > 0)
		buffer_add(&connection->out, body, length);
}

// True when the answer is out and the connection is ready for the next request.
static bool send_answer(struct guest_connection *connection)
{
	struct buffer *out = &connection->out;

	while (connection->sent < out->length) {
		ssize_t count = send(connection->fd, out->data + connection->sent,
				     out->length - connection->sent, MSG_NOSIGNAL);

		if (count < 0 && errno == EAGAIN)
			return false;
		if (count < 0) {
			connection_drop(connection);
			return false;
		}
		connection->sent += (size_t)count;
	}
	buffer_release(out);
	connection->sent = 0;
	connection->deadline_us = clock_monotonic_us() + SHIM_REQUEST_DEADLINE_US;
	if (!connection->keep_alive) {
		shutdown(connection->fd, SHUT_WR);
		connection->closing = true;
	}
	return connection->keep_alive;
}

static void send_continue(struct guest_connection *connection)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";

	if (!connection->reader.expects_continue)
		return;
	connection->reader.expects_continue = false;
	// A fresh socket has room for these bytes; a peer that filled it waits in vain, to its
	// deadline.
	if (send(connection->fd, text, sizeof(text) - 1, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
		connection_drop(connection);
}

// Serves what has come so far, as far as it goes without waiting.
static void serve(struct shim *shim, struct guest_connection *connection)
{
	struct http_message message;

	while (connection->fd >= 0 && !connection->waiting && !connection->closing) {
		if (connection->out.length > 0) {
			if (!send_answer(connection))
				return;
			continue;
		}
		switch (http_reader_next(&connection->reader, &message)) {
		case HTTP_PARTIAL:
			send_continue(connection);
			return;
		case HTTP_COMPLETE:
			connection->keep_alive = message.keep_alive;
			shim_route(shim, connection, &message);
			http_reader_consume(&connection->reader);
			break;
		case HTTP_FAULT:
			connection->keep_alive = false;
			guest_connection_answer(shim, connection, connection->reader.fault_status,
						NULL, NULL, 0);
			break;
		}
	}
}

static void discard(struct guest_connection *connection)
{
	char bytes[4096];
	ssize_t count = recv(connection->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (count == 0 || (count < 0 && errno != EAGAIN))
		connection_drop(connection);
}

static void receive(struct shim *shim, struct guest_connection *connection)
{
	char *place;
	size_t room = http_reader_space(&connection->reader, &place);
	ssize_t count = recv(connection->fd, place, room, MSG_DONTWAIT);

	if (count < 0 && errno == EAGAIN)
		return;
	if (count <= 0) {
		connection_drop(connection);
		return;
	}
	http_reader_advance(&connection->reader, (size_t)count);
	serve(shim, connection);
}

void shim_guest_handle(struct shim *shim, struct guest_connection *connection, short revents)
{
	if (connection->closing)
		discard(connection);
	else if (connection->out.length > 0)
		serve(shim, connection);
	else if (connection->waiting || (revents & POLLERR))
		connection_drop(connection); // nothing is due: the peer went away
	else
		receive(shim, connection);
}

void shim_guest_deadlines(struct shim *shim, int64_t now_us)
{
	for (size_t i = 0; i < SHIM_CONNECTIONS_MAX; i++) {
		struct guest_connection *connection = &shim->guest.connections[i];

		if (connection->fd < 0 || connection->deadline_us > now_us)
			continue;
		if (connection->waiting) {
			shim_route_commands(shim, connection);
			serve(shim, connection);
			continue;
		}
		shim->status.refused += connection->reader.length > 0 || connection->out.length > 0;
		connection_drop(connection);
	}
}

void shim_guest_wake(struct shim *shim)
{
	for (size_t i = 0; i < SHIM_CONNECTIONS_MAX; i++) {
		struct guest_connection *connection = &shim->guest.connections[i];

		if (connection->fd < 0 || !connection->waiting)
			continue;
		shim_route_commands(shim, connection);
		serve(shim, connection);
	}
}
