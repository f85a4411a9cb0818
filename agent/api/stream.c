// SPDX-License-Identifier: Apache-2.0
// Replies that go on: what is written to a reader depends on how fast it reads.
//
// A stream is pulled, never pushed: it is asked for a slice when the last one has left
// the output buffer, or when something happened while the buffer has room. So the agent
// holds one buffer's worth for each reader and the source (store, log file) the rest.
#include "agent/api/internal.h"

static bool has_room(const struct exchange *exchange)
{
	return evbuffer_get_length(connection_output(exchange->connection)) <
	       exchange->api->options.follow_buffer_bytes;
}

bool stream_prepare(struct exchange *exchange, struct stream *stream, const struct stream_ops *ops,
		    const char *content_type)
{
	stream->ops = ops;
	stream->exchange = exchange;
	if (!exchange_may_hold(exchange)) {
		ops->release(stream);
		return false;
	}
	exchange->stream = stream;
	reply_begin(exchange, 200, content_type);
	return true;
}

// What is left is sent, then the connection takes its next request; a reader that does not read
// even now has the ordinary deadline.
void stream_end(struct exchange *exchange)
{
	struct connection *connection = exchange->connection;
	bool keep = connection && exchange_keeps_connection(exchange);

	exchange_unhold(exchange);
	if (connection) {
		if (exchange->stream->chunked)
			evbuffer_add(connection_output(connection), "0\r\n\r\n", 5);
		connection_answered(connection, keep);
	}
	exchange_free(exchange);
}

static bool send_part(struct exchange *exchange, struct evbuffer *part)
{
	struct evbuffer *out = connection_output(exchange->connection);
	size_t length = evbuffer_get_length(part);

	if (length == 0)
		return false;
	if (exchange->stream->chunked)
		evbuffer_add_printf(out, "%zx\r\n", length);
	evbuffer_add_buffer(out, part);
	if (exchange->stream->chunked)
		evbuffer_add(out, "\r\n", 2);
	return true;
}

// Without the last chunk the reply is seen to be cut off.
static void cut(struct exchange *exchange)
{
	struct connection *connection = exchange->connection;

	connection->owner = NULL;
	connection_cut(connection);
	exchange->connection = NULL;
}

// A reader may be silent for as long as it likes, but not leave what it was sent unread: only what
// it takes puts its deadline off.
static void set_deadline(struct exchange *exchange, enum stream_state state, bool sent)
{
	struct stream *stream = exchange->stream;

	if (state != STREAM_MORE)
		connection_busy(exchange->connection);
	else if (sent || !stream->behind)
		connection_await(exchange->connection);
	stream->behind = state == STREAM_MORE;
}

void stream_pump(struct exchange *exchange)
{
	struct stream *stream = exchange->stream;
	struct evbuffer *part = evbuffer_new();
	enum stream_state state = STREAM_MORE;
	bool sent = false;

	while (state == STREAM_MORE && has_room(exchange)) {
		state = stream->ops->pull(stream, part);
		sent = send_part(exchange, part) || sent;
	}
	if (state == STREAM_MORE && stream->ops->overflows(stream, part)) {
		send_part(exchange, part);
		state = STREAM_DONE;
	}
	evbuffer_free(part);
	if (state == STREAM_BROKEN)
		cut(exchange);
	if (state == STREAM_DONE || state == STREAM_BROKEN) {
		stream_end(exchange);
		return;
	}
	set_deadline(exchange, state, sent);
	connection_flush(exchange->connection);
}

void stream_start(struct exchange *exchange)
{
	struct api *api = exchange->api;

	exchange->queued = false;
	if (!exchange->connection) {
		exchange_finish(exchange); // nobody is there any more
		return;
	}
	// HTTP/1.0 knows no chunks.
	exchange->stream->chunked = exchange->connection->reader.request.minor == 1;
	exchange_head_write(exchange, -1);
	exchange->stream->started = true;
	exchange_hold(exchange, &api->streaming);
	stream_pump(exchange);
}

void streams_pump(struct api *api)
{
	struct exchange *exchange = TAILQ_FIRST(&api->streaming);

	while (exchange) {
		struct exchange *next = TAILQ_NEXT(exchange, link);

		stream_pump(exchange);
		exchange = next;
	}
}
