// SPDX-License-Identifier: Apache-2.0
// What the files of the API share.
//
// An exchange is one request and its reply. Its handler runs at once and fills the reply
// in, or says that it waits or streams; nothing is sent before the turn's commit. Exchanges
// live in one of four lists: `turn` (until api_turn_end), `waiting` (for a task's state),
// `scraping` (metrics) and `streaming` (events, logs); an answered exchange is freed. When the peer
// goes away first, the exchange has no connection any more: answering it frees it quietly.
#pragma once

#include <sys/queue.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include "agent/api/api.h"
#include "agent/api/connections.h"
#include "agent/api/socket.h"

enum { API_SEGMENTS_MAX = 6, API_QUERY_MAX = 8, API_STREAMS_RESERVE = 8 };

struct exchange;
struct stream;

typedef void api_handler(struct exchange *exchange);

struct route {
	const char *method;
	const char *pattern; // "{kind}" and "{id}" stand for a kind's path and an id
	enum access access;
	api_handler *handler;
	const char *query; // names of the parameters it takes, separated by spaces
};

struct query {
	const char *names[API_QUERY_MAX], *values[API_QUERY_MAX];
	unsigned count;
};

// What `wait` asks for.
struct wait {
	bool wanted;
	enum task_state state;
	uint64_t seen_revision; // of the task, when it was looked at last
	unsigned timeout_ms;
	struct event *timer;
};

// Of the metrics.
struct scrape {
	bool wanted, openmetrics;
	unsigned position; // as the backend keeps it
	struct event *timer;
};

TAILQ_HEAD(exchange_list, exchange);

struct exchange {
	TAILQ_ENTRY(exchange) link;
	struct api *api;
	struct connection *connection; // NULL once the peer is gone
	struct arena arena;            // lives as long as the exchange
	int64_t begun_us;
	const char *method, *target; // as they were sent
	enum access access;          // of the peer
	const struct route *route;   // NULL: none matched
	enum model_kind kind;        // of "{kind}", or as the handler says
	const char *id;              // of "{id}"
	struct query query;
	const char *body; // while its handler runs
	size_t body_length;
	uint64_t if_match; // 0: not asked for
	bool dry_run;

	// The reply.
	unsigned status;
	const char *content_type;
	struct buffer reply;
	uint64_t etag;       // 0: none
	const char *allow;   // the methods that the path takes; NULL: of no interest
	bool acknowledges;   // it promises a change: the commit must be durable
	bool object_changed; // tell the backend after the commit
	struct wait wait;
	struct scrape scrape;
	struct stream *stream; // NULL: an ordinary reply

	bool ends_agent; // the backend is told to shut down once the reply is sent
	bool queued; // answered at the end of the turn, or later: not to be freed by its connection
	bool sent;   // its whole reply was given to the connection, and it is kept all the same

	bool may_be_held;              // counted in api->held
	struct exchange_list *held_in; // NULL: in the turn
	struct event *hangup;          // while held
};

struct api {
	struct event_base *base;
	struct store *store;
	const struct api_backend *backend;
	struct api_options options;
	struct api_socket socket;
	struct event *socket_sweep;
	struct connections *connections;
	struct exchange_list turn, waiting, scraping, streaming;
	unsigned held; // exchanges that wait or stream, or will after the commit
	uint64_t committed_revision;
	bool shutdown_stops_tasks;
	bool closing;
};

// --- exchange.c ---

extern const struct connection_ops exchange_ops; // but for the context, which is the api
// Writes the head of its reply. `length` of the body; -1: in chunks, as far as the client knows
// them.
void exchange_head_write(struct exchange *exchange, int64_t length);
// Whether another request may follow on the connection.
bool exchange_keeps_connection(const struct exchange *exchange);
// Sends the reply and frees the exchange (which is in no list).
void exchange_finish(struct exchange *exchange);
void exchange_free(struct exchange *exchange);
// Takes one of the places for those; false with 429 set when there is none.
bool exchange_may_hold(struct exchange *exchange);
// Keeps it in the list until exchange_unhold(), or until its peer goes away.
void exchange_hold(struct exchange *exchange, struct exchange_list *list);
void exchange_unhold(struct exchange *exchange);
// The value of a query parameter, NULL when absent.
const char *exchange_query(const struct exchange *exchange, const char *name);
// Parses "true" and "false"; false with the error reply set for other values.
bool exchange_query_flag(struct exchange *exchange, const char *name, bool *ret_value);
bool exchange_may_write(const struct exchange *exchange);

// --- reply.c: each sets the reply and returns ---

enum reply_code {
	REPLY_INVALID_REQUEST,
	REPLY_INVALID_PARAMETER,
	REPLY_REFERENCE_NOT_FOUND,
	REPLY_ACCESS_DENIED,
	REPLY_NOT_FOUND,
	REPLY_METHOD_NOT_ALLOWED,
	REPLY_CONFLICT,
	REPLY_IN_USE,
	REPLY_INSUFFICIENT_CAPACITY,
	REPLY_COMPACTED,
	REPLY_EPOCH_CHANGED,
	REPLY_REVISION_MISMATCH,
	REPLY_REQUEST_TOO_LARGE,
	REPLY_HEAD_TOO_LARGE,
	REPLY_NOT_IMPLEMENTED,
	REPLY_VERSION_NOT_SUPPORTED,
	REPLY_TOO_MANY_STREAMS,
	REPLY_INTERNAL_ERROR,
	REPLY_STORE_UNAVAILABLE,
	REPLY_TOO_MANY_CONNECTIONS,
	REPLY_UNAVAILABLE,
	REPLY_INSUFFICIENT_STORAGE,
	REPLY_CODE_COUNT,
};

__attribute__((format(printf, 4, 5))) void reply_error(struct exchange *exchange,
						       enum reply_code code,
						       const struct fault_list *faults,
						       const char *format, ...);
// The reply for a negative errno of the store or the backend.
void reply_errno(struct exchange *exchange, int result, const struct fault_list *faults,
		 const struct error *err);
// Starts a reply with an empty body to be filled: exchange->reply.
struct buffer *reply_begin(struct exchange *exchange, unsigned status, const char *content_type);
struct buffer *reply_json(struct exchange *exchange, unsigned status);
// An object as its reader may see it.
void reply_object(struct exchange *exchange, unsigned status, const struct store_object *object);
struct model_envelope envelope_of(const struct exchange *exchange,
				  const struct store_object *object, struct arena *arena);

// --- routes.c ---

extern const struct route api_routes[];
extern const size_t api_route_count;

// Finds the route of method and path and fills kind and id; else sets the error reply and
// returns NULL.
const struct route *route_match(struct exchange *exchange, const char *path);

// --- Handlers ---

api_handler handle_object_list, handle_object_get, handle_object_put, handle_object_delete;
api_handler handle_task_put, handle_task_delete, handle_task_stop, handle_task_adopt,
	handle_task_logs;
api_handler handle_enis, handle_eni, handle_targets, handle_host, handle_events;
api_handler handle_metrics, handle_healthz, handle_readyz, handle_openapi, handle_shutdown;

// --- objects.c: shared with the tasks' handlers ---

// The stored object; false with the reply set when there is none or it cannot be read.
bool object_load(struct exchange *exchange, struct store_object *ret_object);
// 0 and the object, -ENOENT, or another error.
int object_find(struct exchange *exchange, struct store_object *ret_object, struct error *err);
// Checks If-Match against the stored object (NULL: there is none). A revision will do since which
// nothing changed but its status: there is nothing that the client could overwrite unseen.
bool object_revision_matches(struct exchange *exchange, const struct store_object *stored);

// --- checks.c ---

enum check {
	CHECK_FORM,
	CHECK_LINKS, // and that what it refers to is there
};

// Parses the body and checks it; false with the reply set. The canonical text goes to `ret_spec`.
bool document_check(struct exchange *exchange, enum check check, struct model_object *ret_object,
		    const char **ret_spec);
// The pointers where both texts differ as faults; 0, or an error.
int document_differences(struct exchange *exchange, const char *one, const char *other,
			 bool immutable_only, struct fault_list *ret_faults, struct error *err);
// Replies 409 with the users when there are any.
bool object_is_unused(struct exchange *exchange);

// --- wait.c ---

// Reads `wait` and `timeout`; false with the reply set when they are wrong.
bool wait_read(struct exchange *exchange);
// After the commit: answers, or keeps the exchange waiting.
void wait_begin(struct exchange *exchange);
// After a commit that changed something: answers those whose state has come.
void waits_check(struct api *api);

// --- scrape.c ---

// After the commit: answers, at once or in a later turn.
void scrape_begin(struct exchange *exchange);

// --- stream.c: replies without an end of their own ---

enum stream_state {
	STREAM_MORE,   // call again once it is sent
	STREAM_IDLE,   // call again when something happened
	STREAM_DONE,   // nothing more will come
	STREAM_BROKEN, // what there is cannot be had: the reader is to see that this is no end
};

struct stream_ops {
	// Adds what there is, a slice at a time, to `out`.
	enum stream_state (*pull)(struct stream *stream, struct evbuffer *out);
	// A reader that does not keep up is cut off when this is true; it adds its last words.
	bool (*overflows)(struct stream *stream, struct evbuffer *out);
	void (*release)(struct stream *stream);
};

// The head of a stream; the kinds of streams put it first in their own struct.
struct stream {
	const struct stream_ops *ops;
	struct exchange *exchange;
	bool started;
	bool chunked; // else the end of the connection is the end of the reply
	bool behind;  // its reader is: there is more than it has taken
};

// Makes the exchange's reply a stream; false with 429 set when too many are held already.
bool stream_prepare(struct exchange *exchange, struct stream *stream, const struct stream_ops *ops,
		    const char *content_type);
// After the commit: sends the head and the first part.
void stream_start(struct exchange *exchange);
// Ends the reply and frees the exchange.
void stream_end(struct exchange *exchange);
// Sends what there is, as far as the reader keeps up. May free the exchange.
void stream_pump(struct exchange *exchange);
// After a commit: every stream may have more to say.
void streams_pump(struct api *api);
