// SPDX-License-Identifier: Apache-2.0
// The socket, and the end of each turn.
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/api/internal.h"
#include "agent/base/clock.h"
#include "agent/base/scope.h"

enum {
	// As many as the kernel lets be (net.core.somaxconn): a client whose connect() fails with
	// EAGAIN gets no answer, one that waits here does.
	LISTEN_BACKLOG = 4096,
	LARGE_BODIES_MAX = 8, // of up to 1 MiB each
};

// --- The socket ---

static int address_of(const char *path, struct sockaddr_un *ret_address, struct error *err)
{
	*ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(ret_address->sun_path))
		return error_set(err, ENAMETOOLONG, "api: socket path %s is longer than %zu bytes",
				 path, sizeof(ret_address->sun_path) - 1);
	memcpy(ret_address->sun_path, path, strlen(path) + 1);
	return 0;
}

// A socket file nobody listens on is left over from an agent that was killed.
static int stale_socket_remove(const struct sockaddr_un *address, struct error *err)
{
	scoped_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat status;

	if (fd < 0)
		return error_errno(err, "api: socket");
	if (lstat(address->sun_path, &status) < 0)
		return errno == ENOENT ? 0 : error_errno(err, "api: %s", address->sun_path);
	if (!S_ISSOCK(status.st_mode))
		return error_set(err, EEXIST, "api: %s exists and is not a socket",
				 address->sun_path);
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
		return error_set(err, EADDRINUSE, "api: another process answers on %s",
				 address->sun_path);
	if (unlink(address->sun_path) < 0 && errno != ENOENT)
		return error_errno(err, "api: remove %s", address->sun_path);
	return 0;
}

// With one group the file's mode keeps others out; with two only the credentials can tell.
static int socket_permit(const struct api_options *options, struct error *err)
{
	mode_t mode = options->reader_gid != API_NO_GROUP ? 0666 : 0660;

	if (options->writer_gid != API_NO_GROUP &&
	    chown(options->socket_path, (uid_t)-1, options->writer_gid) < 0)
		return error_errno(err, "api: give %s to group %u", options->socket_path,
				   (unsigned)options->writer_gid);
	if (chmod(options->socket_path, mode) < 0)
		return error_errno(err, "api: change the mode of %s", options->socket_path);
	return 0;
}

static int socket_listen(const struct api_options *options, int *ret_fd, struct error *err)
{
	struct sockaddr_un address;
	scoped_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return error_errno(err, "api: socket");
	if (address_of(options->socket_path, &address, err) < 0 ||
	    stale_socket_remove(&address, err) < 0)
		return -err->code;
	// The mode of an unbound socket becomes that of its file: no moment of openness.
	if (fchmod(fd, 0600) < 0 ||
	    bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return error_errno(err, "api: bind %s", options->socket_path);
	if (socket_permit(options, err) < 0)
		return -err->code;
	if (listen(fd, LISTEN_BACKLOG) < 0)
		return error_errno(err, "api: listen on %s", options->socket_path);
	*ret_fd = take_fd(&fd);
	return 0;
}

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

static int open_steps(struct api *api, struct error *err)
{
	const struct connection_limits limits = {
		.writer_gid = api->options.writer_gid,
		.reader_gid = api->options.reader_gid,
		.max = api->options.connections_max,
		.deadline_ms = api->options.request_deadline_ms,
		.body_bytes_max = API_BODY_BYTES_MAX,
		.large_bodies_max = LARGE_BODIES_MAX,
	};
	struct connection_ops ops = exchange_ops;
	scoped_fd int fd = -1;

	ops.context = api;
	if (connections_open(api->base, &limits, &ops, &api->connections, err) < 0 ||
	    socket_listen(&api->options, &fd, err) < 0)
		return -err->code;
	snprintf(api->socket_path, sizeof(api->socket_path), "%s", api->options.socket_path);
	return connections_listen(api->connections, take_fd(&fd), err);
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
	if (api->socket_path[0])
		unlink(api->socket_path);
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
