// SPDX-License-Identifier: Apache-2.0
#include "agent/guest/lines.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"

static const char hex_digits[] = "0123456789ABCDEF";

static bool is_plain(char byte)
{
	return byte > 0x20 && byte < 0x7f && byte != '%';
}

static void write_escaped(struct buffer *document, const char *text)
{
	for (; *text; text++) {
		unsigned char byte = (unsigned char)*text;
		char escape[3] = {'%', hex_digits[byte >> 4], hex_digits[byte & 15]};

		if (is_plain(*text))
			buffer_add(document, text, 1);
		else
			buffer_add(document, escape, sizeof(escape));
	}
}

static void write_value(struct buffer *document, const struct line_field *field, const void *place)
{
	switch (field->type) {
	case LINE_STRING:
		write_escaped(document, *(const char *const *)place);
		break;
	case LINE_TEXT:
		write_escaped(document, place);
		break;
	case LINE_FLAG:
		buffer_adds(document, *(const bool *)place ? "1" : "0");
		break;
	case LINE_U32:
		buffer_addf(document, "%" PRIu32, *(const uint32_t *)place);
		break;
	case LINE_U64:
		buffer_addf(document, "%" PRIu64, *(const uint64_t *)place);
		break;
	case LINE_I32:
		buffer_addf(document, "%" PRId32, *(const int32_t *)place);
		break;
	case LINE_I64:
		buffer_addf(document, "%" PRId64, *(const int64_t *)place);
		break;
	case LINE_WORD:
		buffer_adds(document, field->words[*(const unsigned *)place]);
		break;
	}
}

void line_write(struct buffer *document, const struct line_form *form, const void *object)
{
	buffer_adds(document, form->keyword);
	for (size_t i = 0; i < form->field_count; i++) {
		const struct line_field *field = &form->fields[i];

		buffer_addf(document, " %s=", field->name);
		write_value(document, field, (const char *)object + field->offset);
	}
	buffer_adds(document, "\n");
}

int line_reader_fault(const struct line_reader *reader, struct error *err, const char *format, ...)
{
	char message[256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	return error_set(err, EBADMSG, "line %u: %s", reader->number, message);
}

// Moves to the next line; false when no whole line is left.
static bool take_line(struct line_reader *reader)
{
	const char *newline = NULL;
	const char *space;

	reader->number++;
	if (reader->at < reader->end)
		newline = memchr(reader->at, '\n', (size_t)(reader->end - reader->at));
	if (!newline)
		return false;
	reader->line = reader->at;
	reader->line_length = (size_t)(newline - reader->at);
	reader->at = newline + 1;
	space = memchr(reader->line, ' ', reader->line_length);
	reader->keyword_length = space ? (size_t)(space - reader->line) : reader->line_length;
	return true;
}

int line_reader_open(struct line_reader *reader, const char *document, size_t length,
		     const char *title, struct arena *arena, struct error *err)
{
	*reader = (struct line_reader){.at = document, .end = document + length, .arena = arena};
	if (!take_line(reader) || reader->line_length != strlen(title) ||
	    memcmp(reader->line, title, reader->line_length) != 0)
		return line_reader_fault(reader, err, "not \"%s\"", title);
	return 0;
}

int line_reader_next(struct line_reader *reader, struct error *err)
{
	if (!take_line(reader))
		return line_reader_fault(reader, err, "the document ends without \"end\"");
	if (reader->line_length != 3 || memcmp(reader->line, "end", 3) != 0)
		return 1;
	if (reader->at != reader->end)
		return line_reader_fault(reader, err, "something follows \"end\"");
	return 0;
}

bool line_reader_is(const struct line_reader *reader, const char *keyword)
{
	return strlen(keyword) == reader->keyword_length &&
	       memcmp(keyword, reader->line, reader->keyword_length) == 0;
}

static int hex_value(char digit)
{
	const char *found = digit ? strchr(hex_digits, digit) : NULL;

	return found ? (int)(found - hex_digits) : -1;
}

// Undoes write_escaped into `ret_text` of at least length + 1 bytes. false: malformed,
// or a NUL, which no C string can carry.
static bool unescape(const char *value, size_t length, char *ret_text)
{
	for (size_t i = 0; i < length; i++) {
		char byte = value[i];

		if (byte == '%') {
			int high = length - i > 2 ? hex_value(value[i + 1]) : -1;
			int low = length - i > 2 ? hex_value(value[i + 2]) : -1;

			if (high < 0 || low < 0 || high + low == 0)
				return false;
			byte = (char)(high * 16 + low);
			i += 2;
		} else if (!is_plain(value[i])) {
			return false;
		}
		*ret_text++ = byte;
	}
	*ret_text = '\0';
	return true;
}

static bool read_signed(const char *text, uint64_t max, int64_t *ret_value)
{
	bool negative = text[0] == '-';
	uint64_t magnitude;

	if (parse_u64(text + negative, max, &magnitude) < 0 || (negative && magnitude == 0))
		return false;
	*ret_value = negative ? -(int64_t)magnitude : (int64_t)magnitude;
	return true;
}

static bool read_word(const struct line_field *field, const char *text, unsigned *ret_value)
{
	for (unsigned i = 0; i < field->max; i++) {
		if (strcmp(field->words[i], text) == 0) {
			*ret_value = i;
			return true;
		}
	}
	return false;
}

static bool read_number(const struct line_field *field, const char *text, void *place)
{
	int64_t value;
	uint32_t flag;

	switch (field->type) {
	case LINE_FLAG:
		if (parse_u32(text, 1, &flag) < 0)
			return false;
		*(bool *)place = flag;
		return true;
	case LINE_U32:
		return parse_u32(text, (uint32_t)field->max, place) == 0;
	case LINE_U64:
		return parse_u64(text, UINT64_MAX, place) == 0;
	case LINE_I32:
		if (!read_signed(text, field->max, &value))
			return false;
		*(int32_t *)place = (int32_t)value;
		return true;
	case LINE_I64:
		return read_signed(text, INT64_MAX, place);
	case LINE_WORD:
		return read_word(field, text, place);
	default:
		return false;
	}
}

static bool read_value(const struct line_reader *reader, const struct line_field *field,
		       const char *value, size_t length, void *place)
{
	char text[32];
	char *string;

	switch (field->type) {
	case LINE_STRING:
		string = arena_alloc(reader->arena, length + 1);
		*(const char **)place = string;
		return unescape(value, length, string);
	case LINE_TEXT:
		string = place;
		// Escapes only shrink: a value that fits decoded may be three times as long.
		if (length >= field->max) {
			scoped_free char *longer = malloc(length + 1);

			if (!longer || !unescape(value, length, longer) ||
			    strlen(longer) >= field->max)
				return false;
			memcpy(string, longer, strlen(longer) + 1);
			return true;
		}
		return unescape(value, length, string);
	default:
		if (length >= sizeof(text))
			return false;
		memcpy(text, value, length);
		text[length] = '\0';
		return strlen(text) == length && read_number(field, text, place);
	}
}

static const struct line_field *find_field(const struct line_form *form, const char *name,
					   size_t length)
{
	for (size_t i = 0; i < form->field_count; i++) {
		const struct line_field *field = &form->fields[i];

		if (strlen(field->name) == length && memcmp(field->name, name, length) == 0)
			return field;
	}
	return NULL;
}

static int read_field(const struct line_reader *reader, const struct line_form *form,
		      const char *word, size_t length, uint32_t *seen, void *object,
		      struct error *err)
{
	const char *equals = memchr(word, '=', length);
	size_t name_length = equals ? (size_t)(equals - word) : length;
	const struct line_field *field = equals ? find_field(form, word, name_length) : NULL;
	uint32_t bit;

	if (!field)
		return line_reader_fault(reader, err, "%s has no such field", form->keyword);
	bit = 1u << (field - form->fields);
	if (*seen & bit)
		return line_reader_fault(reader, err, "%s: %s stands twice", form->keyword,
					 field->name);
	*seen |= bit;
	if (!read_value(reader, field, equals + 1, length - name_length - 1,
			(char *)object + field->offset))
		return line_reader_fault(reader, err, "%s: bad value of %s", form->keyword,
					 field->name);
	return 0;
}

int line_reader_fields(const struct line_reader *reader, const struct line_form *form,
		       void *ret_object, struct error *err)
{
	const char *at = reader->line + reader->keyword_length;
	const char *end = reader->line + reader->line_length;
	uint32_t seen = 0;

	while (at < end) {
		const char *word = at + 1; // *at is the space
		const char *space = memchr(word, ' ', (size_t)(end - word));
		int result;

		at = space ? space : end;
		result =
			read_field(reader, form, word, (size_t)(at - word), &seen, ret_object, err);
		if (result < 0)
			return result;
	}
	for (size_t i = 0; i < form->field_count; i++)
		if (!(seen & 1u << i))
			return line_reader_fault(reader, err, "%s: %s is missing", form->keyword,
						 form->fields[i].name);
	return 0;
}
