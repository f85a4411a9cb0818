// SPDX-License-Identifier: Apache-2.0
// Where two JSON documents differ.
#include <errno.h>
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

static void compare(struct difference_list *list, const struct place *place, const cJSON *one,
		    const cJSON *other);

static void note_difference(struct difference_list *list, const struct place *place)
{
	if (list->count < DIFFERENCES_MAX)
		list->pointers[list->count++] = place_pointer(list->arena, place);
}

static void compare_objects(struct difference_list *list, const struct place *place,
			    const cJSON *one, const cJSON *other)
{
	const cJSON *member;

	cJSON_ArrayForEach(member, one)
		compare(list, PLACE_MEMBER(place, member->string), member,
			json_member(other, member->string));
	cJSON_ArrayForEach(member, other)
		if (!json_member(one, member->string))
			note_difference(list, PLACE_MEMBER(place, member->string));
}

static void compare_arrays(struct difference_list *list, const struct place *place,
			   const cJSON *one, const cJSON *other)
{
	size_t index = 0;

	for (one = one->child, other = other->child; one && other;
	     one = one->next, other = other->next, index++)
		compare(list, PLACE_INDEX(place, index), one, other);
	for (; one; one = one->next, index++)
		note_difference(list, PLACE_INDEX(place, index));
	for (; other; other = other->next, index++)
		note_difference(list, PLACE_INDEX(place, index));
}

// `other` NULL: missing.
static void compare(struct difference_list *list, const struct place *place, const cJSON *one,
		    const cJSON *other)
{
	if (list->count == DIFFERENCES_MAX)
		return;
	if (other && cJSON_IsObject(one) && cJSON_IsObject(other))
		compare_objects(list, place, one, other);
	else if (other && cJSON_IsArray(one) && cJSON_IsArray(other))
		compare_arrays(list, place, one, other);
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

int model_diff(const char *one, const char *other, struct arena *arena,
	       const char *const **ret_pointers, size_t *ret_count, struct error *err)
{
	struct difference_list list = {
		.arena = arena, .pointers = arena_array(arena, const char *, DIFFERENCES_MAX)};
	scoped(delete_value) cJSON *first = NULL;
	scoped(delete_value) cJSON *second = NULL;

	if (read_one(one, &first, err) < 0 || read_one(other, &second, err) < 0)
		return -EINVAL;
	compare(&list, &(const struct place){0}, first, second);
	*ret_pointers = list.pointers;
	*ret_count = list.count;
	return 0;
}
