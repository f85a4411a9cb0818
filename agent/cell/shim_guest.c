// SPDX-License-Identifier: Apache-2.0
// The guest's connections, each in one of four states with an absolute deadline. After its last
// answer a connection stays to throw away what the peer still sends, so that a reset does not
// overtake the answer. While a request is answered nothing is read: a peer that pipelines fills its
// own socket.
//
// Only penstock-init, which has shown the token, may be idle for ever: were it to dial again,
// containers that use up all ports of the guest could keep a sibling's exit from being told.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/base/arena.h"
#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/sandbox.h"
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
	shim->guest.silence_due_us = 0;
	memset(shim->guest.sequences, 0, sizeof(shim->guest.sequences));
	if (file_read(shim->cell_fd, CELL_MANIFEST_FILE, GUEST_MANIFEST_MAX, &text, &length, err) <
		    0 ||
	    guest_manifest_decode(text, length, &arena, &manifest, err) < 0)
		return error_wrap(err, "manifest");
	return open_logs(shim, &manifest, err);
}

// --- Connections ---

static int64_t request_deadline_us(void)
{
	return clock_monotonic_us() + SHIM_REQUEST_DEADLINE_US;
}

static void connection_drop(struct guest_connection *connection)
{
	close_fd(&connection->fd);
	http_reader_close(&connection->reader);
	buffer_release(&connection->out);
	connection->sent = 0;
	connection->state = CONNECTION_RECEIVING;
	connection->authenticated = false;
}

// With a reset: the kernel would keep what a peer never acknowledges for minutes after the close,
// and counts that for the whole host.
static void connection_abort(struct guest_connection *connection)
{
	const struct linger at_once = {.l_onoff = 1};

	setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	connection_drop(connection);
}

void shim_guest_drop_all(struct shim *shim)
{
	for (size_t i = 0; i < SHIM_CONNECTIONS_MAX; i++)
		if (shim->guest.connections[i].fd >= 0)
			connection_abort(&shim->guest.connections[i]);
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

// From here on the shim reads bytes of a guest. It starts nothing after this: a guest that connects
// has booted, so there is no second boot. The netns driver's shim is root and has no filter.
static int confine(struct shim *shim)
{
	struct error err = {0};

	if (shim->confined || shim->uid == 0)
		return 0;
	if (sandbox_enter(SANDBOX_SHIM, &err) < 0) {
		shim_vmm_fail(shim, &err);
		return -err.code;
	}
	shim->confined = true;
	return 0;
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
	if (confine(shim) < 0)
		return;
	if (!connection) {
		shim->status.refused++;
		connection = find_victim(&shim->guest);
		if (!connection)
			return;
		connection_abort(connection);
	}
	http_reader_open(&connection->reader, HTTP_REQUEST, GUEST_BODY_MAX);
	connection->deadline_us = request_deadline_us();
	connection->fd = take_fd(&fd);
}

short guest_connection_events(const struct guest_connection *connection)
{
	static const short events[] = {
		[CONNECTION_RECEIVING] = POLLIN,
		[CONNECTION_WAITING] = POLLRDHUP,
		[CONNECTION_ANSWERING] = POLLOUT,
		[CONNECTION_CLOSING] = POLLIN,
	};

	return events[connection->state];
}

void guest_connection_answer(struct shim *shim, struct guest_connection *connection,
			     unsigned status, const char *content_type, const void *body,
			     size_t length)
{
	if (status >= 400 && status != 404)
		shim->status.refused++;
	else
		shim->status.requests++;
	connection->state = CONNECTION_ANSWERING;
	connection->deadline_us = request_deadline_us();
	http_response_head(&connection->out, status, content_type, length, connection->keep_alive);
	if (length > 0)
		buffer_add(&connection->out, body, length);
}

static void finish_answer(struct guest_connection *connection)
{
	buffer_release(&connection->out);
	connection->sent = 0;
	connection->deadline_us = request_deadline_us();
	if (!connection->keep_alive) {
		shutdown(connection->fd, SHUT_WR);
		connection->state = CONNECTION_CLOSING;
		return;
	}
	connection->state = CONNECTION_RECEIVING;
	if (connection->authenticated && connection->reader.length == 0)
		connection->deadline_us = 0;
}

static void send_answer(struct guest_connection *connection)
{
	struct buffer *out = &connection->out;

	while (connection->sent < out->length) {
		ssize_t count = send(connection->fd, out->data + connection->sent,
				     out->length - connection->sent, MSG_NOSIGNAL);

		if (count < 0 && errno == EAGAIN)
			return;
		if (count < 0) {
			connection_drop(connection);
			return;
		}
		connection->sent += (size_t)count;
	}
	finish_answer(connection);
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

	for (;;) {
		if (connection->state == CONNECTION_ANSWERING)
			send_answer(connection);
		if (connection->fd < 0 || connection->state != CONNECTION_RECEIVING)
			return;
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
	if (connection->deadline_us == 0)
		connection->deadline_us = request_deadline_us();
	serve(shim, connection);
}

void shim_guest_handle(struct shim *shim, struct guest_connection *connection, short revents)
{
	switch (connection->state) {
	case CONNECTION_RECEIVING:
		if (revents & POLLERR)
			connection_drop(connection);
		else
			receive(shim, connection);
		break;
	case CONNECTION_WAITING: // nothing is due: the peer went away
		connection_drop(connection);
		break;
	case CONNECTION_ANSWERING:
		serve(shim, connection);
		break;
	case CONNECTION_CLOSING:
		discard(connection);
		break;
	}
}

// --- Silence ---

static int64_t silence_timeout_us(const struct shim *shim)
{
	return shim->vmm.launch ? INT64_C(1000) * shim->vmm.launch->silence_timeout_ms : 0;
}

// The answer to a long poll is what makes a guest without anything to say speak again, so no poll
// is held for as long as a silence.
int64_t shim_guest_commands_wait_us(const struct shim *shim)
{
	int64_t wait_us = INT64_C(1000000) * GUEST_COMMANDS_WAIT_S;
	int64_t half_us = silence_timeout_us(shim) / 2;

	return half_us && half_us < wait_us ? half_us : wait_us;
}

void shim_guest_heard(struct shim *shim)
{
	int64_t timeout_us = silence_timeout_us(shim);

	shim->guest.heard_ms = clock_wall_ms();
	shim->guest.silence_due_us = timeout_us ? clock_monotonic_us() + timeout_us : 0;
	if (shim->status.guest_silent_since_ms == 0)
		return;
	log_info(&shim->log, "the guest speaks again");
	shim->status.guest_silent_since_ms = 0;
	shim_status_changed(shim, false);
}

// Nothing is done about it but to report it: what hangs for a minute may go on in the next one.
static void check_silence(struct shim *shim, int64_t now_us)
{
	struct shim_guest *guest = &shim->guest;

	if (guest->silence_due_us == 0 || guest->silence_due_us > now_us)
		return;
	guest->silence_due_us = 0;
	log_warning(&shim->log, "the guest has not spoken for %u ms",
		    shim->vmm.launch->silence_timeout_ms);
	shim->status.guest_silent_since_ms = guest->heard_ms;
	shim_status_changed(shim, false);
}

void shim_guest_deadlines(struct shim *shim, int64_t now_us)
{
	check_silence(shim, now_us);
	for (size_t i = 0; i < SHIM_CONNECTIONS_MAX; i++) {
		struct guest_connection *connection = &shim->guest.connections[i];

		if (connection->fd < 0 || connection->deadline_us == 0 ||
		    connection->deadline_us > now_us)
			continue;
		if (connection->state == CONNECTION_WAITING) {
			shim_route_commands(shim, connection);
			serve(shim, connection);
			continue;
		}
		shim->status.refused += connection->reader.length > 0 || connection->out.length > 0;
		connection_abort(connection);
	}
}

void shim_guest_wake(struct shim *shim)
{
	for (size_t i = 0; i < SHIM_CONNECTIONS_MAX; i++) {
		struct guest_connection *connection = &shim->guest.connections[i];

		if (connection->fd < 0 || connection->state != CONNECTION_WAITING)
			continue;
		shim_route_commands(shim, connection);
		serve(shim, connection);
	}
}
