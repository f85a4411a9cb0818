// SPDX-License-Identifier: Apache-2.0
// Where two JSON documents of a kind differ.
//
// Which lists are sets says the kind's table (FIELD_SET). The elements of two sets are matched by
// their texts, in which the sets within them are sorted; what is left over is compared in the order
// of the documents, so that a changed element is told by the member that changed.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/json.h"
#include "agent/base/scope.h"
#include "agent/model/fields.h"

enum { DIFFERENCES_MAX = 64 };

struct difference_list {
	struct arena *arena;
	const char **pointers;
	size_t count;
};

static void compare(struct difference_list *list, const struct place *place,
		    const struct field *field, const cJSON *one, const cJSON *other);

static void note_difference(struct difference_list *list, const struct place *place)
{
	if (list->count < DIFFERENCES_MAX)
		list->pointers[list->count++] = place_pointer(list->arena, place);
}

// NULL: no such row, and nothing is known of what is in it.
static const struct field *field_of(const struct field_table *table, const char *name)
{
	for (size_t i = 0; table && i < table->count; i++)
		if (strcmp(table->fields[i].name, name) == 0)
			return &table->fields[i];
	return NULL;
}

static const struct field_table *table_of(const struct field *field)
{
	return field ? field->table : NULL;
}

static const struct field *element_of(const struct field *field)
{
	return field && field->type == FIELD_LIST ? field->element : NULL;
}

static bool is_set(const struct field *field)
{
	return field && field->flags & FIELD_SET;
}

static void compare_objects(struct difference_list *list, const struct place *place,
			    const struct field_table *table, const cJSON *one, const cJSON *other)
{
	const cJSON *member;

	cJSON_ArrayForEach(member, one)
		compare(list, PLACE_MEMBER(place, member->string), field_of(table, member->string),
			member, json_member(other, member->string));
	cJSON_ArrayForEach(member, other)
		if (!json_member(one, member->string))
			note_difference(list, PLACE_MEMBER(place, member->string));
}

static void compare_arrays(struct difference_list *list, const struct place *place,
			   const struct field *field, const cJSON *one, const cJSON *other)
{
	size_t index = 0;

	for (one = one->child, other = other->child; one && other;
	     one = one->next, other = other->next, index++)
		compare(list, PLACE_INDEX(place, index), element_of(field), one, other);
	for (; one; one = one->next, index++)
		note_difference(list, PLACE_INDEX(place, index));
	for (; other; other = other->next, index++)
		note_difference(list, PLACE_INDEX(place, index));
}

// --- Sets ---

struct set_element {
	const cJSON *value;
	size_t index; // in the document
	char *text;
	bool matched;
};

struct set {
	struct set_element *elements;
	size_t count;
};

static int compare_texts(const void *one, const void *other)
{
	return strcmp(((const struct set_element *)one)->text,
		      ((const struct set_element *)other)->text);
}

static int compare_places(const void *one, const void *other)
{
	const struct set_element *first = one, *second = other;

	return (first->index > second->index) - (first->index < second->index);
}

static char *set_text(const struct set *set);
static struct set set_new(const struct field *field, const cJSON *array);
static void set_release(struct set *set);

// Appends the value's text, with what is a set in it sorted.
static void add_text(struct buffer *text, const struct field *field, const cJSON *value)
{
	const cJSON *child;

	if (cJSON_IsArray(value) && is_set(field)) {
		scoped(set_release) struct set set = set_new(element_of(field), value);
		scoped_free char *elements = set_text(&set);

		buffer_addf(text, "[%s]", elements);
	} else if (cJSON_IsArray(value) || cJSON_IsObject(value)) {
		buffer_adds(text, cJSON_IsArray(value) ? "[" : "{");
		cJSON_ArrayForEach(child, value) {
			if (child->string)
				buffer_addf(text, "\"%s\":", child->string);
			add_text(text,
				 child->string ? field_of(table_of(field), child->string)
					       : element_of(field),
				 child);
			buffer_adds(text, ",");
		}
		buffer_adds(text, cJSON_IsArray(value) ? "]" : "}");
	} else {
		scoped_free char *printed = cJSON_PrintUnformatted(value);

		if (!printed)
			abort();
		buffer_adds(text, printed);
	}
}

// Sorted by their texts. Both documents are canonical: the members of an object have one order.
static struct set set_new(const struct field *field, const cJSON *array)
{
	struct set set = {.count = (size_t)cJSON_GetArraySize(array)};
	size_t index = 0;
	const cJSON *value;

	set.elements = calloc(set.count + 1, sizeof(*set.elements));
	if (!set.elements)
		abort();
	cJSON_ArrayForEach(value, array) {
		struct buffer text = {0};

		add_text(&text, field, value);
		buffer_adds(&text, "");
		set.elements[index] =
			(struct set_element){.value = value, .index = index, .text = text.data};
		index++;
	}
	qsort(set.elements, set.count, sizeof(*set.elements), compare_texts);
	return set;
}

static void set_release(struct set *set)
{
	for (size_t i = 0; i < set->count; i++)
		free(set->elements[i].text);
	free(set->elements);
}

static char *set_text(const struct set *set)
{
	struct buffer text = {0};

	buffer_adds(&text, "");
	for (size_t i = 0; i < set->count; i++)
		buffer_addf(&text, "%s,", set->elements[i].text);
	return text.data;
}

// Takes those away that both have; the others are left in the order of their document.
static void match_sets(struct set *one, struct set *other)
{
	size_t i = 0, k = 0;

	while (i < one->count && k < other->count) {
		int order = compare_texts(&one->elements[i], &other->elements[k]);

		if (order == 0)
			one->elements[i].matched = other->elements[k].matched = true;
		i += order <= 0;
		k += order >= 0;
	}
	qsort(one->elements, one->count, sizeof(*one->elements), compare_places);
	qsort(other->elements, other->count, sizeof(*other->elements), compare_places);
}

static const struct set_element *next_unmatched(const struct set *set, size_t *place)
{
	while (*place < set->count && set->elements[*place].matched)
		++*place;
	return *place < set->count ? &set->elements[(*place)++] : NULL;
}

static void compare_sets(struct difference_list *list, const struct place *place,
			 const struct field *field, const cJSON *one, const cJSON *other)
{
	scoped(set_release) struct set first = set_new(element_of(field), one);
	scoped(set_release) struct set second = set_new(element_of(field), other);
	size_t at_first = 0, at_second = 0;

	match_sets(&first, &second);
	for (;;) {
		const struct set_element *before = next_unmatched(&first, &at_first);
		const struct set_element *after = next_unmatched(&second, &at_second);

		if (!before && !after)
			return;
		if (before && after)
			compare(list, PLACE_INDEX(place, after->index), element_of(field),
				before->value, after->value);
		else
			note_difference(list, PLACE_INDEX(place, (before ? before : after)->index));
	}
}

// `other` NULL: missing.
static void compare(struct difference_list *list, const struct place *place,
		    const struct field *field, const cJSON *one, const cJSON *other)
{
	if (list->count == DIFFERENCES_MAX)
		return;
	if (other && cJSON_IsObject(one) && cJSON_IsObject(other))
		compare_objects(list, place, table_of(field), one, other);
	else if (other && cJSON_IsArray(one) && cJSON_IsArray(other) && is_set(field))
		compare_sets(list, place, field, one, other);
	else if (other && cJSON_IsArray(one) && cJSON_IsArray(other))
		compare_arrays(list, place, field, one, other);
	else if (!cJSON_Compare(one, other, true))
		note_difference(list, place);
}

static void delete_value(cJSON **value)
{
	cJSON_Delete(*value);
}

static int read_one(const char *text, cJSON **ret_value, struct error *err)
{
	struct json_fault fault;

	if (json_read(text, strlen(text), &json_limits_api, ret_value, &fault) < 0)
		return error_set(err, EINVAL, "%s: %s", fault.pointer, fault.message);
	return 0;
}

int document_diff(const struct field_table *table, const char *one, const char *other,
		  struct arena *arena, const char *const **ret_pointers, size_t *ret_count,
		  struct error *err)
{
	const struct field root = {.type = FIELD_OBJECT, .table = table};
	struct difference_list list = {
		.arena = arena, .pointers = arena_array(arena, const char *, DIFFERENCES_MAX)};
	scoped(delete_value) cJSON *first = NULL;
	scoped(delete_value) cJSON *second = NULL;

	if (read_one(one, &first, err) < 0 || read_one(other, &second, err) < 0)
		return -EINVAL;
	compare(&list, &(const struct place){0}, &root, first, second);
	*ret_pointers = list.pointers;
	*ret_count = list.count;
	return 0;
}
