// SPDX-License-Identifier: Apache-2.0
// Members and their meaning: OCI image specification 1.1, config.md.
#include "agent/model/image_config.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "agent/base/number.h"
#include "agent/model/fields.h"

enum { LIST_MAX = 128 };

static const struct field text_element = {.type = FIELD_TEXT};

// {"/data": {}, "/var/lib/x/": {}}: a set; what its members hold means nothing.
static void parse_volumes(struct parse *parse, const struct place *place, const struct field *field,
			  const cJSON *value, void *target)
{
	struct image_config *config = target;
	const cJSON *member;

	(void)field;
	if (!value)
		return;
	if (!cJSON_IsObject(value)) {
		parse_fault(parse, place, "must be an object");
		return;
	}
	config->volumes = arena_array(parse->arena, const char *, LIST_MAX);
	cJSON_ArrayForEach(member, value) {
		size_t length = strlen(member->string);

		if (config->volume_count == LIST_MAX) {
			parse_fault(parse, place, "has more than %d members", LIST_MAX);
			return;
		}
		while (length > 1 && member->string[length - 1] == '/')
			length--;
		config->volumes[config->volume_count++] =
			arena_printf(parse->arena, "%.*s", (int)length, member->string);
	}
}

static const struct field config_fields[] = {
	{.name = "Entrypoint",
	 .type = FIELD_LIST,
	 .max = LIST_MAX,
	 .element = &text_element,
	 FIELD_LIST_AT(image_config, entry_point, entry_point_count)},
	{.name = "Cmd",
	 .type = FIELD_LIST,
	 .max = LIST_MAX,
	 .element = &text_element,
	 FIELD_LIST_AT(image_config, command, command_count)},
	{.name = "Env",
	 .type = FIELD_LIST,
	 .max = LIST_MAX,
	 .element = &text_element,
	 FIELD_LIST_AT(image_config, environment, environment_count)},
	{.name = "User", .type = FIELD_TEXT, .text = "", FIELD_AT(image_config, user)},
	{.name = "WorkingDir",
	 .type = FIELD_TEXT,
	 .text = "",
	 FIELD_AT(image_config, working_directory)},
	{.name = "Volumes", .type = FIELD_CUSTOM, .parse = parse_volumes},
	{.name = "StopSignal",
	 .type = FIELD_TEXT,
	 .text = "SIGTERM",
	 FIELD_AT(image_config, stop_signal)},
};
static const struct field_table config_table = {FIELD_TABLE(image_config, config_fields),
						.open = true};

static const struct field image_fields[] = {
	{.name = "config", .type = FIELD_OBJECT, .table = &config_table},
};
static const struct field_table image_table = {FIELD_TABLE(image_config, image_fields),
					       .open = true};

bool image_config_has_volume(const struct image_config *config, const char *path)
{
	for (uint32_t i = 0; i < config->volume_count; i++)
		if (strcmp(config->volumes[i], path) == 0)
			return true;
	return false;
}

int image_config_stop_signal(const struct image_config *config)
{
	static const char prefix[] = "SIG", real_time[] = "RTMIN+";
	const char *name = config->stop_signal;
	uint32_t number;

	if (parse_u32(name, (uint32_t)SIGRTMAX, &number) == 0 && number > 0)
		return (int)number;
	if (strncasecmp(name, prefix, strlen(prefix)) == 0)
		name += strlen(prefix);
	if (strncasecmp(name, real_time, strlen(real_time)) == 0 &&
	    parse_u32(name + strlen(real_time), (uint32_t)(SIGRTMAX - SIGRTMIN), &number) == 0)
		return SIGRTMIN + (int)number;
	for (int i = 1; i < SIGRTMIN; i++)
		if (sigabbrev_np(i) && strcasecmp(name, sigabbrev_np(i)) == 0)
			return i;
	return SIGTERM;
}

void image_config_default(struct image_config *ret_config)
{
	*ret_config = (struct image_config){
		.user = "", .working_directory = "", .stop_signal = "SIGTERM"};
}

int image_config_parse(const char *text, size_t length, struct arena *arena,
		       struct image_config *ret_config, struct error *err)
{
	return document_parse(&image_table, text, length, arena, ret_config, err);
}
