// SPDX-License-Identifier: Apache-2.0
// Private to the JSON reader: the strict scanner, its tokens in json_token.c, the
// document in json.c.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/buffer.h"
#include "agent/base/json.h"

struct json_member {
	size_t offset, length; // of the decoded key in scanner.keys
};

// Where the scanner is: one place per open array or object.
struct json_place {
	const struct json_place *parent;
	bool in_array;
	size_t index;              // in an array
	struct json_member member; // in an object
	bool has_member;           // false before a member's name was read
};

struct json_scanner {
	const unsigned char *text;
	size_t length, position;
	unsigned max_depth;
	const struct json_place *place;
	struct buffer keys; // of all open objects, behind one another
	struct json_member *members;
	size_t member_count, member_capacity;
	struct json_fault *fault;
};

// Sets the fault, with the place; returns -EINVAL.
__attribute__((format(printf, 2, 3))) int json_fail(struct json_scanner *scanner,
						    const char *format, ...);

// The next byte, -1 at the end.
static inline int json_peek(const struct json_scanner *scanner)
{
	return scanner->position < scanner->length ? scanner->text[scanner->position] : -1;
}

// At the opening quote; appends the decoded text unless `decoded` is NULL.
int json_scan_string(struct json_scanner *scanner, struct buffer *decoded);
// At '-' or a digit.
int json_scan_number(struct json_scanner *scanner);
