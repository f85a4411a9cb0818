// SPDX-License-Identifier: Apache-2.0
// What parsing and rendering of fields share: places, checks of texts, references.
#include "agent/model/fields.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/base/utf8.h"
#include "netif/netif.h"

enum { SEGMENT_MAX = 128 }; // bytes of a member's name in a pointer; only unknown ones are longer

// ---------------------------------------------------------------- places

static void add_segment(struct buffer *pointer, const char *name)
{
	size_t left = strlen(name), shown = 0;

	while (left > 0 && shown < SEGMENT_MAX) {
		size_t length = utf8_length(name, left);

		if (*name == '~' || *name == '/')
			buffer_adds(pointer, *name == '~' ? "~0" : "~1");
		else
			buffer_add(pointer, name, length ? length : 1);
		name += length ? length : 1;
		left -= length ? length : 1;
		shown += length ? length : 1;
	}
}

static void add_place(struct buffer *pointer, const struct place *place)
{
	if (!place->parent)
		return;
	add_place(pointer, place->parent);
	buffer_adds(pointer, "/");
	if (place->name)
		add_segment(pointer, place->name);
	else
		buffer_addf(pointer, "%zu", place->index);
}

const char *place_pointer(struct arena *arena, const struct place *place)
{
	scoped(buffer_release) struct buffer pointer = {0};

	add_place(&pointer, place);
	return arena_strdup(arena, buffer_text(&pointer));
}

void parse_fault(struct parse *parse, const struct place *place, const char *format, ...)
{
	scoped(buffer_release) struct buffer pointer = {0};
	char message[512];
	va_list args;

	add_place(&pointer, place);
	if (fault_list_has(parse->faults, buffer_text(&pointer)))
		return;
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	fault_add(parse->faults, buffer_text(&pointer), "%s", message);
}

// ---------------------------------------------------------------- texts

const char *complain_id(const char *text)
{
	return id_is_valid(text) ? NULL : "must match ^[a-z0-9][a-z0-9-]{0,62}$";
}

const char *complain_name(const char *text)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

	return text[strspn(text, allowed)] ? "must be letters, digits, '-' and '_'" : NULL;
}

const char *complain_printable(const char *text)
{
	for (const char *c = text; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return "must not contain control characters";
	return NULL;
}

static bool is_dots(const char *segment, size_t length)
{
	return (length == 1 && segment[0] == '.') ||
	       (length == 2 && segment[0] == '.' && segment[1] == '.');
}

// As a subnet is a /16 at most, a block is of one of these when its first address is.
const char *complain_address(uint32_t address)
{
	static const struct {
		struct ipv4_cidr block;
		const char *why;
	} special[] = {
		{{0x00000000, 8}, "0.0.0.0/8 is nobody's address"},
		{{0x7f000000, 8}, "127.0.0.0/8 is every host's own (loopback)"},
		{{0xa9fe0000, 16}, "169.254.0.0/16 is link-local: it is not routed"},
		{{0xe0000000, 3}, "224.0.0.0/3 is multicast and reserved"},
	};

	for (size_t i = 0; i < ARRAY_LENGTH(special); i++)
		if (ipv4_cidr_contains(&special[i].block, address))
			return special[i].why;
	return NULL;
}

const char *complain_path(const char *text)
{
	const char *segment = text;

	if (text[0] != '/')
		return "must be an absolute path";
	while (*segment == '/') {
		size_t length = strcspn(++segment, "/");

		if (length == 0 && (*segment == '/' || segment > text + 1))
			return "must be a path without empty segments or a '/' at its end";
		if (is_dots(segment, length))
			return "must be a path without \".\" and \"..\"";
		if (length > NAME_MAX)
			return "must be a path of names of at most 255 bytes";
		segment += length;
	}
	return complain_printable(text);
}

static const char *item_text(const void *items, uint32_t index, size_t stride, size_t offset)
{
	const char *item = (const char *)items + index * stride + offset;

	return *(const char *const *)(const void *)item;
}

void parse_unique(struct parse *parse, const struct place *list_place, const char *name,
		  const void *items, uint32_t count, size_t stride, size_t offset)
{
	for (uint32_t i = 1; i < count; i++) {
		const struct place *place = PLACE_INDEX(list_place, i);
		const char *text = item_text(items, i, stride, offset);

		for (uint32_t k = 0; k < i && *text; k++) {
			if (strcmp(item_text(items, k, stride, offset), text) != 0)
				continue;
			parse_fault(parse, name ? PLACE_MEMBER(place, name) : place,
				    "\"%.200s\" stands twice: first at index %u", text, k);
			break;
		}
	}
}

// ---------------------------------------------------------------- sizes and references

size_t field_size(const struct field *field)
{
	// The types that are no elements have none.
	static const size_t sizes[FIELD_REFUSED + 1] = {
		[FIELD_TEXT] = sizeof(char *),           [FIELD_BOOLEAN] = sizeof(bool),
		[FIELD_U32] = sizeof(uint32_t),          [FIELD_U64] = sizeof(uint64_t),
		[FIELD_I32] = sizeof(int32_t),           [FIELD_ENUM] = sizeof(unsigned),
		[FIELD_TIME] = sizeof(int64_t),          [FIELD_ADDRESS] = sizeof(uint32_t),
		[FIELD_CIDR] = sizeof(struct ipv4_cidr), [FIELD_POINTER] = sizeof(void *),
	};

	if (field->type == FIELD_OBJECT)
		return field->table->size;
	return field->type == FIELD_CUSTOM ? field->size : sizes[field->type];
}

struct reference_walk {
	fields_reference_fn *function;
	void *context;
};

static void walk_table(const struct reference_walk *walk, const struct place *place,
		       const struct field_table *table, const void *source);

static void walk_field(const struct reference_walk *walk, const struct place *place,
		       const struct field *field, const void *source)
{
	const char *at = (const char *)source + field->offset;

	if (field->type == FIELD_TEXT && field->reference) {
		const char *id = *(const char *const *)(const void *)at;

		if (id && *id)
			walk->function(walk->context, place,
				       (enum model_kind)(field->reference - 1), id);
	} else if (field->type == FIELD_OBJECT) {
		walk_table(walk, place, field->table, at);
	} else if (field->type == FIELD_POINTER) {
		const void *target = *(const void *const *)(const void *)at;

		if (target)
			walk_table(walk, place, field->table, target);
	} else if (field->type == FIELD_LIST) {
		const char *items = *(const char *const *)(const void *)at;
		const char *count_at = (const char *)source + field->count_offset;
		uint32_t count = *(const uint32_t *)(const void *)count_at;

		for (uint32_t i = 0; i < count; i++)
			walk_field(walk, PLACE_INDEX(place, i), field->element,
				   items + i * field_size(field->element));
	}
}

static void walk_table(const struct reference_walk *walk, const struct place *place,
		       const struct field_table *table, const void *source)
{
	for (size_t i = 0; i < table->count; i++)
		walk_field(walk, PLACE_MEMBER(place, table->fields[i].name), &table->fields[i],
			   source);
}

void fields_references(const struct place *place, const struct field_table *table,
		       const void *source, fields_reference_fn *function, void *context)
{
	walk_table(&(struct reference_walk){.function = function, .context = context}, place, table,
		   source);
}
