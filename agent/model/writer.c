// SPDX-License-Identifier: Apache-2.0
#include "agent/model/writer.h"

#include <inttypes.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/utf8.h"
#include "netif/netif.h"

static void add_character(struct buffer *out, const char *text, size_t length)
{
	static const char plain[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
	const char *found = *text ? strchr(plain, *text) : NULL;

	if (length == 0) {
		buffer_adds(out, "?");
	} else if (found) {
		buffer_adds(out, "\\");
		buffer_add(out, &names[found - plain], 1);
	} else if (utf8_printable_length(text, length) == 0) {
		// U+0000 to U+001F, U+007F; of two bytes U+0080 to U+009F: a terminal obeys them.
		buffer_addf(out, "\\u%04x",
			    length == 2 ? 0x80U | ((unsigned char)text[1] & 0x3fU)
					: (unsigned char)*text);
	} else {
		buffer_add(out, text, length);
	}
}

static void add_quoted(struct buffer *out, const char *text, size_t left)
{
	buffer_adds(out, "\"");
	while (left > 0) {
		size_t length = utf8_length(text, left);

		add_character(out, text, length);
		text += length ? length : 1;
		left -= length ? length : 1;
	}
	buffer_adds(out, "\"");
}

// What stands before a value: a comma and the member's name.
static void begin_value(struct json_writer *writer, const char *name)
{
	if (writer->comma)
		buffer_adds(writer->out, ",");
	writer->comma = true;
	if (!name)
		return;
	add_quoted(writer->out, name, strlen(name));
	buffer_adds(writer->out, ":");
}

static void open_bracket(struct json_writer *writer, const char *name, const char *bracket)
{
	begin_value(writer, name);
	buffer_adds(writer->out, bracket);
	writer->comma = false;
}

static void close_bracket(struct json_writer *writer, const char *bracket)
{
	buffer_adds(writer->out, bracket);
	writer->comma = true;
}

void json_object_begin(struct json_writer *writer, const char *name)
{
	open_bracket(writer, name, "{");
}

void json_object_end(struct json_writer *writer)
{
	close_bracket(writer, "}");
}

void json_array_begin(struct json_writer *writer, const char *name)
{
	open_bracket(writer, name, "[");
}

void json_array_end(struct json_writer *writer)
{
	close_bracket(writer, "]");
}

void json_string(struct json_writer *writer, const char *name, const char *text)
{
	json_bytes(writer, name, text, strlen(text));
}

void json_bytes(struct json_writer *writer, const char *name, const char *text, size_t length)
{
	begin_value(writer, name);
	add_quoted(writer->out, text, length);
}

void json_number(struct json_writer *writer, const char *name, int64_t number)
{
	begin_value(writer, name);
	buffer_addf(writer->out, "%" PRId64, number);
}

void json_boolean(struct json_writer *writer, const char *name, bool value)
{
	json_raw(writer, name, value ? "true" : "false");
}

void json_null(struct json_writer *writer, const char *name)
{
	json_raw(writer, name, "null");
}

void json_time(struct json_writer *writer, const char *name, int64_t wall_ms)
{
	char text[CLOCK_RFC3339_SIZE];

	json_string(writer, name, clock_format_rfc3339(wall_ms, text));
}

void json_address(struct json_writer *writer, const char *name, uint32_t address)
{
	char text[IPV4_TEXT_SIZE];

	json_string(writer, name, ipv4_format(address, text));
}

void json_raw(struct json_writer *writer, const char *name, const char *json)
{
	begin_value(writer, name);
	buffer_adds(writer->out, json);
}
