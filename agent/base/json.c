// SPDX-License-Identifier: Apache-2.0
// A strict scanner goes over the text first and refuses whatever cJSON would take
// wrongly; only text it has passed reaches cJSON. It recurses no deeper than max_depth.
//
// Duplicate keys: the decoded keys of all open objects lie behind one another; when an
// object closes its own are sorted, so that 1 MiB of keys costs n log n.
#include "agent/base/json.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/json_scan.h"
#include "agent/base/scope.h"

const struct json_limits json_limits_api = {.max_bytes = 1024 * 1024, .max_depth = 32};

enum { SHOWN_KEY_MAX = 64 }; // bytes of a key in a message

static int scan_value(struct json_scanner *scanner, unsigned depth);

// ---------------------------------------------------------------- faults

// Adds one segment ("/" and the escaped text) to a pointer, whole or not at all.
static bool pointer_add(char pointer[JSON_POINTER_MAX], const char *text, size_t length)
{
	size_t used = strlen(pointer);
	char segment[JSON_POINTER_MAX];
	size_t count = 0;

	segment[count++] = '/';
	for (size_t i = 0; i < length; i++) {
		if (count + 2 >= sizeof(segment))
			return false;
		if (text[i] == '~' || text[i] == '/') {
			segment[count++] = '~';
			segment[count++] = text[i] == '~' ? '0' : '1';
		} else {
			segment[count++] = text[i];
		}
	}
	if (used + count >= JSON_POINTER_MAX)
		return false;
	memcpy(pointer + used, segment, count);
	pointer[used + count] = '\0';
	return true;
}

static bool pointer_write(const struct json_scanner *scanner, const struct json_place *place)
{
	char *pointer = scanner->fault->pointer;
	char index[24];

	if (!place)
		return true;
	if (!pointer_write(scanner, place->parent))
		return false;
	if (place->in_array)
		return pointer_add(pointer, index,
				   (size_t)snprintf(index, sizeof(index), "%zu", place->index));
	if (!place->has_member)
		return true;
	return pointer_add(pointer, buffer_text(&scanner->keys) + place->member.offset,
			   place->member.length);
}

static void line_and_column(const struct json_scanner *scanner, size_t *ret_line,
			    size_t *ret_column)
{
	size_t line = 1, start = 0;

	for (size_t i = 0; i < scanner->position; i++) {
		if (scanner->text[i] == '\n') {
			line++;
			start = i + 1;
		}
	}
	*ret_line = line;
	*ret_column = scanner->position - start + 1;
}

int json_fail(struct json_scanner *scanner, const char *format, ...)
{
	char what[JSON_MESSAGE_MAX - 64];
	size_t line, column;
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	line_and_column(scanner, &line, &column);
	scanner->fault->pointer[0] = '\0';
	pointer_write(scanner, scanner->place);
	snprintf(scanner->fault->message, sizeof(scanner->fault->message),
		 "%s, at line %zu column %zu", what, line, column);
	return -EINVAL;
}

// ---------------------------------------------------------------- arrays and objects

static void skip_space(struct json_scanner *scanner)
{
	int c = json_peek(scanner);

	while (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
		scanner->position++;
		c = json_peek(scanner);
	}
}

static int scan_array(struct json_scanner *scanner, unsigned depth)
{
	struct json_place place = {.parent = scanner->place, .in_array = true};

	scanner->position++;
	skip_space(scanner);
	if (json_peek(scanner) == ']') {
		scanner->position++;
		return 0;
	}
	scanner->place = &place;
	for (;; place.index++) {
		int result = scan_value(scanner, depth + 1);

		if (result < 0)
			return result;
		skip_space(scanner);
		if (json_peek(scanner) == ']')
			break;
		if (json_peek(scanner) != ',')
			return json_fail(scanner, "expected ',' or ']' in an array");
		scanner->position++;
	}
	scanner->position++;
	scanner->place = place.parent;
	return 0;
}

static void member_push(struct json_scanner *scanner, struct json_member member)
{
	if (scanner->member_count == scanner->member_capacity) {
		scanner->member_capacity =
			scanner->member_capacity ? scanner->member_capacity * 2 : 64;
		scanner->members = realloc(scanner->members,
					   scanner->member_capacity * sizeof(*scanner->members));
		if (!scanner->members)
			abort();
	}
	scanner->members[scanner->member_count++] = member;
}

static int scan_member(struct json_scanner *scanner, struct json_place *place, unsigned depth)
{
	struct json_member member = {.offset = scanner->keys.length};
	int result;

	if (json_peek(scanner) != '"')
		return json_fail(scanner, "expected a member name in quotes");
	place->has_member = false;
	result = json_scan_string(scanner, &scanner->keys);
	if (result < 0)
		return result;
	member.length = scanner->keys.length - member.offset;
	place->member = member;
	place->has_member = true;
	member_push(scanner, member);
	skip_space(scanner);
	if (json_peek(scanner) != ':')
		return json_fail(scanner, "expected ':' after a member name");
	scanner->position++;
	return scan_value(scanner, depth + 1);
}

static int compare_members(const void *one, const void *other, void *context)
{
	const struct json_member *a = one, *b = other;
	const char *keys = *(const char *const *)context;
	size_t shorter = a->length < b->length ? a->length : b->length;
	int order = shorter ? memcmp(keys + a->offset, keys + b->offset, shorter) : 0;

	if (order != 0)
		return order;
	return (a->length > b->length) - (a->length < b->length);
}

// The members of the object that closes are those from `first` on.
static int check_duplicates(struct json_scanner *scanner, struct json_place *place, size_t first)
{
	struct json_member *members = scanner->members + first;
	size_t count = scanner->member_count - first;
	const char *keys = buffer_text(&scanner->keys);

	qsort_r(members, count, sizeof(*members), compare_members, &keys);
	for (size_t i = 1; i < count; i++) {
		int shown = members[i].length > SHOWN_KEY_MAX ? 0 : (int)members[i].length;

		if (compare_members(&members[i - 1], &members[i], &keys) != 0)
			continue;
		place->member = members[i];
		return json_fail(scanner, "duplicate key \"%.*s\" in the object that ends here",
				 shown, keys + members[i].offset);
	}
	return 0;
}

static int scan_members(struct json_scanner *scanner, struct json_place *place, unsigned depth)
{
	for (;;) {
		int result;

		skip_space(scanner);
		result = scan_member(scanner, place, depth);
		if (result < 0)
			return result;
		skip_space(scanner);
		if (json_peek(scanner) == '}')
			return 0;
		if (json_peek(scanner) != ',')
			return json_fail(scanner, "expected ',' or '}' in an object");
		scanner->position++;
	}
}

static int scan_object(struct json_scanner *scanner, unsigned depth)
{
	struct json_place place = {.parent = scanner->place};
	size_t first_member = scanner->member_count, first_byte = scanner->keys.length;
	int result;

	scanner->position++;
	skip_space(scanner);
	if (json_peek(scanner) == '}') {
		scanner->position++;
		return 0;
	}
	scanner->place = &place;
	result = scan_members(scanner, &place, depth);
	if (result == 0)
		result = check_duplicates(scanner, &place, first_member);
	if (result < 0)
		return result;
	scanner->position++;
	scanner->member_count = first_member;
	scanner->keys.length = first_byte;
	scanner->place = place.parent;
	return 0;
}

// ---------------------------------------------------------------- values

static int scan_word(struct json_scanner *scanner)
{
	static const char *const words[] = {"true", "false", "null"};

	for (size_t i = 0; i < ARRAY_LENGTH(words); i++) {
		size_t length = strlen(words[i]);

		if (scanner->length - scanner->position >= length &&
		    memcmp(scanner->text + scanner->position, words[i], length) == 0) {
			scanner->position += length;
			return 0;
		}
	}
	return json_fail(scanner, json_peek(scanner) < 0 ? "the text ends where a value is expected"
							 : "expected a value");
}

static int scan_value(struct json_scanner *scanner, unsigned depth)
{
	int c;

	skip_space(scanner);
	c = json_peek(scanner);
	if ((c == '{' || c == '[') && depth >= scanner->max_depth)
		return json_fail(scanner, "nested deeper than %u", scanner->max_depth);
	if (c == '{')
		return scan_object(scanner, depth);
	if (c == '[')
		return scan_array(scanner, depth);
	if (c == '"')
		return json_scan_string(scanner, NULL);
	if (c == '-' || (c >= '0' && c <= '9'))
		return json_scan_number(scanner);
	return scan_word(scanner);
}

static int scan_document(struct json_scanner *scanner)
{
	int result = scan_value(scanner, 0);

	if (result < 0)
		return result;
	skip_space(scanner);
	if (json_peek(scanner) >= 0)
		return json_fail(scanner, "text after the value");
	return 0;
}

int json_check(const char *text, size_t length, const struct json_limits *limits,
	       struct json_fault *ret_fault)
{
	struct json_scanner scanner = {
		.text = (const unsigned char *)text,
		.length = length,
		.max_depth = limits->max_depth,
		.fault = ret_fault,
	};
	int result;

	if (length > limits->max_bytes) {
		ret_fault->pointer[0] = '\0';
		snprintf(ret_fault->message, sizeof(ret_fault->message),
			 "%zu bytes: at most %zu are read", length, limits->max_bytes);
		return -EFBIG;
	}
	result = scan_document(&scanner);
	buffer_release(&scanner.keys);
	free(scanner.members);
	return result;
}

int json_read(const char *text, size_t length, const struct json_limits *limits, cJSON **ret_value,
	      struct json_fault *ret_fault)
{
	cJSON *value;
	int result = json_check(text, length, limits, ret_fault);

	if (result < 0)
		return result;
	value = cJSON_ParseWithLengthOpts(text, length, NULL, false);
	if (!value) {
		*ret_fault = (struct json_fault){.message = "refused by the JSON parser"};
		return -EINVAL;
	}
	*ret_value = value;
	return 0;
}

const cJSON *json_member(const cJSON *object, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(object, name);
}
