// SPDX-License-Identifier: Apache-2.0
// The documents of the API. The first byte says which: a kind of object, a task's
// status or an image's configuration. What is good must render to a text that is read again and
// renders to the same bytes.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/model/image_config.h"
#include "agent/model/metadata.h"
#include "agent/model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(const struct buffer *one, const struct buffer *other)
{
	if (one->length != other->length || memcmp(one->data, other->data, one->length) != 0)
		abort();
}

static const struct model_object *lookup_nothing(void *context, enum model_kind kind,
						 const char *id)
{
	(void)context;
	(void)kind;
	(void)id;
	return NULL;
}

static void fuzz_object(enum model_kind kind, const char *text, size_t size)
{
	scoped(arena_release) struct arena arena = {0};
	scoped(buffer_release) struct buffer first = {0};
	scoped(buffer_release) struct buffer second = {0};
	struct fault_list faults = {.arena = &arena};
	struct model_object object;

	if (model_parse(kind, "x-1", text, size, &arena, &object, &faults) < 0) {
		if (faults.count == 0)
			abort();
		model_check_links(&object, lookup_nothing, NULL, &faults);
		model_error_render("InvalidParameter", "", &faults, &first);
		return;
	}
	model_render(&object, MODEL_RENDER_PLAIN, &first);
	if (model_parse(kind, "x-1", first.data, first.length, &arena, &object, &faults) < 0)
		abort();
	model_render(&object, MODEL_RENDER_PLAIN, &second);
	check_same(&first, &second);
	model_check_links(&object, lookup_nothing, NULL, &faults);
	if (kind == MODEL_SECURITY_GROUP)
		security_group_rules("x-1", object.security_group, &arena);
}

static void fuzz_status(const char *text, size_t size)
{
	scoped(arena_release) struct arena arena = {0};
	scoped(buffer_release) struct buffer first = {0};
	scoped(buffer_release) struct buffer second = {0};
	struct task_status status;
	struct error err = {0};

	if (task_status_parse(text, size, &arena, &status, &err) < 0)
		return;
	task_status_render(&status, &first);
	if (task_status_parse(first.data, first.length, &arena, &status, &err) < 0)
		abort();
	task_status_render(&status, &second);
	check_same(&first, &second);
}

static void fuzz_image(const char *text, size_t size)
{
	scoped(arena_release) struct arena arena = {0};
	struct image_config config;
	struct error err = {0};

	if (image_config_parse(text, size, &arena, &config, &err) == 0 &&
	    (!config.user || !config.working_directory || !config.stop_signal))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data + 1;

	if (size == 0)
		return 0;
	if (data[0] >= '0' && data[0] < '0' + MODEL_KIND_COUNT)
		fuzz_object((enum model_kind)(data[0] - '0'), text, size - 1);
	else if (data[0] == 's')
		fuzz_status(text, size - 1);
	else if (data[0] == 'i')
		fuzz_image(text, size - 1);
	return 0;
}
