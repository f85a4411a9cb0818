// SPDX-License-Identifier: Apache-2.0
#include "agent/api/connections.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include "agent/api/admission.h"
#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/scope.h"

enum {
	SWEEP_SECONDS = 1,
	READ_BYTES = 16 * 1024,
	ACCEPTS_PER_TURN = 32,
	STRANGERS_MAX = 8,
	// At a time. A client that may write waits for a place then, any other is cut off: it must
	// not keep those behind it in the backlog from being accepted.
	REFUSALS_MAX = 256,
	// A refused client has so long to send a request's head, and to read why.
	REFUSAL_DEADLINE_MS = 2000,
	// Of a refused request's body; a client that reads only when it has sent all of it sees
	// the reply all the same.
	DISCARD_BYTES_MAX = 2 * 1024 * 1024,
};

struct connections {
	struct event_base *base;
	struct connection_limits limits;
	struct connection_ops ops;
	struct connection_list list;
	unsigned count;
	int listen_fd;
	struct event *acceptable;
	struct event *sweep; // pending only while there is something to look at
	bool paused;         // nobody is accepted
};

// --- For how long ---

static void deadline_set(struct connection *connection, unsigned ms)
{
	connection->deadline_us = clock_monotonic_us() + (int64_t)ms * 1000;
}

void connection_await(struct connection *connection)
{
	deadline_set(connection, connection->all->limits.deadline_ms);
}

void connection_busy(struct connection *connection)
{
	connection->deadline_us = INT64_MAX;
}

static void accept_pause(struct connections *connections, bool pause)
{
	if (connections->paused == pause || !connections->acceptable)
		return;
	connections->paused = pause;
	if (pause)
		event_del(connections->acceptable);
	else
		event_add(connections->acceptable, NULL);
}

static void connection_free(struct connection *connection)
{
	struct connections *connections = connection->all;

	if (connection->owner)
		connections->ops.gone(connection, connections->ops.context);
	TAILQ_REMOVE(&connections->list, connection, link);
	connections->count--;
	event_free(connection->readable);
	event_free(connection->writable);
	evbuffer_free(connection->output);
	request_reader_reset(&connection->reader);
	buffer_release(&connection->input);
	close_fd(&connection->fd);
	free(connection);
	accept_pause(connections, false);
}

// Accepting goes on here as well: what there were too few descriptors for may be elsewhere.
static void on_sweep(evutil_socket_t fd, short what, void *context)
{
	struct connections *connections = context;
	struct connection *connection = TAILQ_FIRST(&connections->list);
	int64_t now_us = clock_monotonic_us();

	(void)fd;
	(void)what;
	while (connection) {
		struct connection *next = TAILQ_NEXT(connection, link);

		if (connection->deadline_us < now_us)
			connection_free(connection);
		connection = next;
	}
	accept_pause(connections, false);
	if (TAILQ_EMPTY(&connections->list))
		event_del(connections->sweep);
}

// --- Replies ---

struct evbuffer *connection_output(struct connection *connection)
{
	return connection->output;
}

// Gives the kernel what it takes; true when that was all. Errors make it broken and empty.
static bool output_write(struct connection *connection)
{
	while (evbuffer_get_length(connection->output) > 0) {
		if (connection->broken) {
			evbuffer_drain(connection->output, evbuffer_get_length(connection->output));
			continue;
		}
		if (evbuffer_write(connection->output, connection->fd) >= 0 || errno == EINTR)
			continue;
		if (errno == EAGAIN) {
			event_add(connection->writable, NULL);
			return false;
		}
		connection->broken = true;
	}
	return true;
}

void connection_flush(struct connection *connection)
{
	if (output_write(connection))
		event_add(connection->writable, NULL);
}

void connection_cut(struct connection *connection)
{
	connection->broken = true;
	event_add(connection->writable, NULL);
}

bool connection_may_keep(const struct connection *connection)
{
	return connection->reader.request.keep_alive && !connection->unread &&
	       connection->standing == STANDING_ADMITTED;
}

// Reading goes on: with what was read ahead already, if there is such.
static void read_next(struct connection *connection)
{
	event_add(connection->readable, NULL);
	if (connection->input.length > 0)
		event_active(connection->readable, EV_READ, 0);
}

// Closing a socket with unread input would reset it under a client that is still sending, and many
// clients then never look for the reply.
static void discard_begin(struct connection *connection)
{
	shutdown(connection->fd, SHUT_WR);
	connection->discard_left = DISCARD_BYTES_MAX;
	deadline_set(connection, REFUSAL_DEADLINE_MS);
	event_add(connection->readable, NULL);
}

// The reply is with the kernel.
static void answer_end(struct connection *connection)
{
	connection->answered = false;
	if (connection->keep)
		read_next(connection);
	else if (connection->unread)
		discard_begin(connection);
	else
		connection_free(connection);
}

static void answered(struct connection *connection, bool keep)
{
	request_reader_reset(&connection->reader);
	connection->large = false;
	connection->answered = true;
	connection->keep = keep;
	connection_await(connection);
}

void connection_answered(struct connection *connection, bool keep)
{
	answered(connection, keep);
	connection->owner = NULL;
	// The ordinary case needs no further turn of the loop.
	if (output_write(connection) && keep && !connection->broken)
		answer_end(connection);
	else if (evbuffer_get_length(connection->output) == 0)
		event_add(connection->writable, NULL);
}

void connection_answered_last(struct connection *connection)
{
	answered(connection, false);
	connection_flush(connection);
}

static void on_writable(evutil_socket_t fd, short what, void *context)
{
	struct connection *connection = context;
	struct connections *connections = connection->all;

	(void)fd;
	(void)what;
	if (!connection->broken && !output_write(connection))
		return;
	if (connection->broken) {
		connection_free(connection);
		return;
	}
	if (connection->owner)
		connections->ops.drained(connection, connections->ops.context);
	if (connection->answered && !connection->owner && !connection->broken &&
	    evbuffer_get_length(connection->output) == 0)
		answer_end(connection);
}

// --- Requests ---

static void request_end(struct connection *connection, bool unread)
{
	event_del(connection->readable);
	connection->unread = unread;
	connection_busy(connection);
}

static void request_refuse(struct connection *connection, unsigned status, const char *why)
{
	const struct connection_ops *ops = &connection->all->ops;

	if (status) {
		connection->reader.fault_status = status;
		connection->reader.fault = why;
	}
	request_end(connection, true);
	ops->fault(connection, ops->context);
}

static bool large_body_may_come(struct connection *connection)
{
	const struct connections *connections = connection->all;

	return large_body_admit(&connections->limits, &connections->list, connection);
}

static bool body_is_large(const struct request *request)
{
	return request->content_length > CONNECTION_SMALL_BODY ||
	       request->body.length > CONNECTION_SMALL_BODY;
}

// The head is whole. False: the request is read no further.
static bool head_take(struct connection *connection)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	const struct connection_ops *ops = &connection->all->ops;
	const struct request *request = &connection->reader.request;

	if (!ops->head(connection, ops->context)) {
		request_end(connection, request->has_body);
		return false;
	}
	if (request->has_body && request->expects_continue && request->minor == 1) {
		evbuffer_add(connection->output, go_on, strlen(go_on));
		connection_flush(connection);
	}
	return true;
}

// The next step of the request; false: nothing more is to be read now.
static bool input_take(struct connection *connection)
{
	static const char busy[] = "too many large requests are being read";
	const struct connection_ops *ops = &connection->all->ops;
	struct buffer *input = &connection->input;
	size_t taken;
	enum request_progress progress =
		request_reader_feed(&connection->reader, buffer_text(input), input->length, &taken);

	input->length -= taken;
	if (taken > 0)
		memmove(input->data, input->data + taken, input->length);
	if (progress == REQUEST_HEAD && !head_take(connection))
		return false;
	if (progress == REQUEST_FAULT) {
		request_refuse(connection, 0, NULL);
		return false;
	}
	if (body_is_large(&connection->reader.request) && !large_body_may_come(connection)) {
		request_refuse(connection, 503, busy);
		return false;
	}
	if (progress == REQUEST_COMPLETE) {
		request_end(connection, false);
		ops->complete(connection, ops->context);
		return false;
	}
	return progress == REQUEST_HEAD || input->length > 0;
}

static void input_discard(struct connection *connection)
{
	char bytes[READ_BYTES];
	ssize_t count = recv(connection->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	// 0 would mean that nothing is to be discarded, and the body be read as a request.
	if (count <= 0 || (size_t)count >= connection->discard_left)
		connection_free(connection);
	else
		connection->discard_left -= (size_t)count;
}

static void on_readable(evutil_socket_t fd, short what, void *context)
{
	struct connection *connection = context;

	(void)what;
	if (connection->broken)
		return; // on_writable() frees it
	if (connection->discard_left > 0) {
		input_discard(connection);
		return;
	}
	if (connection->input.length == 0) {
		char bytes[READ_BYTES];
		ssize_t count = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

		if (count < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (count <= 0) {
			connection_free(connection);
			return;
		}
		buffer_add(&connection->input, bytes, (size_t)count);
	}
	while (input_take(connection))
		;
	if (connection->input.length == 0)
		buffer_release(&connection->input);
}

// --- Accepting ---

static void connection_meet(struct connections *connections, struct connection *connection)
{
	const struct connection_limits *limits = &connections->limits;
	unsigned same;

	peer_identify(limits, connection);
	admit(limits, &connections->list, connection);
	if (connections->count > 2 * limits->max + REFUSALS_MAX)
		connection_cut(connection); // too many that only wait for their client to leave
	if (connection->standing == STANDING_ADMITTED)
		return;
	deadline_set(connection, REFUSAL_DEADLINE_MS);
	same = admission_count(&connections->list, connection->standing);
	if (connection->standing == STANDING_STRANGER && same > STRANGERS_MAX)
		connection_cut(connection);
	if (connection->standing != STANDING_REFUSED || same < REFUSALS_MAX)
		return;
	if (connection->access == ACCESS_WRITE)
		accept_pause(connections, true);
	else
		connection_cut(connection);
}

void connections_add(struct connections *connections, int fd)
{
	const struct timeval interval = {.tv_sec = SWEEP_SECONDS};
	struct connection *connection = calloc(1, sizeof(*connection));

	if (!connection)
		abort(); // out of memory, as everywhere
	connection->all = connections;
	connection->fd = fd;
	connection->reader.body_max = connections->limits.body_bytes_max;
	connection->readable =
		event_new(connections->base, fd, EV_READ | EV_PERSIST, on_readable, connection);
	connection->writable = event_new(connections->base, fd, EV_WRITE, on_writable, connection);
	connection->output = evbuffer_new();
	if (!connection->readable || !connection->writable || !connection->output)
		abort();
	TAILQ_INSERT_TAIL(&connections->list, connection, link);
	connections->count++;
	connection_await(connection);
	event_add(connection->readable, NULL);
	// Most clients have sent their request by now: it is read in the same turn. So a burst is
	// answered as it is accepted and does not pile up until it meets the limit.
	event_active(connection->readable, EV_READ, 0);
	connection_meet(connections, connection);
	if (!event_pending(connections->sweep, EV_TIMEOUT, NULL))
		event_add(connections->sweep, &interval);
}

static void on_acceptable(evutil_socket_t fd, short what, void *context)
{
	const struct timeval interval = {.tv_sec = SWEEP_SECONDS};
	struct connections *connections = context;

	(void)what;
	for (int i = 0; i < ACCEPTS_PER_TURN && !connections->paused; i++) {
		int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (peer >= 0) {
			connections_add(connections, peer);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno == EAGAIN)
			return;
		// Out of descriptors or memory. The listener stays readable: without a pause the
		// loop would do nothing but try again.
		log_warning(NULL, "api: accept: %s", strerror(errno));
		accept_pause(connections, true);
		event_add(connections->sweep, &interval);
	}
}

int connections_open(struct event_base *base, const struct connection_limits *limits,
		     const struct connection_ops *ops, struct connections **ret_connections,
		     struct error *err)
{
	struct connections *connections = calloc(1, sizeof(*connections));

	if (!connections)
		return error_set(err, ENOMEM, "api: out of memory");
	TAILQ_INIT(&connections->list);
	connections->base = base;
	connections->limits = *limits;
	connections->ops = *ops;
	connections->listen_fd = -1;
	connections->sweep = event_new(base, -1, EV_PERSIST, on_sweep, connections);
	if (!connections->sweep) {
		connections_close(connections);
		return error_set(err, ENOMEM, "api: out of memory");
	}
	*ret_connections = connections;
	return 0;
}

int connections_listen(struct connections *connections, int fd, struct error *err)
{
	if (connections->acceptable)
		event_free(connections->acceptable);
	close_fd(&connections->listen_fd);
	connections->listen_fd = fd;
	connections->paused = false;
	connections->acceptable =
		event_new(connections->base, fd, EV_READ | EV_PERSIST, on_acceptable, connections);
	if (!connections->acceptable || event_add(connections->acceptable, NULL) < 0)
		return error_set(err, ENOMEM, "api: out of memory");
	return 0;
}

void connections_close(struct connections *connections)
{
	if (!connections)
		return;
	while (!TAILQ_EMPTY(&connections->list))
		connection_free(TAILQ_FIRST(&connections->list));
	if (connections->acceptable)
		event_free(connections->acceptable);
	if (connections->sweep)
		event_free(connections->sweep);
	close_fd(&connections->listen_fd);
	free(connections);
}
