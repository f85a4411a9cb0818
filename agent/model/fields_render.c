// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "agent/model/fields.h"

static void render_value(struct json_writer *writer, const char *name, const struct field *field,
			 const void *source, unsigned how);

static void render_text(struct json_writer *writer, const char *name, const struct field *field,
			const char *text, unsigned how)
{
	if (!text || (*text == '\0' && name && !(field->flags & FIELD_REQUIRED)))
		return;
	if ((how & FIELDS_REDACTED) && (field->flags & FIELD_SECRET))
		text = "<redacted>";
	json_string(writer, name, text);
}

static void render_number(struct json_writer *writer, const char *name, const struct field *field,
			  const void *source)
{
	int64_t number;

	if (field->type == FIELD_U64)
		number = (int64_t) * (const uint64_t *)source;
	else if (field->type == FIELD_I32)
		number = *(const int32_t *)source;
	else
		number = *(const uint32_t *)source;
	if (!(field->flags & FIELD_SPARSE) || number != field->number)
		json_number(writer, name, number);
}

static void render_boolean(struct json_writer *writer, const char *name, const struct field *field,
			   bool value)
{
	if (!(field->flags & FIELD_SPARSE) || value != (field->number != 0))
		json_boolean(writer, name, value);
}

static void render_enum(struct json_writer *writer, const char *name, const struct field *field,
			unsigned value)
{
	if (!(field->flags & FIELD_SPARSE) || value != (unsigned)field->number)
		json_string(writer, name, field->words[value]);
}

static void render_cidr(struct json_writer *writer, const char *name, const struct ipv4_cidr *cidr)
{
	char text[IPV4_CIDR_TEXT_SIZE];

	json_string(writer, name, ipv4_cidr_format(cidr, text));
}

static void render_list(struct json_writer *writer, const char *name, const struct field *field,
			const void *source, unsigned how)
{
	const char *items = *(const char *const *)source;
	const char *structure = (const char *)source - field->offset;
	uint32_t count = *(const uint32_t *)(const void *)(structure + field->count_offset);

	if (count == 0 && (field->flags & FIELD_SPARSE))
		return;
	json_array_begin(writer, name);
	for (uint32_t i = 0; i < count; i++)
		render_value(writer, NULL, field->element, items + i * field_size(field->element),
			     how);
	json_array_end(writer);
}

static void render_pointer(struct json_writer *writer, const char *name, const struct field *field,
			   const void *target, unsigned how)
{
	if (target)
		fields_render(writer, name, field->table, target, how);
}

static void render_value(struct json_writer *writer, const char *name, const struct field *field,
			 const void *source, unsigned how)
{
	switch (field->type) {
	case FIELD_TEXT:
		return render_text(writer, name, field, *(const char *const *)source, how);
	case FIELD_BUFFER:
		return render_text(writer, name, field, source, how);
	case FIELD_BOOLEAN:
		return render_boolean(writer, name, field, *(const bool *)source);
	case FIELD_U32:
	case FIELD_U64:
	case FIELD_I32:
		return render_number(writer, name, field, source);
	case FIELD_ENUM:
		return render_enum(writer, name, field, *(const unsigned *)source);
	case FIELD_TIME:
		if (*(const int64_t *)source != 0)
			json_time(writer, name, *(const int64_t *)source);
		return;
	case FIELD_ADDRESS:
		if (*(const uint32_t *)source != 0 || !name)
			json_address(writer, name, *(const uint32_t *)source);
		return;
	case FIELD_CIDR:
		return render_cidr(writer, name, source);
	case FIELD_OBJECT:
		return fields_render(writer, name, field->table, source, how);
	case FIELD_POINTER:
		return render_pointer(writer, name, field, *(const void *const *)source, how);
	case FIELD_LIST:
		return render_list(writer, name, field, source, how);
	case FIELD_CUSTOM:
		return field->render(writer, field, source);
	case FIELD_CONSTANT:
		if (!(field->flags & FIELD_SPARSE))
			json_string(writer, name, field->expected);
		return;
	case FIELD_REFUSED:
		return;
	}
}

void fields_render(struct json_writer *writer, const char *name, const struct field_table *table,
		   const void *source, unsigned how)
{
	json_object_begin(writer, name);
	for (size_t i = 0; i < table->count; i++) {
		const struct field *field = &table->fields[i];

		render_value(writer, field->name, field, (const char *)source + field->offset, how);
	}
	json_object_end(writer);
}
