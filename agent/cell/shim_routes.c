// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/scope.h"
#include "agent/cell/shim.h"
#include "agent/cell/shim_merge.h"

enum { COMMAND_STOP_NUMBER = 1 };

static const char type_json[] = "application/json";
static const char type_text[] = "text/plain";
static const char type_lines[] = "application/vnd.penstock";

static void answer_status(struct shim *shim, struct guest_connection *connection, unsigned status)
{
	guest_connection_answer(shim, connection, status, NULL, NULL, 0);
}

// --- Session ---

static int make_token(char ret_token[GUEST_TOKEN_LENGTH + 1])
{
	unsigned char bytes[GUEST_TOKEN_LENGTH / 2];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return -EIO;
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(ret_token + 2 * i, 3, "%02x", bytes[i]);
	return 0;
}

// Its time does not depend on where the first difference is.
static bool is_token(const struct shim_guest *guest, const char *bearer)
{
	unsigned difference = 0;

	if (!guest->session_taken || strlen(bearer) != GUEST_TOKEN_LENGTH)
		return false;
	for (size_t i = 0; i < GUEST_TOKEN_LENGTH; i++)
		difference |= (unsigned char)guest->token[i] ^ (unsigned char)bearer[i];
	return difference == 0;
}

static void route_session(struct shim *shim, struct guest_connection *connection,
			  const struct http_message *message)
{
	struct shim_guest *guest = &shim->guest;

	(void)message;
	if (guest->session_taken || shim->status.vmm != VMM_RUNNING) {
		answer_status(shim, connection, 403);
		return;
	}
	if (make_token(guest->token) < 0) {
		answer_status(shim, connection, 503);
		return;
	}
	guest->session_taken = true;
	connection->authenticated = true;
	shim->status.guest_connected_ms = clock_wall_ms();
	shim_vmm_guest_spoke(shim);
	shim_guest_heard(shim);
	shim_status_changed(shim, true);
	guest_connection_answer(shim, connection, 200, type_text, guest->token, GUEST_TOKEN_LENGTH);
}

// --- Manifest and commands ---

static void route_manifest(struct shim *shim, struct guest_connection *connection,
			   const struct http_message *message)
{
	scoped_free char *text = NULL;
	struct error err = {0};
	size_t length;

	(void)message;
	if (shim->guest.manifest_given) {
		answer_status(shim, connection, 403);
		return;
	}
	if (file_read(shim->cell_fd, CELL_MANIFEST_FILE, GUEST_MANIFEST_MAX, &text, &length, &err) <
	    0) {
		log_error(&shim->log, "manifest: %s", err.message);
		answer_status(shim, connection, 503);
		return;
	}
	guest_connection_answer(shim, connection, 200, type_lines, text, length);
}

void shim_route_commands(struct shim *shim, struct guest_connection *connection)
{
	static const struct guest_commands stop = {
		.count = 1, .commands = {{COMMAND_STOP_NUMBER, GUEST_VERB_STOP}}};
	scoped(buffer_release) struct buffer document = {0};
	struct error err = {0};

	if (!shim->status.stop_requested || connection->after >= COMMAND_STOP_NUMBER)
		answer_status(shim, connection, 204);
	else if (guest_commands_encode(&stop, &document, &err) < 0)
		answer_status(shim, connection, 503);
	else
		guest_connection_answer(shim, connection, 200, type_lines, document.data,
					document.length);
}

static void route_commands(struct shim *shim, struct guest_connection *connection,
			   const struct http_message *message)
{
	if (guest_commands_query_decode(message->query, &connection->after) < 0) {
		answer_status(shim, connection, 400);
		return;
	}
	if (shim->status.stop_requested && connection->after < COMMAND_STOP_NUMBER) {
		shim_route_commands(shim, connection);
		return;
	}
	connection->state = CONNECTION_WAITING;
	connection->deadline_us = clock_monotonic_us() + shim_guest_commands_wait_us(shim);
}

// --- Status and logs ---

static void route_status(struct shim *shim, struct guest_connection *connection,
			 const struct http_message *message)
{
	struct guest_status said;
	struct error err = {0};
	bool durable;

	if (guest_status_decode(message->body, message->body_length, &said, &err) < 0 ||
	    said.container_count > shim->guest.container_count) {
		answer_status(shim, connection, 400);
		return;
	}
	// On disk before the guest may forget it; it repeats what was not saved.
	if (cell_status_merge(&shim->status, &said, clock_wall_ms(), &durable) || shim->unsaved)
		shim_status_changed(shim, durable || shim->unsaved);
	answer_status(shim, connection, shim->unsaved ? 503 : 204);
}

static void route_logs(struct shim *shim, struct guest_connection *connection,
		       const struct http_message *message)
{
	static const char *const streams[] = {"stdout", "stderr"};
	struct guest_log_query query;
	struct error err = {0};
	uint64_t *sequence;

	if (guest_log_query_decode(message->query, &query) < 0 ||
	    query.container >= shim->guest.container_count) {
		answer_status(shim, connection, 400);
		return;
	}
	sequence = &shim->guest.sequences[query.container][query.stream];
	if (query.sequence > *sequence) {
		// Not taken: the guest repeats it, for as long as the disk is full.
		if (log_file_write_lines(&shim->guest.logs[query.container], clock_wall_ms(),
					 streams[query.stream], message->body, message->body_length,
					 &err) < 0) {
			answer_status(shim, connection, 503);
			return;
		}
		*sequence = query.sequence;
		shim->status.log_bytes += message->body_length;
	}
	answer_status(shim, connection, 204);
}

// --- Metadata, open to containers ---

static int read_metadata(struct shim *shim, const char *name, char **ret_text, size_t *ret_length)
{
	char file[CELL_CONTAINER_ID_MAX + 16];
	struct error err = {0};

	snprintf(file, sizeof(file), "%s.json", name);
	return file_read(shim->metadata_fd, file, CELL_METADATA_MAX, ret_text, ret_length, &err);
}

// "/v4/<container-id>" or "/v4/<container-id>/task".
static void route_metadata(struct shim *shim, struct guest_connection *connection,
			   const struct http_message *message)
{
	const char *id = message->path + strlen(GUEST_PATH_METADATA);
	size_t id_length = strcspn(id, "/");
	const char *rest = id + id_length;
	char name[CELL_CONTAINER_ID_MAX + 1];
	scoped_free char *container = NULL, *task = NULL;
	size_t length;
	bool wants_task = strcmp(rest, "/task") == 0;

	snprintf(name, sizeof(name), "%.*s", (int)(id_length < sizeof(name) ? id_length : 0), id);
	if ((!wants_task && *rest != '\0') || !cell_container_id_is_valid(name) ||
	    read_metadata(shim, name, &container, &length) < 0 ||
	    (wants_task && read_metadata(shim, CELL_METADATA_TASK, &task, &length) < 0)) {
		answer_status(shim, connection, 404);
		return;
	}
	guest_connection_answer(shim, connection, 200, type_json, wants_task ? task : container,
				length);
}

// --- Dispatch ---

static const struct route {
	const char *path;
	enum http_method method;
	bool is_prefix;
	bool is_open; // needs no token
	void (*answer)(struct shim *shim, struct guest_connection *connection,
		       const struct http_message *message);
} routes[] = {
	{GUEST_PATH_SESSION, HTTP_POST, false, true, route_session},
	{GUEST_PATH_MANIFEST, HTTP_GET, false, false, route_manifest},
	{GUEST_PATH_COMMANDS, HTTP_GET, false, false, route_commands},
	{GUEST_PATH_STATUS, HTTP_POST, false, false, route_status},
	{GUEST_PATH_LOGS, HTTP_POST, false, false, route_logs},
	{GUEST_PATH_METADATA, HTTP_GET, true, true, route_metadata},
};

static bool route_matches(const struct route *route, const char *path)
{
	if (route->is_prefix)
		return strncmp(path, route->path, strlen(route->path)) == 0;
	return strcmp(path, route->path) == 0;
}

void shim_route(struct shim *shim, struct guest_connection *connection,
		const struct http_message *message)
{
	const struct route *route = NULL;

	for (size_t i = 0; i < ARRAY_LENGTH(routes) && !route; i++)
		if (route_matches(&routes[i], message->path))
			route = &routes[i];
	if (!route) {
		answer_status(shim, connection, 404);
		return;
	}
	if (message->method != route->method) {
		answer_status(shim, connection, 405);
		return;
	}
	if (!route->is_open && !is_token(&shim->guest, message->bearer)) {
		answer_status(shim, connection, 403);
		return;
	}
	connection->authenticated |= !route->is_open;
	if (!route->is_open)
		shim_guest_heard(shim);
	// The manifest holds what siblings must not know of each other, and the token travels in
	// the clear on a link that a container with CAP_NET_RAW can listen to. penstock-init asks
	// for nothing else before it has the manifest, and starts nothing before that.
	shim->guest.manifest_given |= !route->is_open && route->answer != route_manifest;
	route->answer(shim, connection, message);
}
