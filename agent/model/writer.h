// SPDX-License-Identifier: Apache-2.0
// Writes compact JSON into a buffer, member by member.
//
//     struct json_writer writer = {.out = &out};
//     json_object_begin(&writer, NULL);
//     json_string(&writer, "id", id);
//     json_array_begin(&writer, "ports");
//     json_number(&writer, NULL, 80);
//     json_array_end(&writer);
//     json_object_end(&writer);          // {"id":"t-1","ports":[80]}
//
// `name` is NULL in arrays and for the outermost value. Bytes that are not UTF-8 become
// '?', so that the text can always be read again.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/buffer.h"

struct json_writer {
	struct buffer *out;
	bool comma; // one is due before the next value
};

void json_object_begin(struct json_writer *writer, const char *name);
void json_object_end(struct json_writer *writer);
void json_array_begin(struct json_writer *writer, const char *name);
void json_array_end(struct json_writer *writer);
void json_string(struct json_writer *writer, const char *name, const char *text);
// May hold NULs.
void json_bytes(struct json_writer *writer, const char *name, const char *text, size_t length);
void json_number(struct json_writer *writer, const char *name, int64_t number);
void json_boolean(struct json_writer *writer, const char *name, bool value);
void json_null(struct json_writer *writer, const char *name);
// `wall_ms` as RFC 3339.
void json_time(struct json_writer *writer, const char *name, int64_t wall_ms);
// IPv4 address, host byte order.
void json_address(struct json_writer *writer, const char *name, uint32_t address);
// A text that is JSON already.
void json_raw(struct json_writer *writer, const char *name, const char *json);
