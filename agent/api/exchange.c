// SPDX-License-Identifier: Apache-2.0
// One request from its connection to its handler, and its reply back.
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/api/internal.h"
#include "agent/base/clock.h"
#include "agent/base/http_head.h"
#include "agent/base/log.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"

enum { RETRY_AFTER_SECONDS = 1 };

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

static bool query_pair_read(struct exchange *exchange, char *pair)
{
	char *value = strchr(pair, '=');

	if (value)
		*value++ = '\0';
	if (*pair && value && request_query_decode(pair) && request_query_decode(value))
		return query_add(exchange, pair, value);
	reply_error(exchange, REPLY_INVALID_REQUEST, NULL, "malformed query string");
	return false;
}

static bool query_read(struct exchange *exchange, const char *text)
{
	char *pairs = arena_strdup(&exchange->arena, text);
	char *pair;

	while ((pair = strsep(&pairs, "&")))
		if ((*pair || pairs) && !query_pair_read(exchange, pair))
			return false;
	return exchange_query_flag(exchange, "dryRun", &exchange->dry_run);
}

// If-Match: 42 or "42".
static bool if_match_read(struct exchange *exchange)
{
	const char *value = exchange->connection->reader.request.if_match;
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

static const char *const access_needs[] = {
	[ACCESS_READ] = "root, the writer group or the reader group may read",
	[ACCESS_WRITE] = "only root and the writer group may change things",
};

static bool access_check(struct exchange *exchange)
{
	if (exchange->access >= exchange->route->access)
		return true;
	reply_error(exchange, REPLY_ACCESS_DENIED, NULL, "%s",
		    access_needs[exchange->route->access]);
	return false;
}

static bool exchange_route(struct exchange *exchange)
{
	const struct request *request = &exchange->connection->reader.request;

	exchange->route = route_match(exchange, request->path);
	return exchange->route && access_check(exchange) && query_read(exchange, request->query) &&
	       if_match_read(exchange);
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

// Nobody is there to answer: ends it all the same.
static void exchange_abandon(struct exchange *exchange)
{
	if (exchange->stream) {
		stream_end(exchange);
		return;
	}
	exchange_unhold(exchange);
	exchange_finish(exchange);
}

// A client that has closed its side may still read, but nothing true can be said to it: what was
// awaited did not come, and a scrape is not whole. So it gets no answer.
static void on_hangup(evutil_socket_t fd, short what, void *context)
{
	struct exchange *exchange = context;

	(void)fd;
	(void)what;
	if (exchange->connection)
		connection_cut(exchange->connection);
	exchange_abandon(exchange);
}

// A connection is not read while its request is being answered, so a peer that leaves while it is
// waited for must be noticed here.
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

// --- From the connection ---

static struct exchange *exchange_new(struct api *api, struct connection *connection)
{
	const struct request *request = &connection->reader.request;
	struct exchange *exchange = calloc(1, sizeof(*exchange));

	if (!exchange)
		abort();
	exchange->api = api;
	exchange->connection = connection;
	connection->owner = exchange;
	exchange->begun_us = clock_monotonic_us();
	exchange->access = connection->access;
	exchange->method =
		arena_strdup(&exchange->arena, request->method ? request->method : "UNKNOWN");
	exchange->target = arena_strdup(&exchange->arena, request->path ? request->path : "");
	return exchange;
}

// Answered after the commit.
static void exchange_queue(struct exchange *exchange)
{
	TAILQ_INSERT_TAIL(&exchange->api->turn, exchange, link);
	exchange->queued = true;
}

// The head says enough to refuse a request whose body was not read.
static bool on_head(struct connection *connection, void *context)
{
	struct api *api = context;
	struct exchange *exchange = exchange_new(api, connection);

	if (connection->standing == STANDING_REFUSED)
		reply_error(exchange, REPLY_TOO_MANY_CONNECTIONS, NULL,
			    "of %u connections all are taken, or as many as one process (half) or "
			    "one user (three quarters) may hold",
			    api->options.connections_max);
	else if (exchange_route(exchange))
		return true;
	exchange_queue(exchange);
	return false;
}

static void on_complete(struct connection *connection, void *context)
{
	struct exchange *exchange = connection->owner;

	(void)context;
	exchange->body = buffer_text(&connection->reader.request.body);
	exchange->body_length = connection->reader.request.body.length;
	exchange_queue(exchange);
	exchange->route->handler(exchange);
	exchange->body = NULL;
	buffer_release(&connection->reader.request.body);
}

static enum reply_code code_of_fault(unsigned status)
{
	static const struct {
		unsigned status;
		enum reply_code code;
	} faults[] = {
		{413, REPLY_REQUEST_TOO_LARGE},     {431, REPLY_HEAD_TOO_LARGE},
		{501, REPLY_NOT_IMPLEMENTED},       {503, REPLY_UNAVAILABLE},
		{505, REPLY_VERSION_NOT_SUPPORTED},
	};

	for (size_t i = 0; i < ARRAY_LENGTH(faults); i++)
		if (faults[i].status == status)
			return faults[i].code;
	return REPLY_INVALID_REQUEST;
}

// Strangers do not hear what is wrong with their requests.
static void on_fault(struct connection *connection, void *context)
{
	struct exchange *exchange =
		connection->owner ? connection->owner : exchange_new(context, connection);
	unsigned status = connection->reader.fault_status;

	if (connection->standing == STANDING_STRANGER)
		reply_error(exchange, REPLY_ACCESS_DENIED, NULL, "%s", access_needs[ACCESS_READ]);
	else if (status == 413)
		reply_error(exchange, REPLY_REQUEST_TOO_LARGE, NULL,
			    "the body is longer than the %d bytes that are taken",
			    API_BODY_BYTES_MAX);
	else
		reply_error(exchange, code_of_fault(status), NULL, "%s", connection->reader.fault);
	exchange_queue(exchange);
}

static void shut_down(struct api *api)
{
	if (!api->closing)
		api->backend->shutdown(api->backend->context, api->shutdown_stops_tasks);
}

// The reply to a shutdown was sent, or its peer has gone.
static void end_agent(struct exchange *exchange)
{
	struct api *api = exchange->api;

	if (exchange->connection)
		exchange->connection->owner = NULL;
	exchange_free(exchange);
	shut_down(api);
}

static void on_drained(struct connection *connection, void *context)
{
	struct exchange *exchange = connection->owner;

	(void)context;
	if (exchange->stream && exchange->stream->behind)
		stream_pump(exchange);
	else if (exchange->ends_agent)
		end_agent(exchange);
}

static void on_gone(struct connection *connection, void *context)
{
	struct exchange *exchange = connection->owner;

	(void)context;
	exchange->connection = NULL;
	if (exchange->held_in)
		exchange_abandon(exchange);
	else if (exchange->ends_agent && exchange->sent)
		end_agent(exchange);
	else if (!exchange->queued)
		exchange_free(exchange);
}

const struct connection_ops exchange_ops = {
	.head = on_head,
	.complete = on_complete,
	.fault = on_fault,
	.drained = on_drained,
	.gone = on_gone,
};

// --- Sending its reply ---

// Any word may stand for the method in a request; the label of a metric must not take any word.
static const char *method_label(const char *method)
{
	for (size_t i = 0; i < api_route_count; i++)
		if (strcmp(api_routes[i].method, method) == 0)
			return api_routes[i].method;
	return "other";
}

static void observe(const struct exchange *exchange, size_t length)
{
	const struct api_backend *backend = exchange->api->backend;
	const struct api_request_sample sample = {
		.method = method_label(exchange->method),
		.route = exchange->route ? exchange->route->pattern : "none",
		.status = exchange->status,
		.duration_us = clock_monotonic_us() - exchange->begun_us,
	};

	backend->request_observed(backend->context, &sample);
	log_debug(NULL, "api: %s %s -> %u, %zu bytes, %" PRId64 " us, uid %d", exchange->method,
		  exchange->target, exchange->status, length, sample.duration_us,
		  exchange->connection ? (int)exchange->connection->uid : -1);
}

static bool is_for_load(unsigned status)
{
	return status == 429 || status == 503;
}

bool exchange_keeps_connection(const struct exchange *exchange)
{
	return connection_may_keep(exchange->connection) && !is_for_load(exchange->status) &&
	       !exchange->ends_agent && !(exchange->stream && !exchange->stream->chunked);
}

static void date_add(struct evbuffer *out)
{
	char text[64];
	struct tm date;
	time_t now = time(NULL);

	gmtime_r(&now, &date);
	strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &date);
	evbuffer_add_printf(out, "Date: %s\r\n", text);
}

void exchange_head_write(struct exchange *exchange, int64_t length)
{
	struct evbuffer *out = connection_output(exchange->connection);
	bool keep = exchange_keeps_connection(exchange);
	unsigned minor = exchange->connection->reader.request.minor;

	evbuffer_add_printf(out, "HTTP/1.1 %u %s\r\n", exchange->status,
			    http_reason(exchange->status));
	date_add(out);
	if (exchange->content_type)
		evbuffer_add_printf(out, "Content-Type: %s\r\n", exchange->content_type);
	if (length >= 0 && exchange->status != 204)
		evbuffer_add_printf(out, "Content-Length: %" PRId64 "\r\n", length);
	if (length < 0 && exchange->stream->chunked)
		evbuffer_add_printf(out, "Transfer-Encoding: chunked\r\n");
	if (exchange->allow)
		evbuffer_add_printf(out, "Allow: %s\r\n", exchange->allow);
	if (exchange->etag)
		evbuffer_add_printf(out, "ETag: \"%" PRIu64 "\"\r\n", exchange->etag);
	if (is_for_load(exchange->status))
		evbuffer_add_printf(out, "Retry-After: %d\r\n", RETRY_AFTER_SECONDS);
	if (!keep || minor == 0)
		evbuffer_add_printf(out, "Connection: %s\r\n", keep ? "keep-alive" : "close");
	evbuffer_add_printf(out, "Penstock-Epoch: %s\r\n\r\n", store_epoch(exchange->api->store));
}

static void free_body(const void *data, size_t length, void *context)
{
	(void)data;
	(void)length;
	free(context);
}

static void body_write(struct exchange *exchange)
{
	size_t length = exchange->reply.length;
	char *text;

	if (length == 0 || exchange->status == 204 || strcmp(exchange->method, "HEAD") == 0)
		return;
	text = buffer_take(&exchange->reply);
	if (evbuffer_add_reference(connection_output(exchange->connection), text, length, free_body,
				   text) < 0)
		abort();
}

void exchange_finish(struct exchange *exchange)
{
	struct connection *connection = exchange->connection;

	exchange->queued = false;
	observe(exchange, exchange->reply.length);
	if (connection) {
		bool keep = exchange_keeps_connection(exchange);

		exchange_head_write(exchange, (int64_t)exchange->reply.length);
		body_write(exchange);
		if (exchange->ends_agent) {
			exchange->sent = true;
			connection_answered_last(connection);
			return;
		}
		connection_answered(connection, keep);
	}
	if (exchange->ends_agent)
		end_agent(exchange);
	else
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
	buffer_release(&exchange->reply);
	arena_release(&exchange->arena);
	free(exchange);
}
