// SPDX-License-Identifier: Apache-2.0
// The shim's reader of requests and penstock-init's of responses. The first byte says how the rest
// is cut into pieces, the second which of them reads it.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/guest/http.h"
#include "agent/guest/protocol.h"

// Touches every byte a server would: out of bounds shows here.
static void use(enum http_kind kind, const struct http_message *message)
{
	size_t sum = strlen(message->path) + strlen(message->query) + strlen(message->bearer);
	struct guest_log_query query;
	uint64_t after;

	for (size_t i = 0; i < message->body_length; i++)
		sum += (unsigned char)message->body[i];
	if (sum == SIZE_MAX || message->body_length > GUEST_BODY_MAX)
		abort();
	if (kind == HTTP_RESPONSE && (message->status < 100 || message->status > 599))
		abort();
	if (kind == HTTP_REQUEST && message->path[0] != '/')
		abort();
	guest_log_query_decode(message->query, &query);
	guest_commands_query_decode(message->query, &after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	scoped(http_reader_close) struct http_reader reader;
	struct http_message message;
	size_t piece = size ? data[0] + 1u : 1;
	enum http_kind kind = size > 1 && data[1] & 1 ? HTTP_RESPONSE : HTTP_REQUEST;

	http_reader_open(&reader, kind, GUEST_BODY_MAX);
	for (size_t at = 2; at < size;) {
		enum http_progress progress;
		char *place;
		size_t room = http_reader_space(&reader, &place);
		size_t count = size - at < piece ? size - at : piece;

		if (!room)
			abort(); // promised by the door
		count = count < room ? count : room;
		memcpy(place, data + at, count);
		http_reader_advance(&reader, count);
		at += count;
		while ((progress = http_reader_next(&reader, &message)) == HTTP_COMPLETE) {
			use(kind, &message);
			http_reader_consume(&reader);
		}
		if (progress == HTTP_FAULT)
			return 0;
	}
	return 0;
}
