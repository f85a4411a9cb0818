// SPDX-License-Identifier: Apache-2.0
// The lines of a container's log file, on their way to a reader.
//
// The file holds CRI lines: "2026-01-31T09:08:07.654Z stdout F text"; P instead of F marks a part
// of a longer line. What the container wrote is cut anywhere, within a character too: where its
// writes ended, and where a message to the shim was full. As text the parts are passed on as they
// are. JSON cannot carry half a character: there the first bytes of one that goes on in the next
// part of its stream are held back until then. Either way the parts, joined, are what was written;
// only bytes that are no UTF-8 at all become '?' in JSON.
#pragma once

#include <event2/buffer.h>
#include <stdbool.h>
#include <stddef.h>

#include "agent/base/buffer.h"

enum { LOG_STREAMS = 2, LOG_TIME_SIZE = 40, LOG_STREAM_SIZE = 16 };

struct log_held {
	char bytes[3];
	size_t length;
	char time[LOG_TIME_SIZE]; // of the part that they came with
};

struct log_lines {
	bool ndjson;
	struct buffer line;                // not whole yet
	bool inside;                       // ... and its first piece was passed on already
	char time[LOG_TIME_SIZE];          // of that line
	char stream[LOG_STREAM_SIZE];      // likewise
	bool partial;                      // likewise
	struct log_held held[LOG_STREAMS]; // of stdout and stderr
};

// Bytes of the file, cut anywhere.
void log_lines_add(struct log_lines *lines, const char *bytes, size_t count, struct evbuffer *out);
// No more comes: passes on what was held back.
void log_lines_end(struct log_lines *lines, struct evbuffer *out);
// The file goes on elsewhere: forgets a line that has begun.
void log_lines_cut(struct log_lines *lines);
void log_lines_release(struct log_lines *lines);
