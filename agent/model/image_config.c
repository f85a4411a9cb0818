// SPDX-License-Identifier: Apache-2.0
// Members and their meaning: OCI image specification 1.1, config.md.
#include "agent/model/image_config.h"

#include <errno.h>

#include "agent/model/fields.h"

enum { LIST_MAX = 128 };

static const struct field text_element = {.type = FIELD_TEXT};

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
