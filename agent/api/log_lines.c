// SPDX-License-Identifier: Apache-2.0
#include "agent/api/log_lines.h"

#include <stdio.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/base/utf8.h"
#include "agent/model/writer.h"

// A shim's lines are shorter; longer ones are passed on in pieces.
enum { PIECE_BYTES_MAX = 256 * 1024 };

static const char *const stream_names[LOG_STREAMS] = {"stdout", "stderr"};

struct text {
	const char *bytes;
	size_t length;
};

// Takes "time stream tag " off the text into the lines' place for it; a text without is one of its
// own.
static void take_header(struct log_lines *lines, struct text *text)
{
	const char *stream = memchr(text->bytes, ' ', text->length);
	const char *end = text->bytes + text->length;
	const char *tag = stream ? memchr(stream + 1, ' ', (size_t)(end - stream - 1)) : NULL;

	lines->time[0] = lines->stream[0] = '\0';
	lines->partial = false;
	if (!tag || end - tag < 3 || (tag[1] != 'F' && tag[1] != 'P') || tag[2] != ' ')
		return;
	snprintf(lines->time, sizeof(lines->time), "%.*s", (int)(stream - text->bytes),
		 text->bytes);
	snprintf(lines->stream, sizeof(lines->stream), "%.*s", (int)(tag - stream - 1), stream + 1);
	lines->partial = tag[1] == 'P';
	*text = (struct text){tag + 3, (size_t)(end - tag - 3)};
}

static void add_json(const char *time, const char *stream, struct text text, bool partial,
		     struct evbuffer *out)
{
	scoped(buffer_release) struct buffer json = {0};
	struct json_writer writer = {.out = &json};

	json_object_begin(&writer, NULL);
	json_string(&writer, "time", time);
	json_string(&writer, "stream", stream);
	json_bytes(&writer, "text", text.bytes, text.length);
	json_boolean(&writer, "partial", partial);
	json_object_end(&writer);
	evbuffer_add_printf(out, "%s\n", buffer_text(&json));
}

static void send_json(struct log_lines *lines, struct text part, bool partial, struct evbuffer *out)
{
	struct log_held *held = &lines->held[strcmp(lines->stream, stream_names[1]) == 0];
	scoped(buffer_release) struct buffer whole = {0};
	struct text text = {0};

	buffer_add(&whole, held->bytes, held->length);
	buffer_add(&whole, part.bytes, part.length);
	text = (struct text){buffer_text(&whole), whole.length};
	held->length = partial ? utf8_unfinished(text.bytes, text.length) : 0;
	text.length -= held->length;
	memcpy(held->bytes, text.bytes + text.length, held->length);
	snprintf(held->time, sizeof(held->time), "%s", lines->time);
	if (text.length > 0 || !partial)
		add_json(lines->time, lines->stream, text, partial, out);
}

// A line, or a piece of one: then more of it follows.
static void send_line(struct log_lines *lines, bool piece, struct evbuffer *out)
{
	struct text text = {buffer_text(&lines->line), lines->line.length};
	bool partial;

	if (!lines->inside)
		take_header(lines, &text);
	partial = piece || lines->partial;
	if (lines->ndjson) {
		send_json(lines, text, partial, out);
	} else {
		evbuffer_add(out, text.bytes, text.length);
		evbuffer_add(out, "\n", !partial);
	}
	lines->inside = piece;
	lines->line.length = 0;
}

void log_lines_add(struct log_lines *lines, const char *bytes, size_t count, struct evbuffer *out)
{
	while (count > 0) {
		const char *end = memchr(bytes, '\n', count);
		size_t length = end ? (size_t)(end - bytes) : count;

		buffer_add(&lines->line, bytes, length);
		if (end || lines->line.length > PIECE_BYTES_MAX)
			send_line(lines, !end, out);
		bytes += length + (end ? 1 : 0);
		count -= length + (end ? 1 : 0);
	}
}

void log_lines_end(struct log_lines *lines, struct evbuffer *out)
{
	if (lines->line.length > 0 || lines->inside)
		send_line(lines, false, out);
	for (size_t i = 0; i < LOG_STREAMS; i++) {
		struct log_held *held = &lines->held[i];

		if (held->length > 0)
			add_json(held->time, stream_names[i],
				 (struct text){held->bytes, held->length}, true, out);
		held->length = 0;
	}
}

void log_lines_cut(struct log_lines *lines)
{
	lines->line.length = 0;
	lines->inside = false;
	for (size_t i = 0; i < LOG_STREAMS; i++)
		lines->held[i].length = 0;
}

void log_lines_release(struct log_lines *lines)
{
	buffer_release(&lines->line);
}
