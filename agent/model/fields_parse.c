// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "agent/base/clock.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/model/fields.h"
#include "netif/netif.h"

enum { FIELDS_MAX = 64 }; // rows of one table

static void parse_value(struct parse *parse, const struct place *place, const struct field *field,
			const cJSON *value, void *target);

// ---------------------------------------------------------------- types

static const char *type_name(const cJSON *value)
{
	static const struct {
		int type;
		const char *name;
	} names[] = {
		{cJSON_False, "true or false"}, {cJSON_True, "true or false"},
		{cJSON_NULL, "null"},           {cJSON_Number, "a number"},
		{cJSON_String, "a string"},     {cJSON_Array, "a list"},
		{cJSON_Object, "an object"},
	};

	for (size_t i = 0; i < ARRAY_LENGTH(names); i++)
		if ((value->type & 0xff) == names[i].type)
			return names[i].name;
	return "something else";
}

static bool type_is(struct parse *parse, const struct place *place, const cJSON *value,
		    bool matches, const char *wanted)
{
	if (!matches)
		parse_fault(parse, place, "must be %s, not %s", wanted, type_name(value));
	return matches;
}

const char *parse_text(struct parse *parse, const struct place *place, const cJSON *value)
{
	if (!type_is(parse, place, value, cJSON_IsString(value), "a string"))
		return NULL;
	return value->valuestring;
}

// A whole number within the field's bounds; false after a fault.
static bool whole_number(struct parse *parse, const struct place *place, const struct field *field,
			 const cJSON *value, int64_t *ret_number)
{
	double number = value->valuedouble;

	if (!type_is(parse, place, value, cJSON_IsNumber(value), "a number"))
		return false;
	if (number != floor(number)) {
		parse_fault(parse, place, "must be a whole number");
		return false;
	}
	if (number < (double)field->min || number > (double)field->max) {
		parse_fault(parse, place, "must be %" PRId64 " to %" PRId64, field->min,
			    field->max);
		return false;
	}
	*ret_number = (int64_t)number;
	return true;
}

// ---------------------------------------------------------------- plain fields

static const char *text_complaint(const struct field *field, const char *text)
{
	return field->complaint ? field->complaint(text) : NULL;
}

static bool text_fits(struct parse *parse, const struct place *place, const struct field *field,
		      const char *text)
{
	int64_t length = (int64_t)strlen(text);
	const char *complaint;

	if (length < field->min || (field->max > 0 && length > field->max)) {
		parse_fault(parse, place,
			    "must be %" PRId64 " to %" PRId64 " bytes long, not %" PRId64,
			    field->min, field->max, length);
		return false;
	}
	complaint = text_complaint(field, text);
	if (complaint)
		parse_fault(parse, place, "%s", complaint);
	return !complaint;
}

static void set_text(struct parse *parse, const struct place *place, const struct field *field,
		     const cJSON *value, void *target)
{
	const char *text = value ? parse_text(parse, place, value) : field->text;

	if (value && text && !text_fits(parse, place, field, text))
		text = "";
	if (!text && (value || (field->flags & FIELD_REQUIRED)))
		text = "";
	*(const char **)target = arena_strdup(parse->arena, text);
}

static void set_buffer(struct parse *parse, const struct place *place, const struct field *field,
		       const cJSON *value, void *target)
{
	const char *text = value ? parse_text(parse, place, value) : NULL;
	size_t size = (size_t)field->max, length = text ? strlen(text) : 0;

	memset(target, 0, size);
	if (text)
		memcpy(target, text, length < size ? length : size - 1);
}

static void set_boolean(struct parse *parse, const struct place *place, const struct field *field,
			const cJSON *value, void *target)
{
	bool result = field->number != 0;

	if (value && type_is(parse, place, value, cJSON_IsBool(value), "true or false"))
		result = cJSON_IsTrue(value);
	*(bool *)target = result;
}

static void set_number(struct parse *parse, const struct place *place, const struct field *field,
		       const cJSON *value, void *target)
{
	int64_t number = field->number;

	if (value && !whole_number(parse, place, field, value, &number))
		number = field->number;
	if (field->type == FIELD_U64)
		*(uint64_t *)target = (uint64_t)number;
	else if (field->type == FIELD_I32)
		*(int32_t *)target = (int32_t)number;
	else
		*(uint32_t *)target = (uint32_t)number;
}

static void list_words(struct buffer *out, const char *const *words)
{
	for (size_t i = 0; words[i]; i++)
		if (*words[i])
			buffer_addf(out, "%s%s", out->length ? ", " : "", words[i]);
}

static void refuse_word(struct parse *parse, const struct place *place, const struct field *field,
			const char *text)
{
	scoped(buffer_release) struct buffer words = {0};

	for (const struct refused_word *refused = field->refused; refused && refused->word;
	     refused++)
		if (strcmp(refused->word, text) == 0)
			return parse_fault(parse, place, "%s", refused->why);
	list_words(&words, field->words);
	parse_fault(parse, place, "must be one of: %s", buffer_text(&words));
}

static void set_enum(struct parse *parse, const struct place *place, const struct field *field,
		     const cJSON *value, void *target)
{
	const char *text = value ? parse_text(parse, place, value) : NULL;

	*(unsigned *)target = (unsigned)field->number;
	if (!text)
		return;
	for (unsigned i = 0; field->words[i]; i++) {
		if (strcmp(field->words[i], text) == 0) {
			*(unsigned *)target = i;
			return;
		}
	}
	refuse_word(parse, place, field, text);
}

// "2026-01-31T09:08:07.654Z", as clock_format_rfc3339() writes it: from 1970 on, four digits of
// year.
static bool time_from_text(const char *text, int64_t *ret_ms)
{
	struct tm utc = {0};
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &utc);
	uint32_t ms = 0;

	if (!rest || strlen(rest) != 5 || rest[0] != '.' || rest[4] != 'Z')
		return false;
	for (int i = 1; i < 4; i++) {
		if (rest[i] < '0' || rest[i] > '9')
			return false;
		ms = ms * 10 + (uint32_t)(rest[i] - '0');
	}
	*ret_ms = (int64_t)timegm(&utc) * 1000 + ms;
	return *ret_ms >= 0 && *ret_ms <= CLOCK_WALL_MS_MAX;
}

static void set_time(struct parse *parse, const struct place *place, const struct field *field,
		     const cJSON *value, void *target)
{
	const char *text = value ? parse_text(parse, place, value) : NULL;

	(void)field;
	*(int64_t *)target = 0;
	if (text && !time_from_text(text, target))
		parse_fault(parse, place, "must be a time such as 2026-01-31T09:08:07.654Z");
}

static void set_address(struct parse *parse, const struct place *place, const struct field *field,
			const cJSON *value, void *target)
{
	const char *text = value ? parse_text(parse, place, value) : NULL;
	struct error err = {0};
	uint32_t address = 0;

	(void)field;
	if (text && ipv4_parse(text, &address, &err) < 0)
		parse_fault(parse, place, "%s", err.message);
	else if (text && complain_address(address))
		parse_fault(parse, place, "%s", complain_address(address));
	*(uint32_t *)target = address;
}

static void set_cidr(struct parse *parse, const struct place *place, const struct field *field,
		     const cJSON *value, void *target)
{
	const char *text = value ? parse_text(parse, place, value) : NULL;
	struct ipv4_cidr *cidr = target;
	struct error err = {0};

	memset(cidr, 0, sizeof(*cidr));
	if (text && ipv4_cidr_parse(text, cidr, &err) < 0)
		parse_fault(parse, place, "%s", err.message);
	else if (text && field->max > 0 &&
		 ((int64_t)cidr->prefix < field->min || (int64_t)cidr->prefix > field->max))
		parse_fault(parse, place, "must be a block of /%" PRId64 " to /%" PRId64,
			    field->min, field->max);
	else if (text && field->max > 0 && complain_address(cidr->base))
		parse_fault(parse, place, "%s", complain_address(cidr->base));
}

// ---------------------------------------------------------------- fields of fields

static void set_object(struct parse *parse, const struct place *place, const struct field *field,
		       const cJSON *value, void *target)
{
	fields_parse(parse, place, field->table, value, target);
}

static void set_pointer(struct parse *parse, const struct place *place, const struct field *field,
			const cJSON *value, void *target)
{
	void *object = NULL;

	if (value) {
		object = arena_alloc(parse->arena, field->table->size);
		fields_parse(parse, place, field->table, value, object);
	}
	*(void **)target = object;
}

static uint32_t list_count(struct parse *parse, const struct place *place,
			   const struct field *field, const cJSON *value)
{
	int count;

	if (!type_is(parse, place, value, cJSON_IsArray(value), "a list"))
		return 0;
	count = cJSON_GetArraySize(value);
	if (count >= field->min && count <= field->max)
		return (uint32_t)count;
	if (field->min > 0)
		parse_fault(parse, place, "must have %" PRId64 " to %" PRId64 " elements, not %d",
			    field->min, field->max, count);
	else
		parse_fault(parse, place, "must have at most %" PRId64 " elements, not %d",
			    field->max, count);
	return count < field->max ? (uint32_t)count : (uint32_t)field->max;
}

static void set_list(struct parse *parse, const struct place *place, const struct field *field,
		     const cJSON *value, void *target)
{
	uint32_t count = value ? list_count(parse, place, field, value) : 0, i = 0;
	size_t stride = field_size(field->element);
	char *items = value ? arena_alloc(parse->arena, stride * count) : NULL;
	char *structure = (char *)target - field->offset;
	const cJSON *item;

	*(void **)target = items;
	*(uint32_t *)(void *)(structure + field->count_offset) = count;
	for (item = value ? value->child : NULL; i < count; item = item->next, i++)
		parse_value(parse, PLACE_INDEX(place, i), field->element, item, items + i * stride);
	if (field->flags & FIELD_UNIQUE)
		parse_unique(parse, place, NULL, items, count, stride, 0);
}

static void set_custom(struct parse *parse, const struct place *place, const struct field *field,
		       const cJSON *value, void *target)
{
	field->parse(parse, place, field, value, target);
}

// "X" or ["X"].
static void check_constant(struct parse *parse, const struct place *place,
			   const struct field *field, const cJSON *value, void *target)
{
	const cJSON *only = value && cJSON_IsArray(value) && value->child && !value->child->next
				    ? value->child
				    : value;

	(void)target;
	if (only && (!cJSON_IsString(only) || strcmp(only->valuestring, field->expected) != 0))
		parse_fault(parse, place, "must be \"%s\": %s", field->expected, field->text);
}

// What says no to a thing is let pass: AWS's own documents are full of `false` and `[]`.
static bool is_void(const cJSON *value)
{
	if (cJSON_IsArray(value) || cJSON_IsObject(value))
		return !value->child;
	return cJSON_IsFalse(value) || (cJSON_IsNumber(value) && value->valuedouble == 0.0);
}

static void refuse(struct parse *parse, const struct place *place, const struct field *field,
		   const cJSON *value, void *target)
{
	(void)target;
	if (value && !is_void(value))
		parse_fault(parse, place, "%s", field->expected);
}

// ---------------------------------------------------------------- structs

typedef void setter_fn(struct parse *parse, const struct place *place, const struct field *field,
		       const cJSON *value, void *target);

static void parse_value(struct parse *parse, const struct place *place, const struct field *field,
			const cJSON *value, void *target)
{
	static setter_fn *const setters[] = {
		[FIELD_TEXT] = set_text,           [FIELD_BUFFER] = set_buffer,
		[FIELD_BOOLEAN] = set_boolean,     [FIELD_U32] = set_number,
		[FIELD_U64] = set_number,          [FIELD_I32] = set_number,
		[FIELD_ENUM] = set_enum,           [FIELD_TIME] = set_time,
		[FIELD_ADDRESS] = set_address,     [FIELD_CIDR] = set_cidr,
		[FIELD_OBJECT] = set_object,       [FIELD_POINTER] = set_pointer,
		[FIELD_LIST] = set_list,           [FIELD_CUSTOM] = set_custom,
		[FIELD_CONSTANT] = check_constant, [FIELD_REFUSED] = refuse,
	};

	setters[field->type](parse, place, field, value, target);
}

static void unknown_field(struct parse *parse, const struct place *place,
			  const struct field_table *table, const cJSON *member)
{
	for (size_t i = 0; i < table->count; i++) {
		if (strcasecmp(table->fields[i].name, member->string) != 0)
			continue;
		parse_fault(parse, PLACE_MEMBER(place, member->string),
			    "unknown field: is \"%s\" meant?", table->fields[i].name);
		return;
	}
	parse_fault(parse, PLACE_MEMBER(place, member->string), "unknown field");
}

// Sorts the members of an object to the rows of the table.
static void find_members(struct parse *parse, const struct place *place,
			 const struct field_table *table, const cJSON *value,
			 const cJSON *members[FIELDS_MAX])
{
	const cJSON *member;

	cJSON_ArrayForEach(member, value) {
		size_t row = 0;

		while (row < table->count && strcmp(table->fields[row].name, member->string) != 0)
			row++;
		if (row < table->count)
			members[row] = member;
		else if (!table->open)
			unknown_field(parse, place, table, member);
		if (parse->faults->more)
			return;
	}
}

void fields_parse(struct parse *parse, const struct place *place, const struct field_table *table,
		  const cJSON *value, void *target)
{
	const cJSON *members[FIELDS_MAX] = {0};
	bool object = value && type_is(parse, place, value, cJSON_IsObject(value), "an object");

	if (object)
		find_members(parse, place, table, value, members);
	for (size_t i = 0; i < table->count; i++) {
		const struct field *field = &table->fields[i];
		const struct place *here = PLACE_MEMBER(place, field->name);

		if (table->open && members[i] && cJSON_IsNull(members[i]))
			members[i] = NULL;
		parse_value(parse, here, field, members[i], (char *)target + field->offset);
		if (!members[i] && (field->flags & FIELD_REQUIRED) && object)
			parse_fault(parse, here, "is required");
	}
	if (table->finish && (object || !value))
		table->finish(parse, place, target);
}
