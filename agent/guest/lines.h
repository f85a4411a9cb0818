// SPDX-License-Identifier: Apache-2.0
// Line documents (see protocol.h), described by tables: for each keyword, the fields
// of its line and where they stand in a plain struct. One table serves both directions.
// Private to agent/guest.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/arena.h"
#include "agent/base/buffer.h"
#include "agent/base/error.h"

enum line_field_type {
	LINE_STRING, // const char *, in the reader's arena
	LINE_TEXT,   // char[max]
	LINE_FLAG,   // bool
	LINE_U32,    // uint32_t <= max
	LINE_U64,    // uint64_t
	LINE_I32,    // int32_t within -max..max
	LINE_I64,    // int64_t
	LINE_WORD,   // enum: index into words, max of them
};

struct line_field {
	const char *name;
	enum line_field_type type;
	size_t offset;
	uint64_t max;
	const char *const *words;
};

#define LINE_FIELD(type, member, name, kind, max, words)                                           \
	{                                                                                          \
		name, kind, offsetof(type, member), max, words                                     \
	}

struct line_form {
	const char *keyword;
	const struct line_field *fields;
	size_t field_count;
};

enum { LINE_FIELDS_MAX = 16 };

void line_write(struct buffer *document, const struct line_form *form, const void *object);

struct line_reader {
	const char *at, *end;
	struct arena *arena; // for LINE_STRING
	unsigned number;     // of the current line, from 1
	const char *line;    // the current line, without its newline
	size_t line_length;
	size_t keyword_length;
};

// Reads and checks the first line. -EBADMSG when it is not `title`.
int line_reader_open(struct line_reader *reader, const char *document, size_t length,
		     const char *title, struct arena *arena, struct error *err);
// 1: a line stands in the reader; 0: that was `end` and nothing follows it; -EBADMSG.
int line_reader_next(struct line_reader *reader, struct error *err);
bool line_reader_is(const struct line_reader *reader, const char *keyword);
// Reads the current line into `ret_object`: every field of the form exactly once, no other.
int line_reader_fields(const struct line_reader *reader, const struct line_form *form,
		       void *ret_object, struct error *err);
// "line 7: <format>", -EBADMSG.
__attribute__((format(printf, 3, 4))) int
line_reader_fault(const struct line_reader *reader, struct error *err, const char *format, ...);
