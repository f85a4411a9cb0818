// SPDX-License-Identifier: Apache-2.0
// Replies that go on: what is written to a reader depends on how fast it reads.
//
// A stream is pulled, never pushed: it is asked for a slice when the last one has left
// the output buffer, or when something happened while the buffer has room. So the agent
// holds one buffer's worth for each reader and the source (store, log file) the rest.
#include <sys/socket.h>

#include "agent/api/internal.h"

static struct bufferevent *bufferevent_of(const struct exchange *exchange)
{
	struct evhttp_connection *peer = evhttp_request_get_connection(exchange->http);

	return peer ? evhttp_connection_get_bufferevent(peer) : NULL;
}

static bool has_room(const struct exchange *exchange)
{
	struct bufferevent *bufferevent = bufferevent_of(exchange);

	return evbuffer_get_length(bufferevent_get_output(bufferevent)) <
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

// evhttp sends what is left and then takes the next request of the connection; a reader that does
// not read even now has the ordinary deadline.
void stream_end(struct exchange *exchange)
{
	struct api *api = exchange->api;
	struct evhttp_connection *peer = evhttp_request_get_connection(exchange->http);

	exchange_unhold(exchange);
	if (peer)
		evhttp_connection_set_closecb(peer, NULL, NULL);
	if (exchange->connection)
		connection_replied(api->connections, exchange->connection);
	exchange_free(exchange);
}

static void on_drained(struct evhttp_connection *peer, void *context)
{
	(void)peer;
	stream_pump(context);
}

static bool send_part(struct exchange *exchange, struct evbuffer *part)
{
	if (evbuffer_get_length(part) == 0)
		return false;
	evhttp_send_reply_chunk_with_cb(exchange->http, part, on_drained, exchange);
	return true;
}

// Without the last chunk the reply is seen to be cut off.
static void cut(struct exchange *exchange)
{
	evutil_socket_t fd = bufferevent_getfd(bufferevent_of(exchange));

	shutdown(fd, SHUT_RDWR);
}

// A reader may be silent for as long as it likes, but not leave what it was sent unread: only what
// it takes puts its deadline off.
static void set_deadline(struct exchange *exchange, enum stream_state state, bool sent)
{
	struct stream *stream = exchange->stream;

	if (state != STREAM_MORE)
		connection_busy(exchange->connection);
	else if (sent || !stream->behind)
		connection_replied(exchange->api->connections, exchange->connection);
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
	if (state == STREAM_DONE || state == STREAM_BROKEN)
		stream_end(exchange);
	else
		set_deadline(exchange, state, sent);
}

void stream_start(struct exchange *exchange)
{
	struct api *api = exchange->api;
	struct evkeyvalq *headers = evhttp_request_get_output_headers(exchange->http);

	if (!exchange->connection || !bufferevent_of(exchange)) {
		exchange_finish(exchange); // nobody is there any more
		return;
	}
	evhttp_add_header(headers, "Content-Type", exchange->content_type);
	evhttp_add_header(headers, "Penstock-Epoch", store_epoch(api->store));
	evhttp_send_reply_start(exchange->http, (int)exchange->status, NULL);
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
