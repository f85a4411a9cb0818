// SPDX-License-Identifier: Apache-2.0
#include "agent/ctl/changes.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"

enum { VALUE_LENGTH_MAX = 60, PATHS_MAX = 6 };

// Shown in columns of their own, or with every change.
static const char *const unmentioned[] = {
	"revision",       "changedAt",       "status.lastStatus", "status.stoppedReason",
	"status.version", "status.progress", "status.error",      "status.bootTimes",
};

static bool is_mentioned(const char *path)
{
	for (size_t i = 0; i < ARRAY_LENGTH(unmentioned); i++)
		if (strcmp(unmentioned[i], path) == 0)
			return false;
	return true;
}

struct differences {
	struct buffer *text;
	unsigned count;
};

static void difference_add(struct differences *differences, const char *path, const cJSON *now)
{
	const char *value =
		now && !cJSON_IsObject(now) && !cJSON_IsArray(now) ? member_text(now, "") : NULL;

	if (++differences->count > PATHS_MAX + 1)
		return;
	if (differences->count > PATHS_MAX) {
		buffer_adds(differences->text, ", ...");
		return;
	}
	buffer_addf(differences->text, "%s%s", differences->text->length ? ", " : "", path);
	if (!now)
		buffer_adds(differences->text, " gone");
	else if (value && strlen(value) <= VALUE_LENGTH_MAX)
		buffer_addf(differences->text, "=%s", value);
}

// Objects are entered; all else, lists too, is one value. Either side may be missing.
static void differences_find(struct differences *differences, const char *path, const cJSON *before,
			     const cJSON *now)
{
	const cJSON *member;

	if (!is_mentioned(path) || (before && now && cJSON_Compare(before, now, true)))
		return;
	if (!cJSON_IsObject(before) || !cJSON_IsObject(now)) {
		difference_add(differences, path, now);
		return;
	}
	cJSON_ArrayForEach(member, now) {
		scoped(buffer_release) struct buffer inner = {0};

		buffer_addf(&inner, "%s%s%s", path, *path ? "." : "", member->string);
		differences_find(differences, buffer_text(&inner),
				 cJSON_GetObjectItemCaseSensitive(before, member->string), member);
	}
	cJSON_ArrayForEach(member, before) {
		scoped(buffer_release) struct buffer inner = {0};

		buffer_addf(&inner, "%s%s%s", path, *path ? "." : "", member->string);
		if (!cJSON_GetObjectItemCaseSensitive(now, member->string))
			differences_find(differences, buffer_text(&inner), member, NULL);
	}
}

static bool is_same_object(const cJSON *one, const cJSON *other)
{
	return strcmp(member_text(one, "id"), member_text(other, "id")) == 0 &&
	       strcmp(member_text(one, "kind"), member_text(other, "kind")) == 0;
}

void changes_take(struct changes *changes, const cJSON *object, struct buffer *text)
{
	struct differences differences = {.text = text};
	size_t place = 0;

	while (place < changes->count && !is_same_object(changes->objects[place], object))
		place++;
	if (place < changes->count) {
		differences_find(&differences, "", changes->objects[place], object);
		cJSON_Delete(changes->objects[place]);
	} else {
		changes->objects =
			reallocarray(changes->objects, place + 1, sizeof(*changes->objects));
		if (!changes->objects)
			abort(); // out of memory, as everywhere
		changes->count++;
	}
	changes->objects[place] = cJSON_Duplicate(object, true);
}

void changes_release(struct changes *changes)
{
	for (size_t i = 0; i < changes->count; i++)
		cJSON_Delete(changes->objects[i]);
	free(changes->objects);
	*changes = (struct changes){0};
}
