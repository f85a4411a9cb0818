// SPDX-License-Identifier: Apache-2.0
// One request from evhttp to its handler, and its reply back.
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <event2/keyvalq_struct.h>

#include "agent/api/internal.h"
#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"

static const struct {
	enum evhttp_cmd_type type;
	const char *name;
} methods[] = {
	{EVHTTP_REQ_GET, "GET"},         {EVHTTP_REQ_POST, "POST"},   {EVHTTP_REQ_PUT, "PUT"},
	{EVHTTP_REQ_DELETE, "DELETE"},   {EVHTTP_REQ_HEAD, "HEAD"},   {EVHTTP_REQ_PATCH, "PATCH"},
	{EVHTTP_REQ_OPTIONS, "OPTIONS"}, {EVHTTP_REQ_TRACE, "TRACE"},
};

static const char *method_name(enum evhttp_cmd_type type)
{
	for (size_t i = 0; i < ARRAY_LENGTH(methods); i++)
		if (methods[i].type == type)
			return methods[i].name;
	return "UNKNOWN";
}

const char *exchange_query(const struct exchange *exchange, const char *name)
{
	for (unsigned i = 0; i < exchange->query.count; i++)
		if (strcmp(exchange->query.names[i], name) == 0)
			return exchange->query.values[i];
	return NULL;
}

bool exchange_query_flag(struct exchange *exchange, const char *name, bool *ret_value)
{
	const char *value = exchange_query(exchange, name);

	if (!value || strcmp(value, "false") == 0) {
		*ret_value = false;
		return true;
	}
	if (strcmp(value, "true") == 0) {
		*ret_value = true;
		return true;
	}
	reply_error(exchange, REPLY_INVALID_REQUEST, NULL,
		    "query parameter %s must be true or false", name);
	return false;
}

bool exchange_may_write(const struct exchange *exchange)
{
	return exchange->access == ACCESS_WRITE;
}

// --- Taking a request in ---

static bool word_in(const char *words, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = words; length > 0 && (at = strstr(at, word)); at += length)
		if ((at == words || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0'))
			return true;
	return false;
}

static bool query_add(struct exchange *exchange, const char *name, const char *value)
{
	struct query *query = &exchange->query;

	if (!word_in(exchange->route->query, name)) {
		reply_error(exchange, REPLY_INVALID_REQUEST, NULL,
			    "unknown query parameter \"%.60s\"; known here: %s", name,
			    exchange->route->query[0] ? exchange->route->query : "none");
		return false;
	}
	if (exchange_query(exchange, name) || query->count == API_QUERY_MAX) {
		reply_error(exchange, REPLY_INVALID_REQUEST, NULL,
			    "query parameter %s is given twice", name);
		return false;
	}
	query->names[query->count] = arena_strdup(&exchange->arena, name);
	query->values[query->count++] = arena_strdup(&exchange->arena, value);
	return true;
}

static bool query_read(struct exchange *exchange, const char *text)
{
	struct evkeyvalq parsed;
	bool good = true;

	if (!text || !*text)
		return true;
	if (evhttp_parse_query_str(text, &parsed) < 0) {
		reply_error(exchange, REPLY_INVALID_REQUEST, NULL, "malformed query string");
		return false;
	}
	for (struct evkeyval *pair = parsed.tqh_first; pair && good; pair = pair->next.tqe_next)
		good = query_add(exchange, pair->key, pair->value);
	evhttp_clear_headers(&parsed);
	return good && exchange_query_flag(exchange, "dryRun", &exchange->dry_run);
}

// If-Match: 42 or "42".
static bool if_match_read(struct exchange *exchange)
{
	const char *value =
		evhttp_find_header(evhttp_request_get_input_headers(exchange->http), "If-Match");
	size_t length = value ? strlen(value) : 0;
	char *digits;

	if (!value)
		return true;
	if (length >= 2 && value[0] == '"' && value[length - 1] == '"')
		digits = arena_strndup(&exchange->arena, value + 1, length - 2);
	else
		digits = arena_strdup(&exchange->arena, value);
	if (parse_u64(digits, INT64_MAX, &exchange->if_match) == 0 && exchange->if_match > 0)
		return true;
	reply_error(exchange, REPLY_INVALID_REQUEST, NULL,
		    "If-Match must be the revision that is to be changed, as in If-Match: \"42\"");
	return false;
}

static bool body_read(struct exchange *exchange)
{
	struct evbuffer *body = evhttp_request_get_input_buffer(exchange->http);

	exchange->body_length = evbuffer_get_length(body);
	if (exchange->body_length > API_BODY_BYTES_MAX) {
		reply_error(exchange, REPLY_REQUEST_TOO_LARGE, NULL,
			    "the body has %zu bytes, at most %d are taken", exchange->body_length,
			    API_BODY_BYTES_MAX);
		return false;
	}
	exchange->body = exchange->body_length > 0 ? (const char *)evbuffer_pullup(body, -1) : "";
	return true;
}

static bool access_check(struct exchange *exchange)
{
	static const char *const needs[] = {
		[ACCESS_READ] = "root, the writer group or the reader group may read",
		[ACCESS_WRITE] = "only root and the writer group may change things",
	};

	if (exchange->access >= exchange->route->access)
		return true;
	reply_error(exchange, REPLY_ACCESS_DENIED, NULL, "%s", needs[exchange->route->access]);
	return false;
}

static bool exchange_route(struct exchange *exchange)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(exchange->http);
	const char *path = uri ? evhttp_uri_get_path(uri) : NULL;

	exchange->route = route_match(exchange, path ? path : "");
	return exchange->route && access_check(exchange) &&
	       query_read(exchange, evhttp_uri_get_query(uri)) && if_match_read(exchange) &&
	       body_read(exchange);
}

// --- Held exchanges ---

bool exchange_may_hold(struct exchange *exchange)
{
	struct api *api = exchange->api;

	if (api->held + API_STREAMS_RESERVE < api->options.connections_max) {
		exchange->may_be_held = true;
		api->held++;
		return true;
	}
	reply_error(exchange, REPLY_TOO_MANY_STREAMS, NULL,
		    "%u requests are followed or waited for already", api->held);
	return false;
}

// Nobody is there to answer: ends it all the same, which frees what evhttp left to us.
static void exchange_abandon(struct exchange *exchange)
{
	if (exchange->stream) {
		stream_end(exchange);
		return;
	}
	exchange_unhold(exchange);
	exchange_finish(exchange);
}

static void on_hangup(evutil_socket_t fd, short what, void *context)
{
	(void)fd;
	(void)what;
	exchange_abandon(context);
}

// evhttp does not look at a connection before it has something to write, so a peer that leaves
// while it is waited for must be noticed here.
void exchange_hold(struct exchange *exchange, struct exchange_list *list)
{
	TAILQ_INSERT_TAIL(list, exchange, link);
	exchange->held_in = list;
	exchange->hangup = event_new(exchange->api->base, exchange->connection->fd, EV_CLOSED,
				     on_hangup, exchange);
	if (exchange->hangup)
		event_add(exchange->hangup, NULL);
}

void exchange_unhold(struct exchange *exchange)
{
	TAILQ_REMOVE(exchange->held_in, exchange, link);
	exchange->held_in = NULL;
	if (exchange->hangup)
		event_free(exchange->hangup);
	exchange->hangup = NULL;
}

// evhttp closes the connection.
static void on_close(struct evhttp_connection *peer, void *context)
{
	struct exchange *exchange = context;

	(void)peer;
	if (exchange->connection)
		connections_forget(exchange->api->connections, exchange->connection);
	exchange->connection = NULL;
	if (exchange->held_in)
		exchange_abandon(exchange);
}

// --- Meeting the peer ---

static struct connection *connection_meet(struct exchange *exchange)
{
	struct evhttp_connection *peer = evhttp_request_get_connection(exchange->http);
	struct bufferevent *bufferevent = evhttp_connection_get_bufferevent(peer);
	struct connection *connection = connections_find(exchange->api->connections, bufferevent);

	bufferevent_set_timeouts(bufferevent, NULL, NULL); // ours are absolute
	evhttp_connection_set_closecb(peer, on_close, exchange);
	if (connection)
		connection_busy(connection);
	return connection;
}

void exchange_begin(struct api *api, struct evhttp_request *http)
{
	struct exchange *exchange = calloc(1, sizeof(*exchange));

	if (!exchange)
		abort();
	exchange->api = api;
	exchange->http = http;
	exchange->begun_us = clock_monotonic_us();
	exchange->method = method_name(evhttp_request_get_command(http));
	exchange->connection = connection_meet(exchange);
	exchange->access = exchange->connection ? exchange->connection->access : ACCESS_NONE;
	TAILQ_INSERT_TAIL(&api->turn, exchange, link);
	if (exchange->connection && exchange->connection->standing == STANDING_REFUSED)
		reply_error(exchange, REPLY_TOO_MANY_CONNECTIONS, NULL,
			    "all of %u connections are taken", api->options.connections_max);
	else if (exchange_route(exchange))
		exchange->route->handler(exchange);
}

// --- Sending its reply ---

static void observe(const struct exchange *exchange)
{
	const struct api_backend *backend = exchange->api->backend;
	const struct api_request_sample sample = {
		.method = exchange->method,
		.route = exchange->route ? exchange->route->pattern : "none",
		.status = exchange->status,
		.duration_us = clock_monotonic_us() - exchange->begun_us,
	};

	backend->request_observed(backend->context, &sample);
	log_debug(NULL, "api: %s %s -> %u, %zu bytes, %" PRId64 " us, uid %d", exchange->method,
		  evhttp_request_get_uri(exchange->http), exchange->status, exchange->reply.length,
		  sample.duration_us, exchange->connection ? (int)exchange->connection->uid : -1);
}

static void header_add(struct exchange *exchange, const char *name, const char *value)
{
	evhttp_add_header(evhttp_request_get_output_headers(exchange->http), name, value);
}

static void headers_set(struct exchange *exchange)
{
	char etag[24];

	if (exchange->content_type)
		header_add(exchange, "Content-Type", exchange->content_type);
	if (exchange->allow)
		header_add(exchange, "Allow", exchange->allow);
	if (exchange->etag) {
		snprintf(etag, sizeof(etag), "\"%" PRIu64 "\"", exchange->etag);
		header_add(exchange, "ETag", etag);
	}
	header_add(exchange, "Penstock-Epoch", store_epoch(exchange->api->store));
	if (!exchange->connection || exchange->connection->standing != STANDING_ADMITTED)
		header_add(exchange, "Connection", "close");
}

static void free_body(const void *data, size_t length, void *context)
{
	(void)data;
	(void)length;
	free(context);
}

static void shut_down(struct api *api)
{
	api->backend->shutdown(api->backend->context, api->shutdown_stops_tasks);
}

static void on_last_reply_sent(struct evhttp_request *http, void *context)
{
	evhttp_connection_set_closecb(evhttp_request_get_connection(http), NULL, NULL);
	shut_down(context);
}

static void on_last_peer_gone(struct evhttp_connection *peer, void *context)
{
	(void)peer;
	shut_down(context);
}

// The reply to a shutdown is sent before the loop ends, or its peer has gone.
static void end_agent_after(struct exchange *exchange, struct evhttp_connection *peer)
{
	if (!peer) {
		shut_down(exchange->api);
		return;
	}
	evhttp_request_set_on_complete_cb(exchange->http, on_last_reply_sent, exchange->api);
	evhttp_connection_set_closecb(peer, on_last_peer_gone, exchange->api);
}

void exchange_finish(struct exchange *exchange)
{
	struct evhttp_connection *peer = evhttp_request_get_connection(exchange->http);
	scoped_free char *unused = NULL;
	struct evbuffer *body = evbuffer_new();
	size_t length = exchange->reply.length;
	char *text = buffer_take(&exchange->reply);

	exchange->reply.length = length; // for the log line only
	observe(exchange);
	exchange->reply.length = 0;
	if (!body || evbuffer_add_reference(body, text, length, free_body, text) < 0)
		unused = text;
	// evhttp would send it, without its length: the next reply's first line to a client.
	if (body && strcmp(exchange->method, "HEAD") == 0)
		evbuffer_drain(body, length);
	headers_set(exchange);
	if (peer)
		evhttp_connection_set_closecb(peer, NULL, NULL);
	if (exchange->ends_agent)
		end_agent_after(exchange, peer);
	if (exchange->connection)
		connection_replied(exchange->api->connections, exchange->connection);
	evhttp_send_reply(exchange->http, (int)exchange->status, NULL, body);
	if (body)
		evbuffer_free(body);
	exchange->http = NULL;
	exchange_free(exchange);
}

void exchange_free(struct exchange *exchange)
{
	exchange->api->held -= exchange->may_be_held;
	if (exchange->hangup)
		event_free(exchange->hangup);
	if (exchange->stream)
		exchange->stream->ops->release(exchange->stream);
	if (exchange->wait.timer)
		event_free(exchange->wait.timer);
	if (exchange->scrape.timer)
		event_free(exchange->scrape.timer);
	if (exchange->http)
		evhttp_send_reply_end(exchange->http); // frees a request without its peer
	buffer_release(&exchange->reply);
	arena_release(&exchange->arena);
	free(exchange);
}
