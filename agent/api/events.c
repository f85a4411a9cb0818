// SPDX-License-Identifier: Apache-2.0
// GET /v1/events: the watch. One JSON line per event, from the store, in its order.
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/api/internal.h"
#include "agent/base/log.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"

enum { SLICE_EVENTS = 64, SLICE_BYTES = 64 * 1024 }; // whichever comes first

struct event_stream {
	struct stream stream; // first
	uint64_t next_after;  // the last revision that was looked at
	uint64_t until;       // not following: the last revision to send
	bool follow;
	const char *kind, *id; // NULL: any
};

struct slice {
	struct event_stream *events;
	struct evbuffer *out;
	uint64_t last; // committed; what comes after may be rolled back
	unsigned seen;
	bool full;
};

static bool is_wanted(const struct event_stream *events, const struct store_object *object)
{
	return (!events->kind || strcmp(events->kind, object->kind) == 0) &&
	       (!events->id || strcmp(events->id, object->id) == 0);
}

static int send_event(const struct store_event *event, void *context)
{
	struct slice *slice = context;
	scoped(arena_release) struct arena arena = {0};
	scoped(buffer_release) struct buffer line = {0};
	struct model_envelope envelope;

	if (event->revision > slice->last)
		return 1;
	slice->seen++;
	slice->events->next_after = event->revision;
	if (!is_wanted(slice->events, &event->object))
		return 0;
	envelope = envelope_of(slice->events->stream.exchange, &event->object, &arena);
	model_event_render(&envelope, event->deleted, event->revision, event->time_ms, &line);
	buffer_adds(&line, "\n");
	evbuffer_add(slice->out, line.data, line.length);
	slice->full = evbuffer_get_length(slice->out) >= SLICE_BYTES;
	return slice->full;
}

static void add_overflow(const struct event_stream *events, struct evbuffer *out)
{
	evbuffer_add_printf(out, "{\"type\":\"OVERFLOW\",\"revision\":%" PRIu64 "}\n",
			    events->next_after);
}

static enum stream_state events_pull(struct stream *stream, struct evbuffer *out)
{
	struct event_stream *events = (struct event_stream *)stream;
	struct api *api = stream->exchange->api;
	struct slice slice = {
		.events = events,
		.out = out,
		.last = events->follow ? api->committed_revision : events->until,
	};
	struct error err = {0};

	if (events->next_after < store_compacted_revision(api->store)) {
		add_overflow(events, out); // the next events are gone: the client lists again
		return STREAM_DONE;
	}
	if (events->next_after < slice.last &&
	    store_event_each(api->store, events->next_after, SLICE_EVENTS, send_event, &slice,
			     &err) < 0) {
		log_error(NULL, "events: %s", err.message);
		return STREAM_BROKEN;
	}
	if (slice.full || slice.seen == SLICE_EVENTS)
		return STREAM_MORE;
	return events->follow ? STREAM_IDLE : STREAM_DONE;
}

static bool events_overflow(struct stream *stream, struct evbuffer *out)
{
	const struct event_stream *events = (const struct event_stream *)stream;
	const struct api *api = stream->exchange->api;

	if (!events->follow ||
	    api->committed_revision - events->next_after <= api->options.follow_lag)
		return false;
	add_overflow(events, out);
	return true;
}

static void events_release(struct stream *stream)
{
	free(stream);
}

static const struct stream_ops event_ops = {events_pull, events_overflow, events_release};

// Where to begin: `since`, else the oldest event kept, or the newest when following.
static bool since_read(struct exchange *exchange, struct event_stream *events)
{
	const char *since = exchange_query(exchange, "since");
	const char *epoch = exchange_query(exchange, "epoch");
	struct store *store = exchange->api->store;

	events->until = store_revision(store);
	events->next_after = events->follow ? events->until : store_compacted_revision(store);
	if (since && parse_u64(since, INT64_MAX, &events->next_after) < 0)
		reply_error(exchange, REPLY_INVALID_REQUEST, NULL,
			    "query parameter since must be a revision");
	else if (epoch && strcmp(epoch, store_epoch(store)) != 0)
		reply_error(exchange, REPLY_EPOCH_CHANGED, NULL,
			    "the store's epoch is %s now: list again", store_epoch(store));
	else if (events->next_after > events->until)
		reply_error(exchange, REPLY_EPOCH_CHANGED, NULL,
			    "revision %s is not reached yet, it is of another epoch: list again",
			    since);
	else if (events->next_after < store_compacted_revision(store))
		reply_error(exchange, REPLY_COMPACTED, NULL,
			    "events up to revision %" PRIu64 " are compacted: list again",
			    store_compacted_revision(store));
	else
		return true;
	return false;
}

static bool filter_read(struct exchange *exchange, struct event_stream *events)
{
	enum model_kind kind;

	events->kind = exchange_query(exchange, "kind");
	events->id = exchange_query(exchange, "id");
	if (!events->kind || strcmp(events->kind, "host") == 0 ||
	    model_kind_from_name(events->kind, &kind) == 0)
		return true;
	reply_error(exchange, REPLY_INVALID_REQUEST, NULL,
		    "query parameter kind must be an object's kind, as task or vpc");
	return false;
}

void handle_events(struct exchange *exchange)
{
	struct event_stream *events = calloc(1, sizeof(*events));

	if (!events)
		abort();
	if (!exchange_query_flag(exchange, "follow", &events->follow) ||
	    !filter_read(exchange, events) || !since_read(exchange, events)) {
		free(events);
		return;
	}
	stream_prepare(exchange, &events->stream, &event_ops, "application/x-ndjson");
}
