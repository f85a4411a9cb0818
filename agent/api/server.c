// SPDX-License-Identifier: Apache-2.0
// The socket, and the end of each turn.
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "agent/api/internal.h"
#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/scope.h"

enum {
	SOCKET_SWEEP_SECONDS = 5,
	LARGE_BODIES_MAX = 8, // of up to 1 MiB each
};

// --- Opening and closing ---

static struct api_options with_defaults(const struct api_options *options)
{
	struct api_options whole = *options;

	if (!whole.connections_max)
		whole.connections_max = API_CONNECTIONS_DEFAULT;
	if (!whole.request_deadline_ms)
		whole.request_deadline_ms = API_REQUEST_DEADLINE_DEFAULT_MS;
	if (!whole.follow_buffer_bytes)
		whole.follow_buffer_bytes = API_FOLLOW_BUFFER_DEFAULT_BYTES;
	if (!whole.follow_lag)
		whole.follow_lag = API_FOLLOW_LAG_DEFAULT;
	return whole;
}

static int listen_and_accept(struct api *api, struct error *err)
{
	scoped_fd int fd = -1;

	if (socket_listen(&api->options, &api->socket, &fd, err) < 0)
		return -err->code;
	return connections_listen(api->connections, take_fd(&fd), err);
}

// Somebody may have removed the file, or put another in its place: connections that are open go on,
// but nobody finds the agent any more.
static void on_socket_sweep(evutil_socket_t fd, short what, void *context)
{
	struct api *api = context;
	struct error err = {0};

	(void)fd;
	(void)what;
	if (socket_is_there(&api->socket))
		return;
	if (listen_and_accept(api, &err) < 0)
		log_error(NULL, "the API's socket file is gone and cannot be made again: %s",
			  err.message);
	else
		log_warning(NULL, "the API's socket file %s was removed: made again",
			    api->socket.path);
}

static int open_steps(struct api *api, struct error *err)
{
	const struct timeval interval = {.tv_sec = SOCKET_SWEEP_SECONDS};

	const struct connection_limits limits = {
		.writer_gid = api->options.writer_gid,
		.reader_gid = api->options.reader_gid,
		.max = api->options.connections_max,
		.deadline_ms = api->options.request_deadline_ms,
		.body_bytes_max = API_BODY_BYTES_MAX,
		.large_bodies_max = LARGE_BODIES_MAX,
	};
	struct connection_ops ops = exchange_ops;

	ops.context = api;
	if (connections_open(api->base, &limits, &ops, &api->connections, err) < 0 ||
	    listen_and_accept(api, err) < 0)
		return -err->code;
	api->socket_sweep = event_new(api->base, -1, EV_PERSIST, on_socket_sweep, api);
	if (!api->socket_sweep || event_add(api->socket_sweep, &interval) < 0)
		return error_set(err, ENOMEM, "api: out of memory");
	return 0;
}

int api_open(const struct api_options *options, struct api **ret_api, struct error *err)
{
	struct api *api = calloc(1, sizeof(*api));

	if (!api)
		return error_set(err, ENOMEM, "api: out of memory");
	TAILQ_INIT(&api->turn);
	TAILQ_INIT(&api->waiting);
	TAILQ_INIT(&api->scraping);
	TAILQ_INIT(&api->streaming);
	api->options = with_defaults(options);
	api->base = options->base;
	api->store = options->store;
	api->backend = options->backend;
	api->committed_revision = store_revision(options->store);
	signal(SIGPIPE, SIG_IGN);
	if (open_steps(api, err) < 0) {
		api_close(api);
		return -err->code;
	}
	*ret_api = api;
	return 0;
}

// Their connections are closed by connections_close().
static void list_abandon(struct exchange_list *list)
{
	struct exchange *exchange;

	while ((exchange = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, exchange, link);
		if (exchange->connection)
			exchange->connection->owner = NULL;
		exchange_free(exchange);
	}
}

void api_close(struct api *api)
{
	if (!api)
		return;
	api->closing = true;
	list_abandon(&api->turn);
	list_abandon(&api->waiting);
	list_abandon(&api->scraping);
	list_abandon(&api->streaming);
	connections_close(api->connections);
	if (api->socket_sweep)
		event_free(api->socket_sweep);
	socket_remove(&api->socket);
	free(api);
}

void api_serve(struct api *api, int fd)
{
	connections_add(api->connections, fd);
}

// --- The end of a turn ---

bool api_turn_acknowledges(const struct api *api)
{
	const struct exchange *exchange;

	TAILQ_FOREACH(exchange, &api->turn, link)
	if (exchange->acknowledges)
		return true;
	return false;
}

static void exchange_deliver(struct exchange *exchange, const struct error *commit_error)
{
	struct api *api = exchange->api;
	const struct api_backend *backend = api->backend;

	if (commit_error) {
		// The backend looks at the object again: what it held for the change it gives back.
		if (exchange->object_changed)
			backend->object_changed(backend->context, exchange->kind, exchange->id);
		reply_error(exchange,
			    commit_error->code == EDQUOT ? REPLY_INSUFFICIENT_STORAGE
							 : REPLY_STORE_UNAVAILABLE,
			    NULL, "nothing was changed or read: %s", commit_error->message);
		exchange_finish(exchange);
		return;
	}
	if (exchange->object_changed)
		backend->object_changed(backend->context, exchange->kind, exchange->id);
	if (exchange->wait.wanted)
		wait_begin(exchange);
	else if (exchange->scrape.wanted)
		scrape_begin(exchange);
	else if (exchange->stream)
		stream_start(exchange);
	else
		exchange_finish(exchange);
}

void api_turn_end(struct api *api, const struct error *commit_error)
{
	bool changed = store_revision(api->store) != api->committed_revision;
	struct exchange *exchange;

	api->committed_revision = store_revision(api->store);
	while ((exchange = TAILQ_FIRST(&api->turn))) {
		TAILQ_REMOVE(&api->turn, exchange, link);
		exchange_deliver(exchange, commit_error);
	}
	if (changed) {
		waits_check(api);
		streams_pump(api);
	}
}
